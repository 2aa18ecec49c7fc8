"""Files written whole or not at all, and JSON read with an error that names the file."""

import errno
import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fednas_jax.errors import UserError
from fednas_jax.paths import expand


def write_atomic(path: Path | str, content: bytes) -> None:
    """Writes `content` so that a reader, or a kill, never meets half of it.

    Args:
      path: the file; its folder exists.
      content: all of its bytes.

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
    """Why something cannot be written; of a full disk, what has to be freed.

    Args:
      error: what the system said.
      path: of what is written; its folder exists.
      needed_bytes: what it takes; 0 where that is little.
    """
    text = error.strerror or " ".join(str(error).split())
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return text
    free = shutil.disk_usage(path.parent).free
    more = f"at least {max(1, needed_bytes - free) / 1e6:.1f} MB" if needed_bytes else "some MB"
    return f"{text}; free {more} on the disk of {path.parent}, and the same command goes on"


def make_folder(path: Path | str, field: str) -> Path:
    """Makes a folder, and those it lies in.

    Args:
      path: as a user writes it.
      field: where the user gave it.

    Raises:
      UserError: it cannot be made or written, or a file is there.
    """
    folder = expand(path, field)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{field}: {folder} cannot be made a folder ({error.strerror}); another is needed"
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
      right: what would be right where it is not, the end of the error's line.

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
    """Refuses what was written by a later version of this program.

    Args:
      given: the format's number, as read.
      newest: the one that this version writes; those from 1 on are read.
      source: what to call it in an error.

    Raises:
      UserError: it is later, or no number.
    """
    if not (isinstance(given, int) and 1 <= given <= newest):
        raise UserError(
            f"{source}: written in format {given}; format {newest} is needed, or one before it, "
            "so take the version of fednas_jax that wrote it"
        )


def plain(value: Any) -> Any:
    """The value as strict JSON has it: arrays as lists, what is not finite as None."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's and jax's scalars and arrays
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
