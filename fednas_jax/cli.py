"""The command `fednas-jax`, with a subcommand for each module that is a command."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fednas_jax.runtime import console, environment, start
from fednas_jax.runtime.command_line import HELP_FLAGS
from fednas_jax.runtime.errors import suggest_of_few
from fednas_jax.runtime.version import __version__

PROGRAM = "fednas-jax"


class Command(NamedTuple):
    """A subcommand."""

    module: str
    """Module whose `main(arguments, program, **options)` it calls; like `python -m module`."""
    about: str
    computes: bool = False
    """Whether it computes, so that the settings of `environment.prepare` make it faster."""
    options: Mapping[str, Any] = {}
    needs_jax: bool = False
    """Whether importing the module imports JAX, which may fail."""


COMMANDS = {
    "search": Command(
        "fednas_jax.main", "search an architecture as a config describes", True,
        {"kind": "search"},
    ),
    "train": Command(
        "fednas_jax.main", "train a network as a config describes", True, {"kind": "train"}
    ),
    "compare": Command("fednas_jax.compare", "train several networks on the same clients", True),
    "sweep": Command("fednas_jax.sweep", "run all combinations of several settings", True),
    "evaluate": Command("fednas_jax.evaluate", "score a checkpoint on labelled images", True),
    "export": Command(
        "fednas_jax.export", "write a model for other programs", True, needs_jax=True
    ),
    "report": Command(
        "fednas_jax.report.page", "write the page of one or several runs", needs_jax=True
    ),
    "config": Command("fednas_jax.config", "list the fields of a config"),
    "environment": Command("fednas_jax.runtime.environment", "list what is set before JAX starts"),
    "doctor": Command("fednas_jax.doctor", "report what this machine has and lacks"),
}  # fmt: skip


@console.tolerant()
def main(argv: Sequence[str] | None = None, program: str = PROGRAM) -> int:
    """Runs a subcommand.

    Args:
      argv: the arguments, without the program's name; None for those of this process.
      program: name of this command in its help.

    Returns:
      The exit code of the subcommand; 0 if help or the version is shown; 2 for bad input.
    """
    name, *rest = (sys.argv[1:] if argv is None else argv) or [""]
    if name in HELP_FLAGS:
        print(_help(program))
        return 0
    if name in ("-V", "--version"):
        print(f"fednas_jax {__version__}")
        return 0
    command = COMMANDS.get(name)
    if command is None:
        wrong = f"{name}: no such command{suggest_of_few(name, COMMANDS)}"
        missing = f"COMMAND: missing; one of {', '.join(COMMANDS)} is needed, see --help"
        print(f"fednas_jax: error: {wrong if name else missing}", file=sys.stderr)
        return 2
    if command.computes:  # comes before other imports, since it may restart the process
        environment.prepare("fednas_jax", script=PROGRAM)
    if command.needs_jax:
        start.import_jax_or_exit()
    run = importlib.import_module(command.module).main
    code: int = run(rest, program=f"{program} {name}", **command.options)
    return code


def _help(program: str) -> str:
    width = max(map(len, COMMANDS))
    lines = (f"  {name:<{width}}  {command.about}" for name, command in COMMANDS.items())
    return "\n".join(
        (
            "Federated neural architecture search in JAX.",
            "",
            f"  {program} COMMAND [ARGUMENT ...]",
            f"  {program} COMMAND --help",
            f"  {program} --version",
            "",
            *lines,
            "",
            "Exit codes: 0 done, 2 bad input; each command's --help has its own. Example:",
            "",
            f"  {program} search --config=digits_quick --config.rounds=3",
        )
    )
