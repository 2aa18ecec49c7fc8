"""Data sets by name, as arrays on the host.

Sources of means and standard deviations: cifar10 and cifar100 as in the code of DARTS and FedNAS,
mnist and fashion_mnist as commonly published; all others are computed.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fednas_jax.data import image_axes, lost, own, published, sources, splits
from fednas_jax.data.fingerprints import sha256_of_all
from fednas_jax.data.splits import Split as Split
from fednas_jax.fields import words
from fednas_jax.runtime.errors import UserError, listed, meant, plain
from fednas_jax.runtime.paths import expand
from fednas_jax.runtime.user_code import is_reference

if TYPE_CHECKING:
    from fednas_jax.data.task import Task  # imports JAX, which configs are read before

NAMES = sources.KNOWN
_PUBLISHED_MOMENTS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "cifar10": (
        (0.49139968, 0.48215827, 0.44653124),
        (0.24703233, 0.24348505, 0.26158768),
    ),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
}
_CHUNK = 4096  # images converted at a time: all of them as int64 or float64 take too much memory


class Dataset(NamedTuple):
    """A data set.

    `mean` and `std` have one value for each channel, in the units of `to_unit`.
    `lost` has the lines said when a run begins: which clients or classes have no examples left
    after cuts, which arrays are not used, which labels are numbered anew.
    `cut_by` is the `cut_by` that `load` was called with.
    `named` is whether the data name their classes; otherwise `class_names` are numbers.
    `whole_sha256` is the SHA-256 of all examples where a limit has left some out; otherwise "".
    `task` says what inputs and targets are where they are not images and their classes.
    `client_names` has the name of each number in the `client` column; () where data have no names.
    `raw_labels` has the label of each class in a user's own file, where the labels there are not
    0, 1, ...; else ().
    `numbers` is whether the labels in a user's own file are numbers, one for each example.
    """

    name: str
    train: Split
    test: Split
    num_classes: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    lost: tuple[str, ...] = ()
    cut_by: str = "class"
    named: bool = True
    whole_sha256: str = ""
    task: "Task | None" = None
    client_names: tuple[str, ...] = ()
    raw_labels: tuple[int, ...] = ()
    numbers: bool = False

    def __repr__(self) -> str:
        """Its name, the shapes of its parts and its classes."""
        return (
            f"<Dataset {self.name}: train {self.train!r}, test {self.test!r}, "
            f"{self.num_classes} classes ({listed(self.class_names)})>"
        )


def load(
    name: str | Path,
    *,
    data_dir: str | Path | None = None,
    test_path: str | Path | None = None,
    test_fraction: float = 0.2,
    max_train_examples: int = 0,
    max_test_examples: int = 0,
    seed: int = 0,
    cache: bool = True,
    cut_by: str = "client",
) -> Dataset:
    """Loads a data set by name. The same arguments give the same bits.

    Args:
      name: one of `NAMES`, or the path of a user's own data (see `own.read`): an .npz file, a .csv
        file, or a folder of images or of a Hugging Face data set.
      data_dir: folder of published sets, as TFDS prepares them; empty: TFDS_DATA_DIR or TFDS's
        default. Missing sets are downloaded into it.
      test_path: path of the test set, where `name` is the path of a user's own data; of any of
        these kinds. Images in it that are training images are left out.
      test_fraction: share of each class that is split off as the test set where the data has none
        (digits, and a user's own data without one). With a `client` column, it is the share of each
        class of each client. At least one example of each class and client stays for training.
      max_train_examples: maximum number of training examples, with classes in proportion; 0: all.
        Each class keeps at least one example where the limit permits; with a `client` column, so
        does each client.
      max_test_examples: maximum number of test examples, with classes in proportion; 0: all. A rare
        class may lose all its test examples. The `client` column is not considered.
      seed: seed of these random choices.
      cache: whether to cache published sets decoded, see `published.read`.
      cut_by: "client" considers the `client` column; "class" selects examples as earlier versions
        did, without regard to clients or to classes that lose all examples.

    Raises:
      UserError: the name is unknown, the data is not on disk and cannot be downloaded, or the
        user's own data are not usable.
    """
    name = str(name)
    if sources.is_own(name):
        data = _load_own(name, test_path, test_fraction, seed, cut_by)
    else:
        data = _load_known(name, data_dir, test_path, test_fraction, seed, cache=cache)
    return limited(data, max_train_examples, max_test_examples, seed, cut_by)


def limited(data: Dataset, max_train: int, max_test: int, seed: int, cut_by: str) -> Dataset:
    """A data set with at most so many examples; arguments, and the error, as of `load`."""
    _check_limits(max_train_examples=max_train, max_test_examples=max_test)
    train = splits.reduced(data.train, max_train, np.random.RandomState([seed, 1]), cut_by)
    test = splits.reduced(data.test, max_test, np.random.RandomState([seed, 2]), "class")
    limit = f"config.dataset.max_train_examples: {max_train}"
    names = data.class_names, data.client_names
    lines = [*data.lost, *lost.after_cut(data.train, train, *names, limit)]
    # A data set with a task of its own may have zeros in place of classes.
    if data.task is None or data.train.labels.any() or data.test.labels.any():
        lines += lost.untested(test.labels, data.class_names)
    whole = "" if train is data.train and test is data.test else examples_sha256(data)
    return data._replace(
        train=train, test=test, lost=tuple(lines), cut_by=cut_by, whole_sha256=whole
    )


def grey_as(data: Dataset, wanted: Sequence[int]) -> Dataset:
    """A data set with its grey images as RGB where RGB is needed, see `image_axes.grey_as`."""
    train, test = (
        part._replace(images=image_axes.grey_as(part.images, wanted, data.name))
        for part in (data.train, data.test)
    )
    return data._replace(train=train, test=test)


def examples_sha256(dataset: Dataset) -> str:
    """The SHA-256 of all examples before a limit, training and test: the same for every seed."""
    parts = [(part.images, part.truth) for part in (dataset.train, dataset.test)]
    return dataset.whole_sha256 or sha256_of_all(parts)


def choice_of_test_set(
    name: str,
    test_path: str = "",
    test_fraction: float = 0.2,
    seed: int = 0,
    cut_by: str = "class",
) -> dict[str, Any]:
    """The fields of a config that decide which examples are the test set, with their values.

    Two configs with equal values have the same test set. A `seed` among them means that the test
    set is split off: a config with other values may train on examples that this one tests on.

    Args:
      name: as for `load`.
      test_path: as for `load`.
      test_fraction: as for `load`.
      seed: as for `load`.
      cut_by: "client" where the `client` column was considered.
    """
    cut: dict[str, Any] = {"dataset.test_fraction": test_fraction, "seed": seed}
    if cut_by != "class":
        cut["cut by"] = cut_by
    if not sources.is_own(name):
        return {"dataset.name": name, **(cut if name == "digits" else {})}
    choice = {"dataset.name": sources.real(name)}
    if test_path:
        return {**choice, "dataset.test_path": sources.real(test_path)}
    path = sources.real(name)
    brings = own.brings_test_set if sources.is_npz(path) else sources.brings_test_set
    return choice if brings(path) else {**choice, **cut}


def depends_on_seed(dataset: Dataset, options: Mapping[str, Any], seed: int) -> bool:
    """Whether another seed would give other training examples, or another order of them.

    Args:
      dataset: the data set that `load` returned.
      options: `name`, `test_path`, `test_fraction` and `max_train_examples`, as for `load`.
      seed: as for `load`.
    """
    names = ("name", "test_path", "test_fraction")
    cut = "seed" in choice_of_test_set(**{name: options[name] for name in names}, seed=seed)
    if is_reference(options["name"]):  # nobody knows what a user's function does with it
        return True
    return cut or 0 < options["max_train_examples"] == len(dataset.train.labels)


def _check_limits(**limits: int) -> None:
    for field, number in limits.items():
        if number < 0:
            raise UserError(f"config.dataset.{field}: {number}; 0 or above is needed")


def _load_known(
    name: str,
    data_dir: str | Path | None,
    test_path: str | Path | None,
    test_fraction: float,
    seed: int,
    *,
    cache: bool,
) -> Dataset:
    """Loads one of `NAMES`, without limits."""
    if test_path:
        raise UserError(
            f"config.dataset.test_path: '{test_path}' is usable only with data of your own; "
            f"empty is needed, as '{name}' has a test set"
        )
    if name == "digits":
        return _load_digits(test_fraction, seed)
    if name in published.NAMES:
        return _load_published(name, data_dir, cache)
    if is_reference(name):
        right = "its run alone can make it; its images in a file or folder are needed"
        raise UserError(f"config.dataset.name: {name} is a data set of your own, and {right}")
    raise _unknown(name)


def check_name(name: str) -> None:
    """Refuses a data set that is neither known nor there; what is there is not read.

    Published sets that are not on disk are not refused, as they are downloaded when they are read.

    Args:
      name: as for `load`.

    Raises:
      UserError: the name is unknown, or a path at which nothing lies.
    """
    if _is_there(name):
        return
    _check_meant(name)
    raise UserError(f"config.dataset.name: {name} does not exist; {sources.NEEDED} is needed")


def _is_there(name: str) -> bool:
    return not sources.is_own(name) or os.path.exists(expand(name, "config.dataset.name"))


def _check_meant(name: str) -> None:
    """Refuses a name that is no path, and a path where nothing lies and a known name is meant."""
    if sources.is_unknown(name):
        raise _unknown(name)
    if not _is_there(name) and (right := _published_as(name)):
        raise UserError(f"config.dataset.name: {name} does not exist; did you mean '{right}'?")


def _unknown(name: str) -> UserError:
    return UserError(f"config.dataset.name: unknown data set '{name}'{_hint(name)}")


def _hint(name: str) -> str:
    own = f"the path of {sources.NEEDED}"
    right = meant(name, NAMES, words.DATASETS)
    if right == words.OWN_DATA:
        return f"; {own} is needed, see docs/data.md"
    return (
        f"; did you mean {right}?" if right else f"; known: {', '.join(sorted(NAMES))} (or {own})"
    )


def _published_as(path: str) -> str:
    """The known data set meant by a name with its owner, such as `ylecun/mnist`; "" if none."""
    last = plain(re.split(r"[/\\]", path)[-1])
    known = {plain(name): name for name in NAMES}
    also = {plain(word): right for word, right in words.DATASETS.items() if right in NAMES}
    return (also | known).get(last, "")


def _load_digits(test_fraction: float, seed: int) -> Dataset:
    """The 1,797 digits of 8 x 8 pixels that are part of scikit-learn."""
    from sklearn.datasets import load_digits  # slow to import

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    everything = Split(images, bunch.target.astype(np.int32), None)
    train, test, _ = splits.cut_test(everything, test_fraction, seed, "digits")
    mean, std = _moments(train.images)
    return Dataset("digits", train, test, 10, tuple("0123456789"), mean, std)


def _load_published(name: str, data_dir: str | Path | None, cache: bool) -> Dataset:
    decoded = published.read(name, data_dir, cache=cache)
    names = tuple(str(label) for label in decoded.class_names)
    mean, std = _PUBLISHED_MOMENTS[name]
    train = Split(decoded.train_images, decoded.train_labels, None)
    test = Split(decoded.test_images, decoded.test_labels, None)
    return Dataset(name, train, test, len(names), names, mean, std)


def _load_own(
    path: str, test_path: str | Path | None, test_fraction: float, seed: int, cut_by: str
) -> Dataset:
    _check_meant(path)
    data = own.read(path, test_path)
    everything = train = Split(*data.train)
    duplicates = 0
    twice: list[str] = []
    if data.test is None:
        train, test, duplicates = splits.cut_test(everything, test_fraction, seed, path, cut_by)
    elif cut_by == "class":
        test = Split(*data.test)
    else:
        test, twice = splits.never_trained(Split(*data.test), train, str(test_path or path))
    mean, std = _moments(train.images)
    cut = f"config.dataset.test_fraction: {test_fraction}"
    names = data.classes.names
    gone = lost.after_cut(everything, train, names, data.client_names, cut)
    unsure = splits.labelled_twice(everything, names, path)
    lines = [*data.lines, *unsure, *twice, *gone]
    wanted = round(test_fraction * len(everything.labels))
    if data.test is None and len(test.labels) < 0.9 * wanted:
        why = ["every client and class keeps one to train on"]
        if duplicates:
            are = "image is a copy" if duplicates == 1 else "images are copies"
            kept = why if len(test.labels) + duplicates < wanted else []
            why = [f"{duplicates} {are} of training images", *kept]
        lines.append(
            f"{cut} of {len(everything.labels)} examples would be {wanted}, but the test set has "
            f"{len(test.labels)}, as {' and '.join(why)}"
        )
    return Dataset(
        name=path,
        train=train,
        test=test,
        num_classes=len(names),
        class_names=names,
        mean=mean,
        std=std,
        lost=tuple(lines),
        named=data.classes.named,
        client_names=data.client_names,
        raw_labels=data.classes.raw,
        numbers=data.classes.numbers,
    )


def _moments(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in units of `to_unit`.

    A constant channel gets a positive minimum instead of 0: one grey level for uint8, 1 for floats.
    """
    scale = 255.0 if images.dtype == np.uint8 else 1.0
    count = images[..., 0].size
    chunks = [images[i : i + _CHUNK] for i in range(0, len(images), _CHUNK)]
    axes = (0, 1, 2)
    mean = sum(chunk.sum(axis=axes, dtype=np.float64) for chunk in chunks) / count / scale
    # A second pass over differences is exact where the mean is much larger than the deviations.
    square = sum(((chunk / scale - mean) ** 2).sum(axis=axes) for chunk in chunks) / count
    std = np.sqrt(square)
    if images.dtype == np.uint8:
        std = np.maximum(std, 1 / 255)
    else:
        std = np.where(std > 1e-6 * np.abs(mean), std, 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())
