"""Reads arrays from an .npz file of any origin; it loads no pickle and raises only `UserError`."""

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fednas_jax.runtime.errors import UserError, listed

# The errors of zipfile, zlib and numpy for damaged or foreign files (found by flipping bytes).
_DAMAGE = (
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,  # an encrypted member; as NotImplementedError, an unknown compression
    OverflowError,
    MemoryError,  # a damaged header that promises a huge array
    struct.error,
    tokenize.TokenError,  # a header that is no Python literal
    zipfile.BadZipFile,
    zlib.error,
)


def read_npz(
    path: Path | str, keys: Collection[str], *, required: Collection[str] = (), field: str = ""
) -> dict:
    """Reads some arrays of an .npz file, and checks the checksums of the zip archive.

    Args:
      path: the file.
      keys: names of the arrays to read, if present; other arrays are not read.
      required: those of `keys` that must be present.
      field: the field or flag with which the user gave the path; "" where no user did.

    Returns:
      Arrays by key.

    Raises:
      UserError: the file is missing, unreadable, damaged or not an .npz file, it has pickled
        objects, or a required key is missing.
    """
    try:
        # Opened here because np.load does not close a damaged file.
        with Path(path).open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise UserError(f"{path}: not an .npz file, or a truncated one")
            file.seek(0)
            return _read_members(file, path, keys, required)
    except OSError as error:
        source = f"{field}: {path}" if field else f"{path}:"
        raise UserError(f"{source} cannot be read ({error.strerror or error})") from error


def _read_members(
    file: BinaryIO, path: Path | str, keys: Collection[str], required: Collection[str]
) -> dict:
    arrays = {}
    key = ""
    try:
        with np.load(file, allow_pickle=False) as members:
            for key in required:
                if key not in members.files:
                    raise UserError(
                        f"{path}: key '{key}' is missing; {_listed(required)} needed; the file has "
                        + (listed(map(repr, members.files)) or "no array")
                    )
            for key in [name for name in members.files if name in keys]:
                arrays[key] = members[key]
                if not isinstance(arrays[key], np.ndarray):  # a member that is not an .npy
                    raise UserError(f"{path}: key '{key}' is not an array")
    except _DAMAGE as error:
        what = f"key '{key}'" if key else "the file"
        if "pickle" in str(error) or "Object arrays" in str(error):
            raise UserError(
                f"{path}: {what} holds pickled objects; a plain array is needed, such as, for "
                "text, np.array(values, dtype=str)"
            ) from error
        raise UserError(f"{path}: {what} is damaged; a whole .npz is needed") from error
    return arrays


def _listed(names: Collection[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return f"{quoted[0]} is" if len(quoted) == 1 else f"{' and '.join(quoted)} are"
