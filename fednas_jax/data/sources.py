"""A user's own data as arrays, whatever file or folder holds them."""

import os
from collections.abc import Collection
from pathlib import Path

import numpy as np

from fednas_jax.data.npz import read_npz

_SUFFIXES = (".npz",)


def is_own(name: str | Path) -> bool:
    """Whether a data set's name is the path of a user's own file, rather than a known name."""
    return str(name).endswith(_SUFFIXES)


def real(name: str) -> str:
    """The absolute path, without links, of a user's own file; another name as it is."""
    return os.path.realpath(os.path.expanduser(name)) if is_own(name) else name


def read(
    path: Path, keys: Collection[str], *, required: Collection[str] = (), field: str = ""
) -> dict[str, np.ndarray]:
    """The arrays of a user's own data, by the names that `own.read` describes.

    Arguments and errors as of `npz.read_npz`.
    """
    return read_npz(path, keys, required=required, field=field)
