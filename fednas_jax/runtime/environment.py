"""Environment variables that make runs faster, set by the command line before JAX starts.

These variables are read when a process starts. Therefore `fednas-jax` and `python -m
fednas_jax.main` set those that are missing and execute themselves once more. Variables that the
user has set are not changed. FEDNAS_JAX_ENVIRONMENT=off sets nothing, including what importing the
package sets for some releases of jaxlib (`runtime/releases.py`), and leaves stderr as it is. A
notebook is never executed again: set the variables before it starts. `python -m
fednas_jax.runtime.environment` lists them.
"""

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fednas_jax.runtime import slow_compile_box

SWITCH = "FEDNAS_JAX_ENVIRONMENT"
"""Set to `off` by the user, or to `done` for the second execution, so that there is no third."""

_RANKS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables with the number of ranks: of Open MPI, of MPICH and its relatives, of SLURM's srun."""

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


class Setting(NamedTuple):
    """One tunable in a variable that may hold several, separated by colons."""

    variable: str
    name: str
    value: str
    why: str
    objection: str
    """Why this machine does not gain from it; "" where it does."""


def settings(environment: Mapping[str, str]) -> list[Setting]:
    """The settings for an environment such as `os.environ`.

    Measured together with these, the other tunables of glibc gain nothing: a round computes its
    local steps in one call, which allocates its memory once. `trim_threshold` alone costs 20 %.
    """
    why = (
        "huge pages for large arrays: 350,000 fewer page faults in a call at the paper's sizes, "
        "0 to 30 % of a local step"
    )
    objection = _objection_to_huge_pages(environment)
    return [Setting("GLIBC_TUNABLES", "glibc.malloc.hugetlb", "1", why, objection)]


def missing(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables to set, with their values: those that help and that the user has not set."""
    if environment.get(SWITCH):
        return {}
    found: dict[str, str] = {}
    for setting in settings(environment):
        if setting.objection or chosen(setting, environment) is not None:
            continue
        before = found.get(setting.variable, environment.get(setting.variable, ""))
        found[setting.variable] = ":".join(filter(None, (before, _pair(setting))))
    return found


def chosen(setting: Setting, environment: Mapping[str, str]) -> str | None:
    """The value of a setting in the environment; None where it is not set."""
    for part in environment.get(setting.variable, "").split(":"):
        name, equals, value = part.partition("=")
        if equals and name == setting.name:
            return value
    return None


def of_several_ranks(environment: Mapping[str, str]) -> bool:
    """Whether this process is one of several that a launcher of MPI has started."""
    sizes = [environment.get(name, "") for name in _RANKS]
    if "PMIX_RANK" in environment:  # SLURM's srun --mpi=pmix sets none of the others
        sizes.append(environment.get("SLURM_STEP_NUM_TASKS", ""))
    return any(size.isdecimal() and int(size) > 1 for size in sizes)


def prepare(module: str, script: str = "") -> None:
    """Sets missing variables and restarts the program; returns if nothing is missing.

    It then leaves XLA's box "Very slow compile?" out of stderr (`runtime/slow_compile_box.py`).
    The process keeps its id, terminal and working folder. It must be called before slow imports.

    Args:
      module: the module that runs as the program, by `python -m module`. If the process was started
        in another way, such as by a debugger, a launcher in Python or a test, nothing is done,
        since the way to restart it is unknown.
      script: the name of the console command that runs the module; "" for none.
    """
    if not _runs_as(sys.orig_argv, module, script):
        return
    found = missing(os.environ)
    if not found:
        if os.environ.get(SWITCH) != "off" and os.name == "posix":
            slow_compile_box.install()
        return
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None where it is closed
        stream.flush()
    # sys.executable, since "python" on the path might be outside of the virtual environment.
    command = [sys.executable, *sys.orig_argv[1:]]
    os.execve(sys.executable, command, {**os.environ, **found, SWITCH: "done"})


def table(environment: Mapping[str, str]) -> str:
    """The settings as Markdown: their value by the command line, present value, and effect."""
    lines = [
        "| variable | set by the command line | now | in effect | why |",
        "| --- | --- | --- | --- | --- |",
    ]
    for setting in settings(environment):
        now = environment.get(setting.variable, "")
        cells = (setting.variable, _pair(setting), now, _effect(setting, environment), setting.why)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _pair(setting: Setting) -> str:
    return f"{setting.name}={setting.value}"


def _effect(setting: Setting, environment: Mapping[str, str]) -> str:
    value = chosen(setting, environment)
    if value is not None:
        return "yes" if value == setting.value else "no: you have set another value"
    if setting.objection:
        return f"no: {setting.objection}"
    if environment.get(SWITCH):
        return f"no: {SWITCH}={environment[SWITCH]}"
    return "in runs by the command line"


def _runs_as(arguments: Sequence[str], module: str, script: str) -> bool:
    """Whether the interpreter was started with `-m module` or the script, after its own options."""
    before = list(arguments[1:])
    while before:
        argument = before.pop(0)
        if argument == "-m":
            return before[:1] == [module]
        if argument in ("-X", "-W"):
            before = before[1:]
        elif argument == "-c":
            return False
        elif not argument.startswith("-"):
            return bool(script) and Path(argument).name == script
    return False


def _objection_to_huge_pages(environment: Mapping[str, str]) -> str:
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(map(int, version.split(".")[:2])) < (2, 35):
        return "needs Linux with glibc 2.35 or later"
    try:
        offered = HUGE_PAGES.read_text()
    except OSError:
        offered = ""
    # With 'always' the kernel uses huge pages anyway, and with 'never' it does not allow them.
    if "[madvise]" not in offered:
        return f"{HUGE_PAGES} is not at 'madvise'"
    platforms = environment.get("JAX_PLATFORMS", "")
    if platforms and "cpu" not in platforms.split(","):
        return f"useful only on a CPU, and JAX_PLATFORMS={platforms}"
    return ""


def main(argv: Sequence[str], program: str = "python -m fednas_jax.runtime.environment") -> int:
    """Prints the settings; returns the exit code: 0 done, 2 bad input."""
    from fednas_jax.runtime import releases
    from fednas_jax.runtime.command_line import (
        listing,  # here, since `prepare` comes before other imports
    )

    about = f"Lists what the command line sets before JAX starts.\n\n  {program}\n"
    parts = (
        table(os.environ),
        releases.settings_listed(releases.installed()),
        f"{SWITCH}=off: nothing of this is set.",
    )
    text = "\n\n".join(filter(None, parts))
    return listing(argv, about, text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
