"""Compares networks trained on the same clients: `python -m fednas_jax.compare`.

Searched, random and published genotypes and hand-designed networks are trained on the same clients,
for the same number of rounds, with the same seeds.
"""

import sys
from collections.abc import Callable, Sequence

from fednas_jax.runtime import environment

if __name__ == "__main__":
    environment.prepare("fednas_jax.compare")  # before other imports: it may restart the process

from fednas_jax.algorithms import unknown_fields
from fednas_jax.fields import words
from fednas_jax.runtime import console, start
from fednas_jax.runtime.command_line import HELP_FLAGS, guarded, options
from fednas_jax.runtime.errors import UserError, plain
from fednas_jax.runtime.paths import expand
from fednas_jax.studies import comparison
from fednas_jax.studies.comparison import BY_HAND, RANDOM

HELP = f"""Trains several networks on the same clients with the same seeds, and writes a table.

  {{program}} --config=CONFIG[:variant] --networks=A,B,... --workdir=DIR
      [--seeds=0,1,2] [--search=CONFIG[:variant]] [--config.FIELD=VALUE ...]

  --config          a config file that trains networks, or the name of one that comes with the
                    package; only its network is changed
  --networks        any of {", ".join(BY_HAND)};
                    your own, as path/to/file.py:Name; the name or file of a genotype;
                    {RANDOM}: a different genotype for each seed
  --workdir         folder that will contain a folder for each run
  --seeds           each network is trained once with each seed; 0,1,2 if not given
  --search          a config that searches: the genotype found with each seed is compared too
  --config.FIELD    sets a field of --config, as for a single run; fields that determine the
                    clients (dataset, partition, client.held_out_fraction) are set in --search too

Runs that are finished are not repeated, and an interrupted run is resumed. After each run, these
files are written into the workdir: comparison.json, comparison.md, and configs/ with the config of
every row. Exit codes: 0 done, 2 bad input or a run that failed, 130 interrupted by Ctrl-C, 143 by
SIGTERM. Example:

  {{program}} --config=mnist_fedavg:quick --networks=2nn,cnn \\
    --workdir=runs/comparison --seeds=0,1
"""


@console.tolerant()
def main(argv: Sequence[str], program: str = "python -m fednas_jax.compare") -> int:
    """Runs a comparison.

    Args:
      argv: the arguments, without the program's name.
      program: name of this command in its help.

    Returns:
      The exit code: 0 done (or help shown), 2 bad input or a run that failed, 130 or 143
      interrupted.
    """
    if any(argument in HELP_FLAGS for argument in argv):
        print(HELP.format(program=program), end="")
        return 0
    return guarded(lambda: _run(argv), "the same command resumes the comparison")


def _run(argv: Sequence[str]) -> None:
    flags = {"config": "", "networks": "", "workdir": "", "seeds": "0,1,2", "search": ""}
    given, fields = options(argv, flags, _flag_meant(argv))
    for name in ("config", "networks", "workdir"):
        if not given[name]:
            raise UserError(f"--{name}: missing; see --help")
    names, seeds = _distinct("networks", given["networks"]), _seeds(given["seeds"])
    workdir = expand(given["workdir"], "--workdir")
    plan = comparison.plan(given["config"], fields, given["search"], names, seeds, workdir)
    # Imported here because it imports JAX, and bad arguments should fail before that.
    start.import_jax()
    from fednas_jax.studies import comparison_results

    if failed := comparison_results.make(plan, workdir):
        raise UserError(f"{len(failed)} runs failed: {', '.join(failed)}")


def _flag_meant(argv: Sequence[str]) -> Callable[[str], str]:
    """As `unknown_fields.flag_meant`, for a command that sets the network itself."""
    of_field = unknown_fields.flag_meant(argv)

    def meant(name: str) -> str:
        return (
            "did you mean --networks?" if plain(name) in words.FLAG_OF_NETWORKS else of_field(name)
        )

    return meant


def _distinct(flag: str, text: str) -> list[str]:
    values = text.split(",")
    if not all(values) or len(set(values)) < len(values):
        raise UserError(
            f"--{flag}: {text!r} is not usable; different names, separated by commas, are needed"
        )
    return values


def _seeds(text: str) -> list[int]:
    try:
        return [int(seed) for seed in _distinct("seeds", text)]
    except ValueError as error:
        raise UserError(
            f"--seeds: {text!r} is not usable; whole numbers, such as 0,1,2, are needed"
        ) from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
