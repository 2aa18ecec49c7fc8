"""A user's own data, from an .npz file."""

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fednas_jax.data import class_names, sources
from fednas_jax.runtime.errors import UserError, listed, warn
from fednas_jax.runtime.paths import expand

SMALLEST_SIDE = 8  # pixels; after two reduction cells, 2 x 2 remain
_KEYS = ("images", "labels", "client", "class_names", "test_images", "test_labels")
_INT32 = np.iinfo(np.int32)


class Examples(NamedTuple):
    """images [N, H, W, C] uint8 or float32, labels [N] int32, client [N] int32 or None."""

    images: np.ndarray
    labels: np.ndarray
    client: np.ndarray | None


class Own(NamedTuple):
    """The content of an .npz file; `test` is None where a test set must be split off `train`."""

    train: Examples
    test: Examples | None
    class_names: tuple[str, ...]
    named: bool
    """Whether the file names its classes; otherwise their names are their numbers."""


class Labelled(NamedTuple):
    """Examples, in which classes may be missing, and class names; None where the file has none."""

    examples: Examples
    class_names: tuple[str, ...] | None


def read(path: str | Path, test_path: str | Path | None = None) -> Own:
    """Reads and checks a user's own data.

    Args:
      path: an .npz file with `images` [N, H, W, C] or [N, H, W], uint8 or float; `labels` [N],
        integers from 0 to classes - 1 without a gap, with at least 2 classes; and optionally
        `client` [N] integers, `class_names` [classes] text, `test_images` and `test_labels`.
      test_path: another such .npz file, whose `images` and `labels` are the test set. If it has
        `class_names`, its labels are matched to those of the first file by name.

    Raises:
      UserError: the file is not usable; names the file, the key and what would be right.
    """
    path = expand(path, "config.dataset.name")
    arrays = sources.read(path, _KEYS, required=("images", "labels"), field="config.dataset.name")
    train = checked(arrays, "", path)
    classes = int(train.labels.max()) + 1
    if classes < 2:
        raise UserError(f"{path}: 'labels' has one class only; at least 2 are needed")
    present = np.unique(train.labels)
    if len(present) < classes:
        gap = np.flatnonzero(present != np.arange(len(present)))[0]
        raise UserError(
            f"{path}: 'labels' has no example of class {gap} but goes up to {classes - 1}; "
            "0 to classes - 1 without a gap are needed"
        )
    names = _class_names(arrays, classes, path)
    test = None
    if test_path:
        test_path = expand(test_path, "config.dataset.test_path")
        test = _test_file(test_path, names or class_names.numbered(classes))
        check_test(test, train, classes, test_path, "")
    elif "test_images" in arrays or "test_labels" in arrays:
        test = checked(arrays, "test_", path)
        check_test(test, train, classes, path, "test_")
    return Own(train, test, names or class_names.numbered(classes), names is not None)


def _test_file(path: Path, names: tuple[str, ...]) -> Examples:
    """The test set from another file, with its labels in the numbering of the training data."""
    test, its_names = read_examples(path, "config.dataset.test_path")
    if its_names is not None:
        where = f"config.dataset.test_path: {path}"
        labels = class_names.matched(
            test.labels, its_names, names, where, "the classes of the training data"
        )
        return test._replace(labels=labels)
    if names != class_names.numbered(len(names)):
        warn(
            f"config.dataset.test_path: {path} has no class_names; its labels are taken as numbers "
            f"of the training data's classes ({listed(names)})"
        )
    return test


def brings_test_set(path: str | Path) -> bool:
    """Whether an .npz file has a test set; False where there is no such file."""
    try:
        with zipfile.ZipFile(path) as file:
            return "test_images.npy" in file.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def read_examples(path: str | Path, field: str) -> Labelled:
    """Reads `images` and `labels`, in which classes may be missing, and `class_names`.

    Args:
      path: an .npz file.
      field: the field or flag with which the user gave it.

    Raises:
      UserError: the file is not usable; names the file, the key and what would be right.
    """
    path = expand(path, field)
    required = _KEYS[:2]
    arrays = sources.read(path, (*required, "class_names"), required=required, field=field)
    examples = checked(arrays, "", path)
    at_least = int(examples.labels.max()) + 1
    return Labelled(examples, _class_names(arrays, at_least, path, more=True))


