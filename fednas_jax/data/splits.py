"""The examples of one split; test sets and limits cut off from them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fednas_jax.data import cuts
from fednas_jax.data.cuts import apportion
from fednas_jax.data.fingerprints import image_digests
from fednas_jax.runtime.errors import UserError


class Split(NamedTuple):
    """The examples of one split.

    Attributes:
      images: [N, H, W, C] uint8 or float32; of a data set with a task of its own, inputs [N, ...].
      labels: [N] int32; of a data set with a task of its own, the class of each example if it has
        one, for partitions and pictures, else zeros.
      client: [N] int32, the client of each example; None where the data does not have it.
    """

    images: np.ndarray
    labels: np.ndarray
    client: np.ndarray | None
    targets: np.ndarray | None = None
    """What a task of its own scores against, [N, ...]; None: the labels."""

    def __repr__(self) -> str:
        """Shapes and types, not the values."""
        arrays = {name: array for name, array in self._asdict().items() if array is not None}
        shown = (f"{name} {list(np.shape(a))} {np.asarray(a).dtype}" for name, a in arrays.items())
        return f"<Split: {', '.join(shown)}>"

    @property
    def truth(self) -> np.ndarray:
        """What outputs are scored against: the targets, or the labels."""
        return self.labels if self.targets is None else self.targets


class Cut(NamedTuple):
    """Training examples, and the test set that was split off from them."""

    train: Split
    test: Split
    duplicates: int
    """Number of images that are not in the test set because a copy is a training image."""


def cut_test(split: Split, fraction: float, seed: int, source: str, cut_by: str = "class") -> Cut:
    """Splits off a stratified test set; every class and client keeps at least one example.

    A duplicated image is not in the test set if a copy of it is a training image.
    """
    if not 0 < fraction < 1:
        raise UserError(
            f"config.dataset.test_fraction: {fraction}; a value above 0 and below 1 is needed"
        )
    total, rng = round(fraction * len(split.labels)), np.random.RandomState([seed, 0])
    keeps = "every class"
    if cut_by == "client" and split.client is not None:
        taken = cuts.by_client(split.labels, split.client, total, rng)
        keeps = "every client and class"
    else:
        sizes = np.bincount(split.labels)
        wanted = np.minimum(apportion(sizes, total), sizes - 1)
        taken = _choose(split.labels, wanted, rng)
    drawn = int(taken.sum())
    if cut_by == "client" and taken.any():
        digests = image_digests(split.images)
        taken &= ~np.isin(digests, digests[~taken])
        if not taken.any():
            raise UserError(
                f"config.dataset.test_fraction: {fraction} of {source}'s {len(split.labels)} "
                "examples leaves no test example, as each of these images is duplicated, and a "
                "copy is trained on; a separate test set is needed, or data without duplicates"
            )
    if not taken.any():
        needed = "a separate test set, or a larger fraction, is needed"
        if not _has_spare(split, cut_by):
            needed = "a separate test set is needed"
        raise UserError(
            f"config.dataset.test_fraction: {fraction} of {source}'s {len(split.labels)} examples "
            f"leaves no test example, as {keeps} keeps one to train on; {needed}"
        )
    return Cut(_where(split, ~taken), _where(split, taken), drawn - int(taken.sum()))


def never_trained(test: Split, train: Split, source: str) -> tuple[Split, list[str]]:
    """The test set without images that are also training images, and a line that reports them."""
    fresh = ~np.isin(image_digests(test.images), image_digests(train.images))
    if not fresh.any():
        every = "the only test image is" if len(fresh) == 1 else f"all {len(fresh)} test images are"
        raise UserError(
            f"{source}: {every} among the training images; other test images are needed, or none, "
            "so that a test set is split off"
        )
    if fresh.all():
        return test, []
    are = "is" if (number := int((~fresh).sum())) == 1 else "are"
    return _where(test, fresh), [
        f"{source}: {number} of {len(fresh)} test images {are} among the training images, and "
        f"{are} left out of the test set"
    ]


def labelled_twice(split: Split, names: Sequence[str], source: str) -> list[str]:
    """A line about images that occur with different labels; empty where there are none.

    Args:
      split: the examples.
      names: the name of each class.
      source: what the line calls them.
    """
    digests, first, which = np.unique(
        image_digests(split.images), return_index=True, return_inverse=True
    )
    other = split.labels != split.labels[first][which]
    if not other.any():
        return []
    number = len(np.unique(which[other]))
    later = int(np.argmax(other))
    earlier = first[which[later]]
    one, two = (names[split.labels[i]] for i in (earlier, later))
    occur = "1 image occurs" if number == 1 else f"{number} of {len(digests)} images occur"
    return [
        f"{source}: {occur} with different labels, first example {earlier} with {one!r} and "
        f"example {later} with {two!r}"
    ]


def _has_spare(split: Split, cut_by: str) -> bool:
    """Whether a test set can be split off at all: some class or client has a second example."""
    if cut_by == "client" and split.client is not None:
        rng = np.random.RandomState(0)
        return bool(cuts.by_client(split.labels, split.client, len(split.labels), rng).any())
    return bool((np.bincount(split.labels) > 1).any())


def reduced(split: Split, at_most: int, rng: np.random.RandomState, cut_by: str = "class") -> Split:
    """At most `at_most` examples (0: all), with classes in proportion, in their original order."""
    if at_most == 0 or at_most >= len(split.labels):
        return split
    if split.client is not None and cut_by == "client":
        surplus = len(split.labels) - at_most
        dropped = cuts.by_client(split.labels, split.client, surplus, rng, fill=True)
        if dropped.sum() == surplus:  # otherwise there are more clients than examples to keep
            return _where(split, ~dropped)
    sizes = np.bincount(split.labels)
    wanted = apportion(sizes, at_most)
    if cut_by == "client":
        wanted = cuts.one_each(wanted, sizes)
    return _where(split, _choose(split.labels, wanted, rng))


def _choose(labels: np.ndarray, wanted: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """[N] bool: selects `wanted[c]` random examples of each class c."""
    taken = np.zeros(len(labels), bool)
    for c, number in enumerate(wanted):
        taken[rng.permutation(np.flatnonzero(labels == c))[:number]] = True
    return taken


def _where(split: Split, keep: np.ndarray) -> Split:
    images, labels, *others = split
    return Split(images[keep], labels[keep], *(x if x is None else x[keep] for x in others))
