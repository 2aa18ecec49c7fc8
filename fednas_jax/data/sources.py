"""A user's own data as arrays, whatever file or folder holds them."""

import os
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fednas_jax.data import hugging_face, image_csv, image_folder, published
from fednas_jax.data.npz import read_npz
from fednas_jax.runtime import user_code
from fednas_jax.runtime.errors import UserError

KNOWN = ("digits", *published.NAMES)
"""Names of data sets, which are never those of a user's file or folder."""
NEEDED = "an .npz file, a .csv file, or a folder of images or of a Hugging Face data set"


class _Kind(NamedTuple):
    """A kind of file or folder."""

    read: Callable[[Path], dict[str, np.ndarray]]
    brings_test_set: Callable[[Path], bool]
    to_test: str
    """How to name only some of its examples, where it has training and test examples."""
    called: Mapping[str, str]
    """Name of an array -> what errors call it."""


_CSV = _Kind(
    image_csv.read,
    image_csv.brings_test_set,
    "a .csv file without a column 'split'",
    {
        "images": "each image",
        "labels": "column 'label'",
        "test_images": "each test image",
        "test_labels": "column 'label' of the test rows",
    },
)
_FOLDER = _Kind(
    image_folder.read,
    image_folder.brings_test_set,
    "the path of its folder train or test",
    {
        "images": "each image",
        "labels": "the set of class folders",
        "test_images": "each image in the folder test",
        "test_labels": "the set of class folders in the folder test",
    },
)
_HUGGING_FACE = _Kind(
    hugging_face.read,
    hugging_face.brings_test_set,
    "the path of its folder train or test",
    {
        "images": "each image",
        "labels": "the label column",
        "test_images": "each image of the split test",
        "test_labels": "the label column of the split test",
    },
)


def is_own(name: str | Path) -> bool:
    """Whether a data set's name can only be the path of a user's own file or folder.

    All names are, but those that are known (`./digits` is a folder) and those that refer to a
    user's code. What exists is not asked: a run's data may have been moved since.
    """
    text = str(name)
    return bool(text) and text not in KNOWN and not user_code.is_reference(text)


def is_unknown(name: str) -> bool:
    """Whether a name is neither known nor a path: it has not the form of one, and nothing has this
    name."""
    return is_own(name) and not user_code.is_path(name) and not os.path.exists(name)


def real(name: str) -> str:
    """The absolute path, without links, of a user's own file; another name as it is."""
    return os.path.realpath(os.path.expanduser(name)) if is_own(name) else name


def read(
    path: Path, keys: Collection[str], *, required: Collection[str] = (), field: str = ""
) -> dict[str, np.ndarray]:
    """The arrays of a user's own data, by the names that `own.read` describes.

    Labels and clients of other sources than .npz files are integers or text.

    Args:
      path: an .npz file, or what else `NEEDED` says.
      keys: names of the arrays to read, if present.
      required: those of `keys` that must be present.
      field: the field or flag with which the user gave the path.

    Raises:
      UserError: as `npz.read_npz` or the reader of the source; or it has training and test
        examples, and `keys` has no test examples.
    """
    kind = _kind(path)
    if kind is None:
        _check_npz(path, field)
        return read_npz(path, keys, required=required, field=field)
    if "test_images" not in keys and kind.brings_test_set(path):
        right = f"{kind.to_test} is needed"
        if field == "--npz":
            right += f"; --dataset={path} scores its test examples"
        raise UserError(f"{field}: {path} has training and test examples; {right}")
    return {name: array for name, array in kind.read(path).items() if name in keys}


def is_npz(path: str | Path) -> bool:
    """Whether a user's own data are read as an .npz file."""
    return _kind(Path(path)) is None


def called(path: str | Path) -> Mapping[str, str]:
    """Name of each array -> what errors call it; empty for an .npz file."""
    kind = _kind(Path(path))
    return {} if kind is None else kind.called


def brings_test_set(path: str | Path) -> bool:
    """Whether a .csv file or a folder has a test set; False where it cannot be read."""
    kind = _kind(Path(path))
    try:
        return kind is not None and kind.brings_test_set(Path(path))
    except UserError:
        return False


def _kind(path: Path) -> _Kind | None:
    """The kind of a user's data; None for an .npz file, and for what does not exist."""
    if os.path.isdir(path):  # False, where Path.is_dir raises
        return _HUGGING_FACE if hugging_face.is_saved(path) else _FOLDER
    return _CSV if path.suffix.lower() == ".csv" and os.path.exists(path) else None


def _check_npz(path: Path, field: str) -> None:
    """Refuses a path that is no .npz file by its name and its content."""
    if path.suffix.lower() == ".npz":
        return  # `read_npz` says what is wrong with it
    if not os.path.exists(path):
        raise UserError(f"{field}: {path} does not exist; {NEEDED} is needed")
    if os.path.isfile(path) and os.access(path, os.R_OK) and not zipfile.is_zipfile(path):
        raise UserError(f"{field}: {path} is another kind of file; {NEEDED} is needed")
