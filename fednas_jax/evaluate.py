"""Scores a checkpoint: `python -m fednas_jax.evaluate DIR [--dataset=NAME | --npz=FILE]`."""

import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fednas_jax import environment

if __name__ == "__main__":
    environment.prepare("fednas_jax.evaluate")  # may start the process anew: before others

from fednas_jax.command_line import HELP_FLAGS, guarded, one_folder, out_folder, round_of
from fednas_jax.data import datasets, own
from fednas_jax.data.datasets import Dataset
from fednas_jax.errors import UserError
from fednas_jax.files import make_folder, read_json, write_json
from fednas_jax.model_file import Description
from fednas_jax.runtime import console, start

RESULTS = "evaluation.json"

HELP = """Scores the model of a checkpoint on labelled images: accuracy, of each class too, and
which classes it takes for which.

  python -m fednas_jax.evaluate DIR [--dataset=NAME | --npz=FILE] [--round=N] [--out=FOLDER]

  DIR         the workdir of a run, or a checkpoint of it (DIR/checkpoints/000012)
  --dataset   a known data set, whose test set is scored; if not given, the one that the run used,
              cut and reduced as there
  --data-dir  where TensorFlow Datasets lie; TFDS_DATA_DIR or the default folder if not given
  --npz       a file with `images` [N, H, W, C] and `labels` [N], all of which are scored
  --round     the checkpoint of this round instead of the best one
  --out       where evaluation.json and confusion.png go; if not given, DIR/evaluation, or
              DIR/evaluation-NAME of other data; needed where DIR is a checkpoint

What lies there of another checkpoint or of other data is not overwritten.
"""


@console.tolerant()
def main(argv: Sequence[str]) -> int:
    """Scores one checkpoint; returns the exit code: 0 done (or help shown), 2 bad input."""
    if any(argument in HELP_FLAGS for argument in argv):
        print(HELP, end="")
        return 0
    return guarded(lambda: _run(argv), "nothing was written")


def _run(argv: Sequence[str]) -> None:
    folder, given = one_folder(argv, ("dataset", "data-dir", "npz", "round", "out"))
    if given["dataset"] and given["npz"]:
        raise UserError("--npz: beside --dataset; one of the two is needed")
    if given["data-dir"] and given["npz"]:
        raise UserError("--data-dir: beside --npz, which is no such data; one of the two is needed")
    of = Path(given["dataset"] or given["npz"]).stem
    place = out_folder(folder, given["out"], f"evaluation-{of}" if of else "evaluation")
    # Here, not above: they import jax, and bad arguments should fail at once.
    start.import_jax()
    from fednas_jax import cache, model
    from fednas_jax.report import confusion

    restored = model.restore(folder, round_of(given["round"]))
    examples = _examples(restored.description, given)
    path = str(restored.path.resolve())
    about = {"checkpoint": path, "round": restored.round, "data": examples.source}
    _check_free(place, about)
    with cache.kept("auto"):
        found = confusion.measure(restored.logits(examples.images), examples.labels)
    out = make_folder(place, "--out")
    numbers = found.to_json(restored.class_names)
    confusion.draw(found, restored.class_names, out / "confusion.png")
    write_json(out / RESULTS, about | numbers)
    for entry in numbers["classes"]:
        score = "not there" if entry["accuracy"] is None else f"{entry['accuracy']:.2%}"
        print(f"  {entry['name']:<16} {score:>9} of {entry['examples']}")
    print(
        f"{found.accuracy:.2%} right of {numbers['examples']} examples of {examples.source}, loss "
        f"{found.loss:.4f} ({path})"
    )
    print(f"Files in {out}: {RESULTS}, confusion.png")


def _check_free(place: Path, about: Mapping[str, Any]) -> None:
    """Refuses a folder that holds the scores of something else."""
    if not (place / RESULTS).exists():
        return
    there = read_json(place / RESULTS, "another --out is needed")
    for name, here in about.items():
        of = there.get(name) if isinstance(there, dict) else None
        if of != here:
            raise UserError(
                f"--out: {place / RESULTS} has {name} {of}, not {here}; another folder is needed"
            )


class _Examples(NamedTuple):
    """Images [N, H, W, C], labels [N], and where they are from."""

    images: np.ndarray
    labels: np.ndarray
    source: str


def _examples(description: Description, given: Mapping[str, str]) -> _Examples:
    if given["npz"]:
        images, labels, _ = own.read_examples(given["npz"], "--npz")
        found = _Examples(images, labels, given["npz"])
    else:
        dataset = _test_set(description.data, given["dataset"], given["data-dir"])
        name = given["dataset"] or description.data["name"]
        _check_classes(dataset.class_names, description.class_names, name)
        found = _Examples(dataset.test.images, dataset.test.labels, f"the test set of {name}")
    if not len(found.labels):
        raise UserError(f"{found.source}: empty; at least one example is needed")
    most = len(description.class_names) - 1
    if found.labels.max() > most:
        raise UserError(
            f"{found.source}: label {found.labels.max()}; 0 to {most}, the classes of this "
            "model, are needed"
        )
    return found


def _check_classes(there: Sequence[str], here: Sequence[str], name: str) -> None:
    """Refuses a data set whose labels mean something else than the model's."""
    for number, (its, ours) in enumerate(itertools.zip_longest(there, here)):
        if its != ours:
            raise UserError(
                f"--dataset: class {number} of {name} is {its!r}, of this model {ours!r}; "
                "data of the same classes are needed"
            )


def _test_set(data: Mapping[str, Any], name: str, data_dir: str) -> Dataset:
    """The test set: of the run's own data cut as there, so that no example was trained on."""
    options = dict(data)
    if name == options.pop("name"):
        options["max_test_examples"] = 0
    elif name:
        options = {}
    return datasets.load(name or data["name"], data_dir=data_dir or None, **options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
