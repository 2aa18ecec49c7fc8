"""Data sets by name, as arrays on the host.

Sources of means and standard deviations: cifar10 and cifar100 as in the code of DARTS and FedNAS,
mnist and fashion_mnist as commonly published; all others are computed.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fednas_jax.data import own, published
from fednas_jax.errors import UserError, suggest

NAMES = ("digits", *published.NAMES)
_PUBLISHED_MOMENTS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "cifar10": (
        (0.49139968, 0.48215827, 0.44653124),
        (0.24703233, 0.24348505, 0.26158768),
    ),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
}
_CHUNK = 4096  # images looked at in one go: all at once as int64 or float64 is too much memory


class Split(NamedTuple):
    """Examples.

    Attributes:
      images: [N, H, W, C] uint8 or float32.
      labels: [N] int32.
      client: [N] int32, whose example it is, where the data tells; else None.
    """

    images: np.ndarray
    labels: np.ndarray
    client: np.ndarray | None


class Dataset(NamedTuple):
    """A data set; mean and std are one a channel, in units of the images after `to_unit`.

    `named` says whether the data name their classes; else `class_names` are their numbers.
    """

    name: str
    train: Split
    test: Split
    num_classes: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    named: bool = True


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    test_path: str | Path | None = None,
    test_fraction: float = 0.2,
    max_train_examples: int = 0,
    max_test_examples: int = 0,
    seed: int = 0,
    cache: bool = True,
) -> Dataset:
    """Loads a data set by name. The same arguments give the same bits.

    Args:
      name: one of `NAMES`, or the path of an .npz (see `own.read`).
      data_dir: where published sets lie, as TFDS lays them down; empty: TFDS_DATA_DIR or TFDS's
        default. What is not there is downloaded into there.
      test_path: of an own .npz: another with the test set.
      test_fraction: part of each class that becomes the test set where the data has none (digits,
        and an own .npz without one). A class's last example stays for training.
      max_train_examples: use so many at most, of each class in proportion; 0: all.
      max_test_examples: likewise.
      seed: of both choices.
      cache: keep published sets decoded, see `published.read`.

    Raises:
      UserError: unknown name, not on disk and no network, or a bad .npz.
    """
    _check_limits(max_train_examples=max_train_examples, max_test_examples=max_test_examples)
    if str(name).endswith(".npz"):
        data = _load_own(str(name), test_path, test_fraction, seed)
    elif test_path:
        raise UserError(
            f"config.dataset.test_path: '{test_path}' goes with an own .npz; "
            f"empty is needed, as '{name}' has its test set"
        )
    elif name == "digits":
        data = _load_digits(test_fraction, seed)
    elif name in published.NAMES:
        data = _load_published(name, data_dir, cache)
    else:
        hint = suggest(name, NAMES)
        raise UserError(
            f"config.dataset.name: unknown data set '{name}'{hint} (or a path to an .npz)"
        )
    return data._replace(
        train=_reduced(data.train, max_train_examples, np.random.RandomState([seed, 1])),
        test=_reduced(data.test, max_test_examples, np.random.RandomState([seed, 2])),
    )


def choice_of_test_set(
    name: str, test_path: str = "", test_fraction: float = 0.2, seed: int = 0
) -> dict[str, Any]:
    """What decides which examples are the test set: fields of a config, with their values.

    Two configs of the same choices have the same test set. Where there is a `seed` among them the
    test set is cut off, and by other choices what is tested here would be learnt from there.

    Args:
      name: as of `load`, like the others.
      test_path: likewise.
      test_fraction: likewise.
      seed: likewise.
    """
    cut = {"dataset.test_fraction": test_fraction, "seed": seed}
    if not name.endswith(".npz"):
        return {"dataset.name": name, **(cut if name == "digits" else {})}
    choice = {"dataset.name": _real(name)}
    if test_path:
        return {**choice, "dataset.test_path": _real(test_path)}
    return choice if own.brings_test_set(_real(name)) else {**choice, **cut}


def depends_on_seed(dataset: Dataset, options: Mapping[str, Any], seed: int) -> bool:
    """Whether another seed would have made other training examples, or another order of them.

    Args:
      dataset: as `load` made it.
      options: `name`, `test_path`, `test_fraction` and `max_train_examples`, as of `load`.
      seed: likewise.
    """
    names = ("name", "test_path", "test_fraction")
    cut = "seed" in choice_of_test_set(**{name: options[name] for name in names}, seed=seed)
    return cut or 0 < options["max_train_examples"] == len(dataset.train.labels)


def _real(path: str) -> str:
    return os.path.realpath(os.path.expanduser(path))


def _check_limits(**limits: int) -> None:
    for field, number in limits.items():
        if number < 0:
            raise UserError(f"config.dataset.{field}: {number}; 0 or above")


def _load_digits(test_fraction: float, seed: int) -> Dataset:
    """scikit-learn's 1,797 digits of 8 x 8 pixels, which come with the package."""
    from sklearn.datasets import load_digits  # slow to import

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    everything = Split(images, bunch.target.astype(np.int32), None)
    train, test = _cut_test(everything, test_fraction, seed, "digits")
    mean, std = _moments(train.images)
    return Dataset("digits", train, test, 10, tuple("0123456789"), mean, std)


