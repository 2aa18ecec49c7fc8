"""The command line: `python -m fednas_jax.main --config=FILE[:variant] [--workdir=DIR]`."""

import contextlib
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from fednas_jax.runtime import environment

if __name__ == "__main__":
    environment.prepare("fednas_jax.main")  # may start the process anew, so before other imports

from fednas_jax import config as schema
from fednas_jax.algorithms import registry, unknown_fields
from fednas_jax.experiment import stages
from fednas_jax.fields import config_file
from fednas_jax.runtime import console, start
from fednas_jax.runtime.command_line import HELP_FLAGS, guarded, options
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.paths import expand

Kind: TypeAlias = Literal["", "search", "train"]
"""What the config must do; "" where it may do either."""

_ABOUT: dict[Kind, str] = {
    "": "Searches or trains a network with federated clients, as a config describes.",
    "search": "Searches an architecture with federated clients, and trains its network afterwards\n"
    "where the config says so.",
    "train": "Trains a network with federated clients, without a search.",
}

HELP = """{about}

  {program} --config=CONFIG[:variant] [--workdir=DIR] [--config.FIELD=VALUE ...]

  --config          a config file, or the name of one that comes with the package, with a variant
                    of it after a colon; names:
{names}
  --workdir         where results go; runs/<name of the config>[-<variant>] if not given
  --config.FIELD    sets a field of the config, such as --config.optimizer.learning_rate=0.05;
                    --config.then_train.FIELD one of the training that follows a search; seed,
                    dataset and partition are set for both unless set there

The same command resumes an interrupted run. Exit codes: 0 done, 2 bad input,
3 another rank was lost, 130 interrupted by Ctrl-C, 143 by SIGTERM. Several processes that mpirun
starts share the work, see scripts/launch_mpi.sh. Example:

  {program} --config={example} --config.rounds=3

Fields, with their defaults:
"""
_MISSING = "--config: missing; the name of a config or its file is needed, such as digits_quick"


@console.tolerant()
def main(argv: Sequence[str], program: str = "python -m fednas_jax.main", kind: Kind = "") -> int:
    """Runs one experiment.

    Args:
      argv: the arguments, without the program's name.
      program: how help names this command.
      kind: what the config must do.

    Returns:
      The exit code: 0 done (or help shown), 2 bad input, 130 or 143 interrupted.
    """
    if any(argument in HELP_FLAGS for argument in argv):
        print(_help(argv, program, kind))
        return 0
    return guarded(lambda: _run(argv, kind), "the same command resumes the run")


def _help(argv: Sequence[str], program: str, kind: Kind) -> str:
    """The help; with `--config=FILE` beside it, of the fields that this config has."""
    names = textwrap.fill(", ".join(config_file.names()), 78, break_on_hyphens=False)
    text = HELP.format(
        about=_ABOUT[kind],
        program=program,
        names=textwrap.indent(names, " " * 20),
        example="digits_train" if kind == "train" else "digits_quick",
    )
    known = schema.FIELDS
    with contextlib.suppress(UserError):  # help is shown beside whatever else
        rest = [argument for argument in argv if argument not in HELP_FLAGS]
        flags, overrides = options(rest, {"config": "", "workdir": ""})
        config = config_file.load(flags["config"]) if flags["config"] else {}
        known = schema.fields_of(config, overrides)
    fields = (f"  {f.name}={f.default}\n      {f.meaning}" for f in known)
    return text + "\n".join(fields)


def _run(argv: Sequence[str], kind: Kind) -> None:
    if not environment.of_several_ranks(os.environ):
        planned, workdir = _parse(argv, kind)  # before jax is imported
        print(f"fednas_jax: workdir {workdir}", flush=True)
        stages.run(planned, workdir)
        _suggest(planned, workdir)
        return
    start.import_jax()
    from fednas_jax.federated.ranks import communicator as communicators
    from fednas_jax.federated.ranks import launch

    communicator = launch.start()
    with communicators.one_for_all(communicator):
        planned, workdir = _parse(argv, kind)
        if communicator.rank == 0:
            print(f"fednas_jax: workdir {workdir}", flush=True)
        stages.run(planned, workdir, communicator)
        if communicator.rank == 0:
            _suggest(planned, workdir)


def _suggest(planned: stages.Stages, workdir: Path) -> None:
    """Prints what to do next, once all stages are finished; nothing if a record is damaged."""
    from fednas_jax.experiment import next_steps  # not above: it imports jax

    if (planned.train or planned.first)["report"]["progress"]:
        with contextlib.suppress(UserError):
            next_steps.tell(next_steps.of_run(workdir))


def _parse(argv: Sequence[str], kind: Kind = "") -> tuple[stages.Stages, Path]:
    given, fields = options(argv, {"config": "", "workdir": ""}, unknown_fields.flag_meant(argv))
    if not given["config"]:
        raise UserError(_MISSING)
    planned = stages.resolve(config_file.load(given["config"]), fields)
    _check_kind(planned, kind, given["config"])
    path, variant = config_file.split(given["config"])
    default = Path("runs") / "-".join(filter(None, (path.stem, variant)))
    return planned, expand(given["workdir"] or str(default), "--workdir")


def _check_kind(planned: stages.Stages, kind: Kind, spec: str) -> None:
    """Refuses a config for which another subcommand is right.

    Raises:
      UserError: it does not do what `kind` says; a search with a training after it is a search.
    """
    searches = registry.find(planned.first["algorithm"]).finds is not None
    if not kind or searches == (kind == "search"):
        return
    does = "trains a network without a search"
    if searches:
        does = "searches an architecture" + (
            " and then trains its network" if planned.train else ""
        )
    right = "search" if searches else "train"
    raise UserError(f"--config: {spec} {does}; `fednas-jax {right}` is needed")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
