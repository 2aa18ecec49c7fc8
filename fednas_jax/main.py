"""The command line: `python -m fednas_jax.main --config=FILE[:variant] [--workdir=DIR]`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fednas_jax import environment

if __name__ == "__main__":
    environment.prepare("fednas_jax.main")  # may start the process anew, so before other imports

from fednas_jax import config as schema
from fednas_jax import config_file, stages
from fednas_jax.command_line import HELP_FLAGS, guarded, options
from fednas_jax.errors import UserError
from fednas_jax.paths import expand
from fednas_jax.runtime import console, start

HELP = """Searches or trains a network with federated clients, as a config file describes.

  python -m fednas_jax.main --config=FILE[:variant] [--workdir=DIR] [--config.FIELD=VALUE ...]

  --config          a file under configs/, with a variant of it after a colon
  --workdir         where results go; runs/<name of the file>[-<variant>] if not given
  --config.FIELD    sets a field of the config, such as --config.optimizer.learning_rate=0.05;
                    --config.then_train.FIELD one of the training that follows a search; seed,
                    dataset and partition are set for both unless set there

The same command again goes on with an interrupted run. Exit codes: 0 done, 2 bad input,
3 another rank was lost, 130 interrupted by Ctrl-C, 143 by SIGTERM. Several processes that mpirun
starts share the work, see scripts/launch_mpi.sh. Example:

  python -m fednas_jax.main --config=configs/digits_quick.py --config.rounds=3

Fields, with their defaults:
"""


@console.tolerant()
def main(argv: Sequence[str]) -> int:
    """Runs one experiment.

    Args:
      argv: the arguments, without the program's name.

    Returns:
      The exit code: 0 done (or help shown), 2 bad input, 130 or 143 interrupted.
    """
    if any(argument in HELP_FLAGS for argument in argv):
        print(HELP + "\n".join(f"  {f.name}={f.default}\n      {f.meaning}" for f in schema.FIELDS))
        return 0
    return guarded(lambda: _run(argv), "the same command goes on with the run")


def _run(argv: Sequence[str]) -> None:
    if not environment.of_several_ranks(os.environ):
        planned, workdir = _parse(argv)  # before jax is imported
        print(f"fednas_jax: workdir {workdir}", flush=True)
        stages.run(planned, workdir)
        return
    start.import_jax()
    from fednas_jax.federated import communicator as communicators

    communicator = communicators.start()
    with communicators.one_for_all(communicator):
        planned, workdir = _parse(argv)
        if communicator.rank == 0:
            print(f"fednas_jax: workdir {workdir}", flush=True)
        stages.run(planned, workdir, communicator)


def _parse(argv: Sequence[str]) -> tuple[stages.Stages, Path]:
    given, fields = options(argv, {"config": "", "workdir": ""})
    if not given["config"]:
        raise UserError("--config: missing; a config file is needed, such as configs/x.py:quick")
    planned = stages.resolve(config_file.load(given["config"]), fields)
    path, variant = config_file.split(given["config"])
    default = Path("runs") / "-".join(filter(None, (path.stem, variant)))
    return planned, expand(given["workdir"] or str(default), "--workdir")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
