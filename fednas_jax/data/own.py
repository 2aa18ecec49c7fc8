"""A user's own data as arrays, checked, in the types that runs compute with."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from fednas_jax.data import image_axes, npz_keys, text
from fednas_jax.data import labels as own_labels
from fednas_jax.data.labels import Classes
from fednas_jax.runtime.errors import UserError, warn_once
from fednas_jax.runtime.paths import expand

SMALLEST_SIDE = 8  # pixels; after two reduction cells, 2 x 2 remain
_SAME: Mapping[str, str] = MappingProxyType({})
_OF_TRAINING = "the training data's classes"


class Examples(NamedTuple):
    """images [N, H, W, C] uint8 or float32, labels [N] int32, client [N] int32 or None."""

    images: np.ndarray
    labels: np.ndarray
    client: np.ndarray | None


class Own(NamedTuple):
    """A user's own data; `test` is None where a test set must be split off `train`."""

    train: Examples
    test: Examples | None
    classes: Classes
    client_names: tuple[str, ...]
    """The name of each number in `client`; () where the data have numbers, or no clients."""
    lines: tuple[str, ...]
    """What is not as it is in the data, one line each."""


class Labelled(NamedTuple):
    """Examples as `labels.column` returns them, in which classes may be missing.

    labels [N] and client [N] are int64 or text; client is None where there are no clients, and
    class_names is None where the data have none. width is the number of classes of one-hot labels,
    else 0.
    """

    images: np.ndarray
    labels: np.ndarray
    client: np.ndarray | None
    class_names: tuple[str, ...] | None = None
    width: int = 0


def read(path: str | Path, test_path: str | Path | None = None) -> Own:
    """Reads and checks a user's own data.

    Args:
      path: an .npz file with `images` [N, H, W, C] or [N, H, W], uint8 or float; `labels` [N], in
        any form that `labels.column` takes, with at least 2 classes; and optionally `client` [N],
        numbers or text, `class_names` [classes] text, `test_images`, `test_labels`, `test_client`.
        The names of Keras (`x_train`, ...) and MedMNIST (`train_images`, ...) are known, too.
      test_path: another such file, whose examples are the test set. `labels.as_of` says what its
        labels mean.

    Raises:
      UserError: the file is not usable; names the file, the key and what would be right.
    """
    path = expand(path, "config.dataset.name")
    found = npz_keys.read(path, "config.dataset.name")
    train = checked(found.arrays, "", path, found.called)
    names = _class_names(found.arrays, path)
    numbers, classes, lines = own_labels.first(
        train.labels, names, found.where("labels"), train.width
    )
    test = _test_file(test_path, train, classes) if test_path else _in_same(found, train, classes)
    (of_train, of_test), client_names = own_labels.clients(
        train.client, None if test is None else test.client
    )
    return Own(
        Examples(train.images, numbers, of_train),
        None if test is None else Examples(test.images, test.labels, of_test),
        classes,
        client_names,
        (*found.lines, *lines),
    )


def _test_file(path: str | Path, train: Labelled, classes: Classes) -> Labelled:
    """The test set from another file, with its labels in the numbering of the training data."""
    field = "config.dataset.test_path"
    path = expand(path, field)
    where = f"{field}: {path}"
    test = read_examples(path, field)
    test = test._replace(images=image_axes.grey_as(test.images, train.images.shape[1:], where))
    labels = own_labels.as_of(
        test.labels, test.class_names, classes, where, _OF_TRAINING, test.width
    )
    check_test(test.images, train.images, f"{path}: each image")
    return test._replace(labels=labels)


def _in_same(found: npz_keys.Found, train: Labelled, classes: Classes) -> Labelled | None:
    """The test set that is in the same data as the training examples; None where there is none."""
    if "test_images" not in found.arrays and "test_labels" not in found.arrays:
        return None
    test = checked(found.arrays, "test_", found.path, found.called)
    where = found.where("test_images")
    test = test._replace(images=image_axes.grey_as(test.images, train.images.shape[1:], where))
    labels = own_labels.in_same(
        test.labels,
        train.labels,
        classes,
        found.where("test_labels"),
        _OF_TRAINING,
        test.width,
    )
    check_test(test.images, train.images, where)
    return test._replace(labels=labels)


def brings_test_set(path: str | Path) -> bool:
    """Whether a user's own data have a test set; False where there is no such file."""
    return npz_keys.brings_test_set(path)


def read_examples(path: str | Path, field: str) -> Labelled:
    """Reads images, labels and, if they are there, clients and class names.

    Args:
      path: an .npz file.
      field: the field or flag with which the user gave it.

    Raises:
      UserError: the file is not usable; names the file, the key and what would be right.
    """
    path = expand(path, field)
    found = npz_keys.read_one(path, field)
    for line in found.lines:
        warn_once(line)
    examples = checked(found.arrays, "", path, found.called)
    return examples._replace(class_names=_class_names(found.arrays, path))


def checked(
    arrays: Mapping[str, np.ndarray],
    prefix: str,
    path: str | Path,
    called: Mapping[str, str] = _SAME,
) -> Labelled:
    """Images as runs compute with them, and one label and client for each.

    Args:
      arrays: `images`, `labels` and, if there is one, `client`; of a test set, `test_images` and so
        on.
      prefix: of the names, "" or "test_".
      path: of the file, or what else to name in an error.
      called: what errors call an array, where it is not its name in quotes.

    Raises:
      UserError: one is missing, or of another type or shape than it has to be.
    """

    def where(key: str) -> str:
        return f"{path}: {npz_keys.shown(key, called)}"

    image_key, label_key, client_key = (f"{prefix}{key}" for key in ("images", "labels", "client"))
    for key in (image_key, label_key):
        if key not in arrays:
            raise UserError(f"{path}: key {npz_keys.shown(key, called)} is missing")
    images = _images(arrays[image_key], where(image_key))
    of = own_labels.column(arrays[label_key], where(label_key), len(images), one_hot=True)
    client = arrays.get(client_key)
    if client is not None:
        client = own_labels.column(client, where(client_key), len(images))
    return Labelled(images, of, client, width=own_labels.width(arrays[label_key]))


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
            f"needed{image_axes.hint(images.shape)}"
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


def check_test(test: np.ndarray, train: np.ndarray, where: str) -> None:
    """Refuses test images that are not like the training images.

    Args:
      test: [M, H, W, C].
      train: [N, H, W, C].
      where: file and key of the test images, for error messages.
    """
    if test.shape[1:] != train.shape[1:]:
        raise UserError(
            f"{where} is {test.shape[1:]}; the training images are {train.shape[1:]}; "
            f"equal shapes are needed{image_axes.hint(test.shape, train.shape[1:])}"
        )
    if test.dtype != train.dtype:
        raise UserError(
            f"{where} is {test.dtype}; the training images are {train.dtype}; equal types "
            "are needed"
        )


def _class_names(arrays: Mapping[str, np.ndarray], path: str | Path) -> tuple[str, ...] | None:
    """The class names in a file; None where it has none."""
    if "class_names" not in arrays:
        return None
    where = f"{path}: 'class_names'"
    names = text.of(arrays["class_names"], where)
    if names.dtype.kind != "U" or names.ndim != 1:
        raise UserError(
            f"{where} is {names.dtype} of shape {names.shape}; text of shape [classes], one name "
            "for each class, is needed"
        )
    return text.class_names(names.tolist(), where)
