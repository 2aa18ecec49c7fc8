"""Writing files whole or not at all, and reading JSON with errors that name the file."""

import errno
import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.paths import expand


def write_atomic(path: Path | str, content: bytes) -> None:
    """Writes `content` so that the file is never incomplete, not even if the process is killed.

    Args:
      path: the file; its folder exists.
      content: the bytes of the file.

    Raises:
      UserError: the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written ({reason(error, path)})") from error


def reason(error: OSError, path: Path, needed_bytes: int = 0) -> str:
    """Why a file cannot be written; for a full disk, also how much space to free.

    Args:
      error: the error of the system.
      path: the file or folder to be written, in a folder that exists.
      needed_bytes: the space it needs; 0 where that is little.
    """
    text = error.strerror or " ".join(str(error).split())
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return text
    free = shutil.disk_usage(path.parent).free
    more = f"at least {max(1, needed_bytes - free) / 1e6:.1f} MB" if needed_bytes else "some MB"
    return f"{text}; free {more} on the disk of {path.parent}, and repeat the command"


def make_folder(path: Path | str, field: str) -> Path:
    """Creates a folder and its parents.

    Args:
      path: the path as the user wrote it.
      field: the field or flag with which the user gave it.

    Raises:
      UserError: the folder cannot be created or written, or a file has that path.
    """
    folder = expand(path, field)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{field}: the folder {folder} cannot be created ({error.strerror}); another is needed"
        ) from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"{field}: {folder} cannot be written; another folder is needed")
    return folder


def write_json(path: Path | str, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    write_atomic(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path | str, right: str = "a whole JSON file is needed") -> Any:
    """Reads a JSON file.

    Args:
      path: the file.
      right: the end of the error's line, which says what is needed.

    Raises:
      UserError: the file is missing, unreadable, or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {right}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a JSON file ({error}); {right}") from error


def check_format(given: Any, newest: int, source: Path | str) -> None:
    """Refuses a file of a later version of this program.

    Args:
      given: number of the file's format.
      newest: number of the format that this version writes; it reads all formats from 1 on.
      source: the file, for error messages.

    Raises:
      UserError: the format is later, or is not a number.
    """
    if not (isinstance(given, int) and 1 <= given <= newest):
        raise UserError(
            f"{source}: written in format {given}; format {newest} or an earlier one is needed, or "
            "the version of fednas_jax that wrote the file"
        )


def plain(value: Any) -> Any:
    """Converts a value to strict JSON: arrays to lists, numbers that are not finite to None."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # scalars and arrays of NumPy and JAX
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
