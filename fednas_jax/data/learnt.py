"""Which examples a model has learnt from, and on which it is tested: kept with its checkpoints.

Of each image 8 bytes of its SHA-256 are kept, so that the images are known again in whatever file
and order they come. Of a million images that a model has learnt from and a million others, two
are taken for each other with a chance of one in 10 million.
"""

import collections
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fednas_jax.data import published
from fednas_jax.data.datasets import Dataset
from fednas_jax.data.fingerprints import image_digests, sha256
from fednas_jax.data.npz import read_npz
from fednas_jax.errors import UserError

FILE = "examples.npz"
"""Its name in a checkpoint."""

_SETTINGS = (
    *("name", "test_path", "test_fraction"),
    *("max_train_examples", "max_test_examples"),
)
_OTHERS = ("seed", "cut_by")
_ARRAYS = {"images": "u8", "test_images": "u8", "test_labels": "i4", "begun_with": "u8"}


class Learnt(NamedTuple):
    """What is known of the examples of a run.

    Attributes:
      images: [N] uint64, ascending: digests of the images that its clients hold, which it learns
        from or chooses its best round by; and of those that it began with had learnt from.
      test_images: [M] uint64: digests of its test images, in their order.
      test_labels: [M] int32.
      train_sha256: of all training images and labels, dealt or not, in their order.
      test_sha256: of its test images and labels.
      settings: arguments of `datasets.load` that gave these, without `data_dir`.
      complete: whether `images` has all that it began with had learnt from.
      begun_with: [K] uint64: those of `images` that only the runs that it began with have learnt
        from. Images that published data have in both parts are none of them.
    """

    images: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    train_sha256: str
    test_sha256: str
    settings: dict[str, Any]
    complete: bool
    begun_with: np.ndarray


def settings_of(config: Mapping[str, Any], cut_by: str) -> dict[str, Any]:
    """What says which examples a run has, as arguments of `datasets.load`.

    Args:
      config: of the run.
      cut_by: as of `datasets.load`.
    """
    of_data = {name: config["dataset"][name] for name in _SETTINGS}
    return of_data | {"seed": config["seed"], "cut_by": cut_by}


def of(dataset: Dataset, clients: Sequence[np.ndarray], settings: Mapping[str, Any]) -> Learnt:
    """Of a run that begins anew.

    Args:
      dataset: of the run.
      clients: of its partition: indices of training examples.
      settings: as `settings_of` gives them.
    """
    dealt = np.unique(np.concatenate(clients))
    return Learnt(
        np.unique(image_digests(dataset.train.images[dealt])),
        image_digests(dataset.test.images),
        dataset.test.labels.astype(np.int32),
        sha256(dataset.train.images, dataset.train.truth),
        sha256(dataset.test.images, dataset.test.truth),
        dict(settings),
        True,
        np.zeros(0, np.uint64),
    )


def after(learnt: Learnt, others: Sequence[Learnt | None]) -> Learnt:
    """Of a run that began with what other runs had learnt.

    Args:
      learnt: of the run alone.
      others: of the other runs; None of one of which nothing is known.
    """
    known = [other for other in others if other is not None]
    brought = [learnt.begun_with, *(_brought(other, learnt) for other in known)]
    return learnt._replace(
        images=np.unique(np.concatenate([learnt.images, *(other.images for other in known)])),
        complete=learnt.complete and len(known) == len(others) and all(o.complete for o in known),
        begun_with=np.setdiff1d(np.concatenate(brought), learnt.images),
    )


def _brought(there: Learnt, here: Learnt) -> np.ndarray:
    """Images that another run has learnt from, without those that its data have in both parts."""
    name = there.settings["name"]
    if name in published.NAMES and here.settings["name"] == name:
        return there.begun_with  # of each of them there is one test set
    return np.union1d(np.setdiff1d(there.images, there.test_images), there.begun_with)


def is_of(learnt: Learnt, dataset: Dataset) -> bool:
    """Whether a data set has the very training and test examples of the run."""
    return (
        sha256(dataset.test.images, dataset.test.truth) == learnt.test_sha256
        and sha256(dataset.train.images, dataset.train.truth) == learnt.train_sha256
    )


def contains(learnt: Learnt, images: np.ndarray) -> np.ndarray:
    """[N] bool: which images the run has learnt from or chosen its best round by.

    Args:
      learnt: of the run.
      images: [N, H, W, C], of the type that its data have.
    """
    return np.isin(image_digests(images), learnt.images)


def begun_with(learnt: Learnt, images: np.ndarray) -> np.ndarray:
    """[N] bool: which images only the runs that the run began with have learnt from.

    Args:
      learnt: of the run.
      images: [N, H, W, C], of the type that its data have.
    """
    return np.isin(image_digests(images), learnt.begun_with)


def may_be_scored(learnt: Learnt, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[N] bool: which examples the run has not learnt from.

    Those of the run's own test set may be scored even where the same image is among those that its
    clients hold, as there are such in published data; but no more of them than are in there.

    Args:
      learnt: of the run.
      images: [N, H, W, C], of the type that its data have.
      labels: [N].
    """
    digests = image_digests(images)
    free = ~np.isin(digests, learnt.images)
    tested = learnt.test_images.tolist(), learnt.test_labels.tolist()
    left = collections.Counter(zip(*tested, strict=True))
    for i in np.flatnonzero(~free & ~np.isin(digests, learnt.begun_with)):
        example = int(digests[i]), int(labels[i])
        if left[example] > 0:
            left[example] -= 1
            free[i] = True
    return free


def tested_here(there: Learnt, dataset: Dataset) -> int:
    """How many test images of a data set another run has learnt from.

    Images that stand in training and test data alike do not count, as there are such in published
    data: those that the other run tests on too, and those that are training images here too.

    Args:
      there: of the other run.
      dataset: of this one.
    """
    if dataset.name in published.NAMES and there.settings["name"] == dataset.name:
        return 0  # of each of them there is one test set
    digests = image_digests(dataset.test.images)
    seen = np.isin(digests, there.images) & ~np.isin(digests, there.test_images)
    if not seen.any():
        return 0
    return int((seen & ~np.isin(digests, image_digests(dataset.train.images))).sum())


def to_bytes(learnt: Learnt) -> bytes:
    """The content of an .npz; not compressed, as digests cannot be."""
    content = io.BytesIO()
    texts = {"settings": json.dumps(learnt.settings)}
    np.savez(content, **{**learnt._asdict(), **texts})
    return content.getvalue()


def read(path: Path) -> Learnt:
    """Reads what `to_bytes` gave.

    Raises:
      UserError: it is damaged, or something else.
    """
    arrays = read_npz(path, Learnt._fields, required=Learnt._fields)
    try:
        for name, kind in _ARRAYS.items():
            if arrays[name].ndim != 1 or arrays[name].dtype.str[1:] != kind:
                raise ValueError(f"'{name}' is {arrays[name].dtype}")
        if len(arrays["test_images"]) != len(arrays["test_labels"]):
            raise ValueError("as many test images as labels are needed")
        settings = json.loads(str(arrays["settings"][()]))
        if set(settings) != {*_SETTINGS, *_OTHERS}:
            raise ValueError("'settings' has other names")
        return Learnt(
            arrays["images"],
            arrays["test_images"],
            arrays["test_labels"],
            str(arrays["train_sha256"][()]),
            str(arrays["test_sha256"][()]),
            settings,
            bool(arrays["complete"]),
            arrays["begun_with"],
        )
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path}: not a record of examples ({' '.join(str(error).split())}); one is needed"
        ) from error
