"""The names of arrays in an .npz file: ours, and those that Keras and MedMNIST write."""

import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fednas_jax.data import sources
from fednas_jax.runtime.errors import UserError, listed

KEYS = (
    *("images", "labels", "client", "class_names"),
    *("test_images", "test_labels", "test_client"),
)
"""Names of the arrays that `own.read` reads."""

_KERAS = {
    "images": "x_train",
    "labels": "y_train",
    "test_images": "x_test",
    "test_labels": "y_test",
}
_MEDMNIST = {"images": "train_images", "labels": "train_labels"}
_LAYOUTS: tuple[dict[str, str], ...] = ({}, _KERAS, _MEDMNIST)
_VALIDATION = ("val_images", "val_labels", "x_val", "y_val")


def members(path: str | Path) -> tuple[str, ...]:
    """The names of all arrays of an .npz file; () where there is no such file."""
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except (OSError, zipfile.BadZipFile):
        return ()
    return tuple(name.removesuffix(".npy") for name in names if name.endswith(".npy"))


def brings_test_set(path: str | Path) -> bool:
    """Whether an .npz file has a test set; False where there is no such file."""
    there = members(path)
    layout = (*_layouts(there), {})[0]
    return layout.get("test_images", "test_images") in there


def shown(name: str, called: Mapping[str, str]) -> str:
    """What errors call an array; `called` as in `Found`."""
    return called.get(name, f"'{name}'")


class Found(NamedTuple):
    """The arrays of a user's own data, by names in `KEYS`."""

    path: Path
    arrays: dict[str, np.ndarray]
    called: Mapping[str, str]
    """What errors call an array, where it is not our name in quotes."""
    lines: tuple[str, ...] = ()
    """Lines about arrays that are not read."""

    def where(self, name: str) -> str:
        """File and key of an array, for error messages; `name` is ours."""
        return f"{self.path}: {shown(name, self.called)}"


def read(path: Path, field: str) -> Found:
    """The arrays of a user's own data, by our names.

    Args:
      path: the file or folder.
      field: the field with which the user gave it.

    Raises:
      UserError: it cannot be read, images or labels are missing, there are several of them, or
        training and test images are named in different ways.
    """
    there = members(path)
    layouts = _layouts(there)
    if len(layouts) > 1:
        several = " and ".join(f"'{layout.get('images', 'images')}'" for layout in layouts)
        raise UserError(f"{path}: has {several}; training images under one name are needed")
    layout = (*layouts, {})[0]
    _check_test_names(path, layout, there)
    return Found(
        path,
        _renamed(path, layout, KEYS, field),
        _called(path, layout),
        _unread(path, layout, KEYS),
    )


def _check_test_names(path: Path, layout: Mapping[str, str], there: Collection[str]) -> None:
    """Refuses test images under a name that does not go with that of the training images."""
    wanted = layout.get("test_images", "test_images")
    others = {"test_images", _KERAS["test_images"]} - {wanted}
    other = next((name for name in sorted(others) if name in there), None)
    if layout.get("images", "images") not in there or wanted in there or other is None:
        return
    labels = layout.get("test_labels", "test_labels")
    raise UserError(
        f"{path}: has test images '{other}' beside '{layout.get('images', 'images')}'; the test "
        f"set is needed under the names '{wanted}' and '{labels}'"
    )


def _unread(path: Path, layout: Mapping[str, str], names: Collection[str]) -> tuple[str, ...]:
    """A line that names the arrays of a file that are not read; none if all are."""
    read = [layout.get(name, name) for name in names]
    unread = [name for name in members(path) if name not in read]
    if not unread:
        return ()
    line = f"{path}: arrays that are not read: {listed(map(repr, unread))}"
    if any(name in _VALIDATION for name in unread):
        line += "; clients hold out images of their own to select the best round"
    if any(name not in _VALIDATION for name in unread):
        line += f" (names that are read: {', '.join(read)})"
    return (line,)


def read_one(path: Path, field: str) -> Found:
    """`images`, `labels` and, if they are there, `client` and `class_names` of other data.

    A file with one set of images may have it under any of the names, also those of a test set.

    Args:
      path: the file or folder.
      field: the field or flag with which the user gave it.

    Raises:
      UserError: as `read`.
    """
    there = members(path)
    pairs = [("images", "labels"), ("test_images", "test_labels")]
    pairs += [("x_train", "y_train"), ("x_test", "y_test")]
    pairs += [("train_images", "train_labels"), ("val_images", "val_labels")]
    found = [pair for pair in pairs if set(pair) <= set(there)]
    if pairs[0] in found:  # as its own data are described
        found = pairs[:1]
    if len(found) > 1:
        several = " and ".join(f"'{images}'" for images, _ in found)
        right = "one set of images is needed, under 'images' and 'labels'"
        if field == "--npz" and brings_test_set(path):
            right += f"; --dataset={path} scores its test images"
        raise UserError(f"{path}: has {several}; {right}")
    images, labels = (*found, pairs[0])[0]
    layout = {"images": images, "labels": labels}
    if images == "test_images":
        layout["client"] = "test_client"
    arrays = _renamed(path, layout, KEYS[:4], field)
    return Found(path, arrays, _called(path, layout), _unread(path, layout, KEYS[:4]))


def _layouts(there: Collection[str]) -> list[dict[str, str]]:
    """The ways of naming arrays in which a file has training images and labels."""
    return [
        layout
        for layout in _LAYOUTS
        if {layout.get("images", "images"), layout.get("labels", "labels")} <= set(there)
    ]


def _called(path: Path, layout: Mapping[str, str]) -> Mapping[str, str]:
    """What errors call arrays: keys of a layout in quotes, or what a folder or CSV file has."""
    if not sources.is_npz(path):
        return sources.called(path)
    return {name: f"'{key}'" for name, key in layout.items()}


def _renamed(
    path: Path, layout: Mapping[str, str], names: Collection[str], field: str
) -> dict[str, np.ndarray]:
    keys = {layout.get(name, name): name for name in names}
    required = [layout.get(name, name) for name in ("images", "labels")]
    arrays = sources.read(path, keys, required=required, field=field)
    return {keys[key]: array for key, array in arrays.items()}
