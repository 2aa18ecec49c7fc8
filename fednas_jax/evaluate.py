"""Scores a checkpoint: `python -m fednas_jax.evaluate DIR [--dataset=NAME | --npz=PATH]`."""

import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fednas_jax.runtime import environment

if __name__ == "__main__":
    environment.prepare("fednas_jax.evaluate")  # before other imports: it may restart the process

from fednas_jax.fields import words
from fednas_jax.runtime import console, start
from fednas_jax.runtime.command_line import HELP_FLAGS, guarded, one_folder, out_folder, round_of
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import make_folder, read_json, write_json

if TYPE_CHECKING:
    from fednas_jax.experiment.scored import Measured

_MOST_CLIENTS = 20
"""Maximum number of clients whose accuracies are printed."""

RESULTS, PICTURE = "evaluation.json", "confusion.png"

HELP = """Evaluates the model of a checkpoint on labelled images: its accuracy, also for each class
and each client, and its confusion matrix.

  {program} DIR [--dataset=NAME | --npz=PATH] [--round=N] [--out=FOLDER]

  DIR         the workdir of a run, or a checkpoint of it (DIR/checkpoints/000012)
  --dataset   name of a data set, or path of your own data (an .npz file, a .csv file, or a folder
              of images or of a Hugging Face data set), whose test set is scored. The data of the
              run, under any name, are split as in the run, and the whole test set is scored.
              From other data without a test set, a fifth is split off; if the run has learnt from
              some of that fifth, all images that it has not learnt from are scored. If not given:
              the test set of the run, with the run's limits
  --data-dir  folder of TensorFlow Datasets; TFDS_DATA_DIR or the default folder if not given
  --npz       path of your own data, of the same kinds, all of which are scored; an .npz file has
              `images` [N, H, W, C] and `labels` [N]; with `client` [N], each client is scored too
  --round     number of the round whose checkpoint is scored, instead of the best one
  --out       folder for evaluation.json and confusion.png; if not given, DIR/evaluation, or
              DIR/evaluation-NAME for other data; needed where DIR is a checkpoint

A model of data with a task of its own (text, say) is scored as the task says, on the test set of
the run alone. There is no confusion matrix where examples do not have one class each.

Images from which the run has learnt or selected its best round are left out, from whatever file
they come. So are those of the runs from which it has its weights or its genotype. A run's own data
are refused if they have changed. If the data name their classes, labels are matched to the model's
classes by name. Results of another checkpoint or of other data are not overwritten.
"""


@console.tolerant()
def main(argv: Sequence[str], program: str = "python -m fednas_jax.evaluate") -> int:
    """Evaluates one checkpoint; returns the exit code: 0 done (or help shown), 2 bad input."""
    if any(argument in HELP_FLAGS for argument in argv):
        print(HELP.format(program=program), end="")
        return 0
    return guarded(lambda: _run(argv), "nothing was written")


