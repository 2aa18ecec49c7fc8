"""A record, in each checkpoint, of the examples that a model has learnt from and is tested on.

The record has 8 bytes of the SHA-256 of each image, which identify the image in any file and in any
order. Given a million images that a model has learnt from and a million others, the probability
that any two have the same digest is one in 10 million.
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
from fednas_jax.runtime.errors import UserError

FILE = "examples.npz"
"""Name of the file in a checkpoint."""

_SETTINGS = (
    *("name", "test_path", "test_fraction"),
    *("max_train_examples", "max_test_examples"),
)
_OTHERS = ("seed", "cut_by")
_ARRAYS = {"images": "u8", "test_images": "u8", "test_labels": "i4", "begun_with": "u8"}


class Learnt(NamedTuple):
    """The record of a run's examples.

    A run's earlier runs are those from which it has its initial weights or its genotype.

    Attributes:
      images: [N] uint64, ascending: digests of all images that the run's clients hold, from which
        it learns or selects its best round, and of those of its earlier runs.
      test_images: [M] uint64: digests of the run's test images, in their order.
      test_labels: [M] int32.
      train_sha256: SHA-256 of all training images and labels in their order, whether a client holds
        them or not.
      test_sha256: SHA-256 of the test images and labels.
      settings: the arguments of `datasets.load` that gave these examples, without `data_dir`.
      complete: whether `images` includes all images of the earlier runs.
      begun_with: [K] uint64: digests in `images` that only the earlier runs have learnt from.
        Images that published data have both for training and for testing are not included.
    """

    images: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    train_sha256: str
    test_sha256: str
    settings: dict[str, Any]
    complete: bool
    begun_with: np.ndarray

    def __repr__(self) -> str:
        """The numbers of its images, not their digests."""
        earlier = f" ({len(self.begun_with)} of earlier runs)" if len(self.begun_with) else ""
        return (
            f"<Learnt from {len(self.images)} images{earlier} of {self.settings.get('name')}, "
            f"tested on {len(self.test_images)}>"
        )


def settings_of(config: Mapping[str, Any], cut_by: str) -> dict[str, Any]:
    """The arguments of `datasets.load` that give a run's examples.

    Args:
      config: config of the run.
      cut_by: as for `datasets.load`.
    """
    of_data = {name: config["dataset"][name] for name in _SETTINGS}
    return of_data | {"seed": config["seed"], "cut_by": cut_by}


def of(dataset: Dataset, clients: Sequence[np.ndarray], settings: Mapping[str, Any]) -> Learnt:
    """The record of a run without earlier runs.

    Args:
      dataset: data set of the run.
      clients: indices of the training examples of each client.
      settings: as `settings_of` returns them.
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
    """The record of a run that has earlier runs.

    Args:
      learnt: record of the run alone.
      others: records of its earlier runs; None for a run without a record.
    """
    known = [other for other in others if other is not None]
    brought = [learnt.begun_with, *(_brought(other, learnt) for other in known)]
    return learnt._replace(
        images=np.unique(np.concatenate([learnt.images, *(other.images for other in known)])),
        complete=learnt.complete and len(known) == len(others) and all(o.complete for o in known),
        begun_with=np.setdiff1d(np.concatenate(brought), learnt.images),
    )


def _brought(there: Learnt, here: Learnt) -> np.ndarray:
    """The images of an earlier run, without those that its data has in both of its splits."""
    name = there.settings["name"]
    if name in published.NAMES and here.settings["name"] == name:
        return there.begun_with  # both runs have the same test set
    return np.union1d(np.setdiff1d(there.images, there.test_images), there.begun_with)


def is_of(learnt: Learnt, dataset: Dataset) -> bool:
    """Whether a data set has exactly the training and test examples of the run."""
    return (
        sha256(dataset.test.images, dataset.test.truth) == learnt.test_sha256
        and sha256(dataset.train.images, dataset.train.truth) == learnt.train_sha256
    )


def contains(learnt: Learnt, images: np.ndarray) -> np.ndarray:
    """[N] bool: whether the run or an earlier run has learnt or selected its best round from an
    image.

    Args:
      learnt: record of the run.
      images: [N, H, W, C], of the dtype of the run's data.
    """
    return np.isin(image_digests(images), learnt.images)


def begun_with(learnt: Learnt, images: np.ndarray) -> np.ndarray:
    """[N] bool: whether only earlier runs have learnt from an image.

    Args:
      learnt: record of the run.
      images: [N, H, W, C], of the dtype of the run's data.
    """
    return np.isin(image_digests(images), learnt.begun_with)


def may_be_scored(learnt: Learnt, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[N] bool: whether an example may be scored: the run has not learnt from it.

    Examples of the run's own test set may be scored even where a client holds the same image, since
    published data contain such duplicates; but no more copies of them than the test set has.

    Args:
      learnt: record of the run.
      images: [N, H, W, C], of the dtype of the run's data.
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
    """The number of test images of a data set that another run has learnt from.

    Published data contain images both for training and for testing. Such images are not counted:
    test images of the other run, and training images of this data set.

    Args:
      there: record of the other run.
      dataset: data set of this run.
    """
    if dataset.name in published.NAMES and there.settings["name"] == dataset.name:
        return 0  # both runs have the same test set
    digests = image_digests(dataset.test.images)
    seen = np.isin(digests, there.images) & ~np.isin(digests, there.test_images)
    if not seen.any():
        return 0
    return int((seen & ~np.isin(digests, image_digests(dataset.train.images))).sum())


def to_bytes(learnt: Learnt) -> bytes:
    """The record as the content of an .npz file; not compressed, since digests are random bytes."""
    content = io.BytesIO()
    texts = {"settings": json.dumps(learnt.settings)}
    np.savez(content, **{**learnt._asdict(), **texts})
    return content.getvalue()


def read(path: Path) -> Learnt:
    """Reads a file with the content that `to_bytes` returned.

    Raises:
      UserError: the file is damaged, or holds something else.
    """
    arrays = read_npz(path, Learnt._fields, required=Learnt._fields)
    try:
        for name, kind in _ARRAYS.items():
            if arrays[name].ndim != 1 or arrays[name].dtype.str[1:] != kind:
                raise ValueError(f"'{name}' is {arrays[name].dtype}")
        if len(arrays["test_images"]) != len(arrays["test_labels"]):
            raise ValueError("the numbers of test images and labels differ")
        settings = json.loads(str(arrays["settings"][()]))
        if set(settings) != {*_SETTINGS, *_OTHERS}:
            raise ValueError("the names in 'settings' are not those expected")
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
            f"{path}: not a record of examples ({' '.join(str(error).split())}); such a record is "
            "needed"
        ) from error