def _load_published(name: str, data_dir: str | Path | None, cache: bool) -> Dataset:
    decoded = published.read(name, data_dir, cache=cache)
    names = tuple(str(label) for label in decoded.class_names)
    mean, std = _PUBLISHED_MOMENTS[name]
    train = Split(decoded.train_images, decoded.train_labels, None)
    test = Split(decoded.test_images, decoded.test_labels, None)
    return Dataset(name, train, test, len(names), names, mean, std)


def _load_own(path: str, test_path: str | Path | None, test_fraction: float, seed: int) -> Dataset:
    data = own.read(path, test_path)
    train = Split(*data.train)
    if data.test is None:
        train, test = _cut_test(train, test_fraction, seed, path)
    else:
        test = Split(*data.test)
    mean, std = _moments(train.images)
    names = data.class_names
    return Dataset(path, train, test, len(names), names, mean, std, data.named)


def _cut_test(split: Split, fraction: float, seed: int, source: str) -> tuple[Split, Split]:
    """Cuts a stratified test set off; every class keeps one example at least."""
    if not 0 < fraction < 1:
        raise UserError(f"config.dataset.test_fraction: {fraction}; between 0 and 1, without both")
    sizes = np.bincount(split.labels)
    wanted = _apportion(sizes, round(fraction * len(split.labels)))
    taken = _choose(split.labels, np.minimum(wanted, sizes - 1), np.random.RandomState([seed, 0]))
    if not taken.any():
        raise UserError(
            f"config.dataset.test_fraction: {fraction} of {source}'s {len(split.labels)} examples "
            "leaves no test example; a larger part, or a test set of its own"
        )
    return _where(split, ~taken), _where(split, taken)


def _reduced(split: Split, at_most: int, rng: np.random.RandomState) -> Split:
    """At most so many examples, of each class in proportion, in their old order; 0: all."""
    if at_most == 0 or at_most >= len(split.labels):
        return split
    sizes = np.bincount(split.labels)
    return _where(split, _choose(split.labels, _apportion(sizes, at_most), rng))


def _apportion(sizes: np.ndarray, total: int) -> np.ndarray:
    """Shares of `total` in proportion to `sizes` (largest remainders; the lower class if equal)."""
    exact = sizes * (total / sizes.sum())
    shares = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - shares), kind="stable")
    shares[order[: total - shares.sum()]] += 1
    return np.minimum(shares, sizes)


def _choose(labels: np.ndarray, wanted: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """[N] bool: `wanted[c]` random examples of each class c."""
    taken = np.zeros(len(labels), bool)
    for c, number in enumerate(wanted):
        taken[rng.permutation(np.flatnonzero(labels == c))[:number]] = True
    return taken


def _where(split: Split, keep: np.ndarray) -> Split:
    client = None if split.client is None else split.client[keep]
    return Split(split.images[keep], split.labels[keep], client)


def _moments(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in units of `to_unit`.

    A channel that is constant gets a floor, not 0: one grey level for bytes, 1 for floats.
    """
    scale = 255.0 if images.dtype == np.uint8 else 1.0
    count = images[..., 0].size
    chunks = [images[i : i + _CHUNK] for i in range(0, len(images), _CHUNK)]
    axes = (0, 1, 2)
    mean = sum(chunk.sum(axis=axes, dtype=np.float64) for chunk in chunks) / count / scale
    # A second pass over differences: a large mean would drown the difference of two sums.
    square = sum(((chunk / scale - mean) ** 2).sum(axis=axes) for chunk in chunks) / count
    std = np.sqrt(square)
    if images.dtype == np.uint8:
        std = np.maximum(std, 1 / 255)
    else:
        std = np.where(std > 1e-6 * np.abs(mean), std, 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())