def _run(argv: Sequence[str]) -> None:
    folder, given = one_folder(
        argv, ("dataset", "data-dir", "npz", "round", "out"), words.flag_of_results
    )
    if given["dataset"] and given["npz"]:
        raise UserError("--npz: given together with --dataset; only one of the two is needed")
    if given["data-dir"] and given["npz"]:
        raise UserError("--data-dir: given together with --npz; only one of the two is needed")
    asked_for = given["dataset"] or given["npz"]
    of = Path(os.path.abspath(asked_for)).stem if asked_for else ""  # "." has a name too
    place = out_folder(folder, given["out"], f"evaluation-{of}" if of else "evaluation")
    # Imported here because they import JAX, and bad arguments should fail before that.
    start.import_jax()
    from fednas_jax.checkpoints import model
    from fednas_jax.data.fingerprints import sha256
    from fednas_jax.experiment import scored
    from fednas_jax.report import confusion
    from fednas_jax.runtime import cache, extras

    restored = model.restore(folder, round_of(given["round"]))
    asked = {"dataset": given["dataset"], "data_dir": given["data-dir"], "npz": given["npz"]}
    examples = scored.choose(restored, **asked)
    path = str(restored.path.resolve())
    about = {
        "checkpoint": path,
        "round": restored.round,
        "best": not given["round"] and restored.path.resolve() != Path(folder).resolve(),
        "data": examples.source,
        "data_sha256": sha256(examples.images, examples.labels),
        "left_out": examples.left_out,
    }
    of_run = place.resolve().parent == restored.path.resolve().parents[1]
    if replaced := _replaced(place, about, of_run=of_run):
        print(replaced)
    with cache.configured("auto"):
        found = scored.measure(restored, examples)
    numbers = _numbers(found, restored.class_names, len(examples.labels))
    if clients := scored.of_clients(examples, found):
        numbers["clients"] = clients
    for entry in numbers.get("classes", ()):
        _tell_score(entry)
    _tell_clients(clients)
    if found.matrix is None:
        print("No confusion matrix is made, as these examples do not have one class each")
    if examples.left_out:
        print(
            f"{examples.left_out} more are left out: the run, or an earlier run whose weights or "
            "genotype it uses, has learnt or selected its best round from them"
        )
    of = f"{numbers['examples']} examples"
    if found.units != numbers["examples"]:
        of = f"{found.units} units (such as tokens) of {of}"
    print(
        f"{found.accuracy:.2%} of {of} of {examples.source} correct, loss {found.loss:.4f} ({path})"
    )
    out = make_folder(place, "--out")
    written = [RESULTS]
    if found.matrix is not None and not extras.missing("confusion"):
        confusion.draw(found.matrix, restored.class_names, out / PICTURE)
        written.append(PICTURE)
    write_json(out / RESULTS, about | numbers)
    print(f"Files in {out}: {', '.join(written)}")
    if found.matrix is not None and (lacking := extras.left_out("confusion")):
        print(f"fednas_jax: {lacking}", file=sys.stderr)


def _tell_score(entry: Mapping[str, Any]) -> None:
    score = "no example" if entry["accuracy"] is None else f"{entry['accuracy']:.2%}"
    print(f"  {entry['name']:<16} {score:>9} of {entry['examples']}")


def _tell_clients(clients: Sequence[Mapping[str, Any]]) -> None:
    """Prints the accuracy of each client; of many clients, the lowest ones."""
    if not clients:
        return
    shown, which = clients, ""
    if len(clients) > _MOST_CLIENTS:
        shown = sorted(clients, key=lambda entry: entry["accuracy"])[:_MOST_CLIENTS]
        which = f", the {_MOST_CLIENTS} lowest of {len(clients):,}; {RESULTS} has all"
    print(f"By client{which}:")
    for entry in shown:
        _tell_score(entry)


def _numbers(found: "Measured", class_names: Sequence[str], examples: int) -> dict[str, Any]:
    """What evaluation.json holds of the scores; `units` where they are not the examples."""
    matrix = {} if found.matrix is None else found.matrix.to_json(class_names)
    loss = found.loss if math.isfinite(found.loss) else None  # JSON has no nan
    numbers = {"examples": examples, "accuracy": found.accuracy, "loss": loss}
    units = {} if found.units == examples else {"units": found.units}
    return {**numbers, **units, **matrix, **numbers}


def _replaced(place: Path, about: Mapping[str, Any], *, of_run: bool) -> str:
    """Refuses a folder with the results of another checkpoint or of other examples.

    Results of the same examples by an earlier best round of the run are replaced.

    Args:
      place: the folder.
      about: what evaluation.json will hold besides scores.
      of_run: whether the folder lies in that of the run, and therefore moves with it.

    Returns:
      A line about results that will be replaced; "" if there are none.
    """
    if not (place / RESULTS).exists():
        return ""
    there = read_json(place / RESULTS, "another --out is needed")
    if not isinstance(there, dict):
        there = {}
    # Earlier versions recorded only the name.
    data = "data" if "data_sha256" not in there else "data_sha256"
    gone_on = of_run and about["best"] and there.get("best") is True
    for name in ("checkpoint", "round", data):
        if there.get(name) == about[name] or (name == "checkpoint" and of_run):
            continue
        if not (name == "round" and gone_on):
            shown = name.removesuffix("_sha256")
            other = "other examples of " if there.get(shown) == about[shown] else ""
            raise UserError(
                f"--out: {place / RESULTS} has {shown} {other}{there.get(shown)}, not "
                f"{about[shown]}; another folder is needed"
            )
    if there.get("round") == about["round"]:
        return ""
    return (
        f"{place / RESULTS} has the scores of round {there['round']}, the best before the run "
        "went on; they are replaced"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
