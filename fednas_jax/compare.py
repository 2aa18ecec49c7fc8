"""Networks side by side, trained on the same clients: `python -m fednas_jax.compare`.

Searched and random genotypes, published ones, and networks made by hand all get the same clients,
the same rounds and the same seeds.
"""

import sys
from collections.abc import Sequence

from fednas_jax import environment

if __name__ == "__main__":
    environment.prepare("fednas_jax.compare")  # may start the process anew: before other imports

from fednas_jax import comparison
from fednas_jax.command_line import HELP_FLAGS, guarded, options
from fednas_jax.comparison import BY_HAND, RANDOM
from fednas_jax.errors import UserError
from fednas_jax.paths import expand
from fednas_jax.runtime import console, start

HELP = f"""Trains several networks on the same clients, with the same budget and seeds: a table.

  {{program}} --config=CONFIG[:variant] --networks=A,B,... --workdir=DIR
      [--seeds=0,1,2] [--search=CONFIG[:variant]] [--config.FIELD=VALUE ...]

  --config          a config file, or the name of one that comes with the package, which trains
                    by fedavg; only its network changes
  --networks        any of {", ".join(BY_HAND)};
                    your own, as path/to/file.py:Name; the name or the file of a genotype;
                    {RANDOM}: another genotype for each seed
  --workdir         each run gets a folder in there
  --seeds           each network is trained once with each; 0,1,2 if not given
  --search          a config that searches: its genotype, of each seed, is compared too
  --config.FIELD    sets a field of --config, as for a single run; where it says which clients
                    there are (dataset, partition, client.held_out_fraction), of --search too

Runs that are done already are not made again, an interrupted one goes on where it was. Written into
the workdir, anew after each run: comparison.json, comparison.md, and configs/, the config of every
row. Exit codes: 0 done, 2 bad input or a run that failed, 130 interrupted by Ctrl-C, 143 by
SIGTERM. Example:

  {{program}} --config=mnist_fedavg:quick --networks=2nn,cnn \\
    --workdir=runs/comparison --seeds=0,1
"""


@console.tolerant()
def main(argv: Sequence[str], program: str = "python -m fednas_jax.compare") -> int:
    """Makes a comparison.

    Args:
      argv: the arguments, without the program's name.
      program: how help names this command.

    Returns:
      The exit code: 0 done (or help shown), 2 bad input or a run that failed, 130 or 143
      interrupted.
    """
    if any(argument in HELP_FLAGS for argument in argv):
        print(HELP.format(program=program), end="")
        return 0
    return guarded(lambda: _run(argv), "the same command goes on with the comparison")


def _run(argv: Sequence[str]) -> None:
    flags = {"config": "", "networks": "", "workdir": "", "seeds": "0,1,2", "search": ""}
    given, fields = options(argv, flags)
    for name in ("config", "networks", "workdir"):
        if not given[name]:
            raise UserError(f"--{name}: missing; see --help")
    names, seeds = _distinct("networks", given["networks"]), _seeds(given["seeds"])
    workdir = expand(given["workdir"], "--workdir")
    plan = comparison.plan(given["config"], fields, given["search"], names, seeds, workdir)
    # Here, not above: it imports jax, and bad arguments should fail at once.
    start.import_jax()
    from fednas_jax import comparison_results

    if failed := comparison_results.make(plan, workdir):
        raise UserError(f"{len(failed)} runs failed: {', '.join(failed)}")


def _distinct(flag: str, text: str) -> list[str]:
    values = text.split(",")
    if not all(values) or len(set(values)) < len(values):
        raise UserError(f"--{flag}: {text!r} is not usable; names with commas between, each once")
    return values


def _seeds(text: str) -> list[int]:
    try:
        return [int(seed) for seed in _distinct("seeds", text)]
    except ValueError as error:
        raise UserError(f"--seeds: {text!r} is not usable; whole numbers, such as 0,1,2") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
