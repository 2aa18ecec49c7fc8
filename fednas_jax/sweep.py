"""Runs for all combinations of several settings: `python -m fednas_jax.sweep`.

McMahan et al. (2017) judge FedAvg by the number of rounds to a target accuracy on the test set;
`report/targets.py` explains how it is counted.
"""

import itertools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from fednas_jax.runtime import environment

if __name__ == "__main__":
    environment.prepare("fednas_jax.sweep")  # before other imports: it may restart the process

from fednas_jax import config as schema
from fednas_jax.fields import config_file, extension
from fednas_jax.runtime import console, start
from fednas_jax.runtime.command_line import HELP_FLAGS, guarded, options
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.paths import expand

HELP = """Runs all combinations of several settings, and counts the rounds to a target accuracy.

  {program} --config=CONFIG[:variant,...] --workdir=DIR [--config.FIELD=VALUE,...]

  --config          a config file, or the name of one that comes with the package; several
                    variants of it are separated by commas, * stands for all
  --workdir         folder that will contain a folder for each run
  --config.FIELD    sets a field, as for a single run; several values are separated by
                    commas, so that a value, such as a path, cannot contain a comma
  --target          accuracies on the test set, separated by commas; 0.99 if not given

Runs that are finished are not repeated, and an interrupted run is resumed. After each run, these
files are written into the workdir: sweep.json (settings, curves, rounds to each target), table.md,
curves.png. Exit codes: 0 done, 2 bad input or a run that failed, 130 interrupted by
Ctrl-C, 143 by SIGTERM. Example:

  {program} --config=mnist_fedavg:quick --workdir=runs/sweep \\
    --config.optimizer.learning_rate=0.05,0.1,0.2 --target=0.9
"""


@console.tolerant()
def main(argv: Sequence[str], program: str = "python -m fednas_jax.sweep") -> int:
    """Runs a sweep.

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
    return guarded(lambda: _run(argv), "the same command resumes the sweep")


def _run(argv: Sequence[str]) -> None:
    flags = {"config": "", "workdir": "", "target": "0.99"}
    given, fields = options(argv, flags, schema.flag_meant)
    for name in ("config", "workdir"):
        if not given[name]:
            raise UserError(f"--{name}: missing; see --help")
    targets = _targets(given["target"])
    combined = combinations(given["config"], fields)
    workdir = expand(given["workdir"], "--workdir")
    # Imported here because they import JAX, and bad arguments should fail before that.
    start.import_jax()
    from fednas_jax.experiment import next_steps
    from fednas_jax.runtime import extras, layout, settings
    from fednas_jax.studies import sweep_results
    from fednas_jax.studies.runs import Planned, run_all

    planned = [Planned(name, config) for name, config in combined.items()]
    outcomes = []
    with settings.fixed():
        for outcome in run_all(planned, workdir):
            outcomes.append(outcome)
            sweep_results.write(outcomes, targets, workdir)
    told = (workdir / sweep_results.TABLE).read_text(encoding="utf-8")
    print(f"\n{told}\nFiles in {workdir}: {sweep_results.files()}")
    finished = [layout.of_rounds(outcome.folder) for outcome in outcomes if not outcome.error]
    picture, table = sweep_results.PICTURE, sweep_results.TABLE
    next_steps.tell(next_steps.of_study(finished, workdir, picture=picture, table=table))
    if lacking := extras.left_out("curves"):
        print(f"fednas_jax: {lacking}", file=sys.stderr)
    if failed := [outcome.planned.name for outcome in outcomes if outcome.error]:
        raise UserError(f"{len(failed)} of {len(outcomes)} runs failed: {', '.join(failed)}")


def combinations(spec: str, fields: Mapping[str, str]) -> dict[str, Any]:
    """The resolved config of every combination, by a name made of the values that differ.

    Args:
      spec: a config file, as for `config_file.expand_variants`.
      fields: field -> values as text, separated by commas; those of fields which hold several
        names with commas between, such as `transforms`, separated by semicolons.

    Raises:
      UserError: a config is not usable, or two configs are the same.
    """
    specs = config_file.expand_variants(spec)
    values = {
        field: _separated(text, ";" if field in extension.SEVERAL else ",")
        for field, text in fields.items()
    }
    varied = [field for field, several in values.items() if len(several) > 1]
    combined: dict[str, Any] = {}
    for one, *chosen in itertools.product(specs, *values.values()):
        settings = dict(zip(values, chosen, strict=True))
        path, variant = config_file.split(one)
        stem = (variant or path.stem) if len(specs) > 1 or not varied else ""
        parts = [stem, *(f"{field}={settings[field]}" for field in varied)]
        name = "-".join(filter(None, parts)).replace("/", "_")
        if name in combined:
            raise UserError(f"{name}: occurs twice; different values in each list are needed")
        combined[name] = schema.resolve(config_file.load(one), settings)
    return combined


def _separated(text: str, by: str) -> list[str]:
    """The parts of a text; inside brackets, as of `Genotype(normal=[...], ...)`, nothing separates.

    Where brackets do not match, every separator separates.
    """
    parts, depth = [""], 0
    for character in text:
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(character, 0)
        if character == by and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts if depth == 0 else text.split(by)


def _targets(text: str) -> list[float]:
    try:
        targets = [float(part) for part in text.split(",")]
    except ValueError:
        targets = []
    if not targets or not all(0 < target <= 1 for target in targets):
        raise UserError(
            f"--target: {text!r} is not usable; accuracies above 0, at most 1, are needed, "
            "such as 0.97,0.99"
        )
    return targets


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