def checked(arrays: dict[str, np.ndarray], prefix: str, path: str | Path) -> Examples:
    """Images, labels and clients as runs compute with them.

    Args:
      arrays: `images`, `labels` and, if there is one, `client`; or, of a test set, `test_images`
        and `test_labels`.
      prefix: of the names, "" or "test_".
      path: of the file, or what else to name in an error.

    Raises:
      UserError: one is missing, or of another type or shape than it has to be.
    """
    for key in (f"{prefix}images", f"{prefix}labels"):
        if key not in arrays:
            raise UserError(f"{path}: key '{key}' is missing")
    images = _images(arrays[f"{prefix}images"], f"{path}: '{prefix}images'")
    labels = _integers(arrays[f"{prefix}labels"], f"{path}: '{prefix}labels'", len(images))
    if labels.min() < 0:
        raise UserError(f"{path}: '{prefix}labels' has {labels.min()}; 0 to classes - 1 are needed")
    client = None if prefix else arrays.get("client")
    if client is not None:
        client = _integers(client, f"{path}: 'client'", len(images))
    return Examples(images, labels, client)


def _images(images: np.ndarray, where: str) -> np.ndarray:
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise UserError(f"{where} is {images.dtype}; uint8 or float is needed")
    if images.ndim not in (3, 4):
        raise UserError(f"{where} has shape {images.shape}; [N, H, W, C] or [N, H, W] is needed")
    if images.ndim == 3:
        images = images[..., None]
    if 0 in images.shape:
        raise UserError(
            f"{where} is empty, of shape {images.shape}; at least one example is needed"
        )
    if min(images.shape[1:3]) < SMALLEST_SIDE:
        height, width = images.shape[1:3]
        raise UserError(
            f"{where} is {height} x {width} pixels; at least {SMALLEST_SIDE} x {SMALLEST_SIDE} are "
            "needed"
        )
    if images.dtype == np.uint8:
        return images
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, refused below
        images = images.astype(np.float32)
    finite = np.isfinite(images).all(axis=(1, 2, 3))
    if not finite.all():
        raise UserError(
            f"{where} has NaN or infinite pixels, first in example {np.argmin(finite)}; finite "
            "pixels are needed"
        )
    return images


def _integers(values: np.ndarray, where: str, length: int) -> np.ndarray:
    if values.dtype.kind not in "iu" or values.ndim != 1:
        raise UserError(
            f"{where} is {values.dtype} of rank {values.ndim}; integers of rank 1 are needed"
        )
    if len(values) != length:
        raise UserError(
            f"{where} has {len(values)} entries for {length} images; one for each is needed"
        )
    if values.min() < _INT32.min or values.max() > _INT32.max:
        raise UserError(
            f"{where} has {values.min()}..{values.max()}; integers of 32 bits are needed"
        )
    return values.astype(np.int32)


def check_test(
    test: Examples, train: Examples, classes: int, path: str | Path, prefix: str
) -> None:
    """Refuses test examples that are not like the training examples; arguments as of `checked`."""
    if test.images.shape[1:] != train.images.shape[1:]:
        raise UserError(
            f"{path}: '{prefix}images' are {test.images.shape[1:]}; the training images are "
            f"{train.images.shape[1:]}; equal shapes are needed"
        )
    if test.images.dtype != train.images.dtype:
        raise UserError(
            f"{path}: '{prefix}images' is {test.images.dtype}; the training images are "
            f"{train.images.dtype}; equal types are needed"
        )
    if test.labels.max() >= classes:
        raise UserError(
            f"{path}: '{prefix}labels' has {test.labels.max()}; "
            f"the training labels go from 0 to {classes - 1}"
        )


def _class_names(
    arrays: dict[str, np.ndarray], classes: int, path: str | Path, *, more: bool = False
) -> tuple[str, ...] | None:
    """The class names in a file; None where it has none.

    Args:
      arrays: arrays of the file.
      classes: number of classes in its labels.
      path: path of the file.
      more: whether it may have more names than classes.
    """
    names = arrays.get("class_names")
    if names is None:
        return None
    fits = names.ndim == 1 and (len(names) >= classes if more else len(names) == classes)
    if names.dtype.kind != "U" or not fits:
        raise UserError(
            f"{path}: 'class_names' is {names.dtype} of shape {names.shape}; "
            f"text of shape ({classes},){' or longer' if more else ''}, one name for each class, "
            "is needed"
        )
    return tuple(str(name) for name in names)
