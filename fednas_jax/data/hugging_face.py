"""Reads a Hugging Face data set of images that `save_to_disk` has written.

The package `datasets` opens the folder; images are decoded here, so that no image is fetched from
an address and all sources have the same rules. Tried with `datasets` 3.0.0 and
5.2.0.
"""

import importlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from fednas_jax.data import image_table
from fednas_jax.data.image_table import Part
from fednas_jax.data.images import Picture
from fednas_jax.runtime import extras
from fednas_jax.runtime.errors import UserError, listed, one_line, warn_once

_OF_ONE, _OF_SEVERAL = ("state.json", "dataset_info.json"), "dataset_dict.json"
_IMAGE_NAMES = ("image", "img")
_LABEL_NAMES = ("label", "labels", "class", "target")
_CLIENT_NAMES = ("client", "client_id", "user_id", "writer_id")
_INSTALL = "pip install datasets"
_ROWS = 64  # whose encoded images are in memory at a time


class _Columns(NamedTuple):
    """The names of the columns that are read; `client` is "" where there is none."""

    image: str
    label: str
    client: str


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` has written a folder, of one split or of several."""
    several = os.path.isfile(folder / _OF_SEVERAL)
    return several or all(os.path.isfile(folder / one) for one in _OF_ONE)


def read(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a `Dataset`, or of the splits `train` and `test` of a `DatasetDict`.

    The image column is the one with the feature `Image`; the label column the one with the feature
    `ClassLabel`, or the one named label, labels, class or target; the client column the one named
    client, client_id, user_id or writer_id.

    Returns:
      As `image_table.arrays`, and `class_names` of a `ClassLabel`.

    Raises:
      UserError: `datasets` is not installed, columns are missing or ambiguous, a label is missing,
        or as `images.read`.
    """
    loaded = _loaded(folder, _library(folder))
    splits = dict(loaded) if isinstance(loaded, Mapping) else {"train": loaded}
    if "train" not in splits:
        raise UserError(
            f"{folder}: has the splits {listed(splits)}; a split train, or the folder of one of "
            "them, is needed"
        )
    if left := [name for name in splits if name not in ("train", "test")]:
        warn_once(f"{folder}: the splits {listed(left)} are left out; train and test are read")
    columns = _columns(splits["train"].features, folder)
    names = getattr(splits["train"].features[columns.label], "names", None)
    try:
        parts = {
            name: _part(splits[name], columns, names, f"{folder}: split {name}")
            for name in ("train", "test")
            if name in splits
        }
        found = image_table.arrays(parts["train"], parts.get("test"), str(folder))
    except UserError:
        raise
    except Exception as error:  # of any type: of the library, while it reads the folder's tables
        raise _unusable(folder, error) from error
    return found if names is None else found | {"class_names": np.array(names, str)}


def brings_test_set(folder: Path) -> bool:
    """Whether a saved data set has a split `test` beside others."""
    try:
        return "test" in json.loads((folder / _OF_SEVERAL).read_text())["splits"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _library(folder: Path) -> ModuleType:
    """The package `datasets`; not a folder of this name in the current one."""
    spec = importlib.util.find_spec("datasets")
    how = extras.command("hugging_face") if extras.missing("hugging_face") else _INSTALL
    needed = f"the package `datasets`, which reads it, is needed: {how}"
    if spec is None or spec.origin is None:
        raise UserError(f"{folder}: is a Hugging Face data set; {needed}")
    library = importlib.import_module("datasets")
    if not hasattr(library, "load_from_disk"):
        raise UserError(
            f"{folder}: is a Hugging Face data set; {needed}, and {spec.origin}, which has the "
            "same name, out of the way"
        )
    return library


def _loaded(folder: Path, library: ModuleType) -> Any:
    """The data set, or a mapping from the names of splits to data sets; images not decoded."""
    try:
        loaded = library.load_from_disk(str(folder.resolve()))
        splits = dict(loaded) if isinstance(loaded, Mapping) else {"": loaded}
        encoded = {
            name: _encoded(split.with_format(None), library) for name, split in splits.items()
        }
        return encoded if isinstance(loaded, Mapping) else encoded[""]
    except Exception as error:  # of any type, as in `read`
        raise _unusable(folder, error) from error


def _encoded(split: Any, library: ModuleType) -> Any:
    """The data set with its images as the bytes or paths of their files."""
    for name, feature in split.features.items():
        if type(feature).__name__ == "Image":
            split = split.cast_column(name, library.Image(decode=False))
    return split


def _unusable(folder: Path, error: Exception) -> UserError:
    return UserError(
        f"{folder}: `datasets` cannot read it ({type(error).__name__}: {one_line(error)}); a "
        "folder that save_to_disk has written is needed"
    )


def _columns(features: Mapping[str, Any], folder: Path) -> _Columns:
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    shown = listed(f"{name} ({kind})" for name, kind in kinds.items())

    def one(what: str, candidates: list[str], preferred: tuple[str, ...], right: str) -> str:
        named = [name for name in candidates if name.lower() in preferred]
        chosen = candidates if len(candidates) == 1 else named
        if len(chosen) != 1:
            some = f"several {what} columns ({listed(candidates)})" if candidates else ""
            raise UserError(
                f"{folder}: has {some or f'no {what} column'}; its columns are {shown}; {right}"
            )
        return chosen[0]

    def called(names: tuple[str, ...]) -> list[str]:
        return [name for name in features if name.lower() in names]

    of_images = [name for name, kind in kinds.items() if kind == "Image"]
    image = one("image", of_images, _IMAGE_NAMES, "one of the type Image is needed")
    of_classes = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    label = one(
        "label",
        of_classes or called(_LABEL_NAMES),
        ("label",),
        "one of the type ClassLabel, or one named label, is needed (see rename_column)",
    )
    clients = called(_CLIENT_NAMES)
    client = one("client", clients, ("client",), "one named client is needed") if clients else ""
    return _Columns(image, label, client)


def _part(split: Any, columns: _Columns, names: list[str] | None, where: str) -> Part:
    """The images of a split; refuses one without rows, or of other columns than the first.

    Args:
      split: the data set.
      columns: those that are read.
      names: of its classes; None where its labels have no names.
      where: what errors call it.
    """
    if lacking := [name for name in columns if name and name not in split.features]:
        raise UserError(f"{where} has no column {listed(lacking)}; the same columns are needed")
    if getattr(split.features[columns.label], "names", None) != names:
        raise UserError(f"{where}: its label has other classes than that of train; the same needed")
    if not len(split):
        raise UserError(f"{where} has no rows; at least one is needed")
    labels = _values(split, columns.label, where)
    if names is not None and labels.min() < 0:
        raise UserError(
            f"{where}: row {int(np.argmin(labels))} has label {labels.min()}, which stands for "
            "none; a label for each row is needed"
        )
    client = _values(split, columns.client, where) if columns.client else None
    return Part(_pictures(split, columns.image, where), labels, client)


def _values(split: Any, name: str, where: str) -> np.ndarray:
    """[N] integers or text of a column."""
    values = list(split.select_columns([name])[:][name])
    if None in values:
        raise UserError(f"{where}: row {values.index(None)} has no {name}; one is needed")
    array = np.array(values)
    if array.ndim != 1 or array.dtype.kind not in "iuU":
        raise UserError(
            f"{where}: column {name} is {array.dtype} of rank {array.ndim}; integers or text of "
            "rank 1 are needed"
        )
    return array


def _pictures(split: Any, name: str, where: str) -> Iterator[Picture]:
    """The images of a column, in order."""
    only = split.select_columns([name])
    for start in range(0, len(split), _ROWS):
        for i, image in enumerate(only[start : start + _ROWS][name], start):
            called = f"{where}, row {i}"
            file: dict[str, Any] = image or {}
            content, path = file.get("bytes"), file.get("path")
            if content is None and path is None:
                raise UserError(f"{called} has no image; one is needed")
            yield Picture(called, Path(str(path)) if content is None else content)
