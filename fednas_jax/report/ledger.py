"""The rows of a run in a file beside its checkpoints, so that each row is written only once.

If every checkpoint held all rows so far, a run would write an amount that grows with the square of
its rounds. So `checkpoints/rows.jsonl` holds the rows, and a checkpoint holds a mark: the file's
length and SHA-256 when the checkpoint was written. metrics.jsonl begins with the same bytes, so if
one of the two files is lost or damaged, the other is used.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from fednas_jax.report.findings import IN_CHECKPOINT
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import reason, write_atomic

FILE = "rows.jsonl"
KEY = "rows_held"
"""The name of the mark in the `extra` of a checkpoint."""


class Ledger:
    """The file `checkpoints/rows.jsonl`; one process writes it."""

    def __init__(self, path: Path, so_far: bytes) -> None:
        """Makes the file begin with the rows of a checkpoint.

        Args:
          path: the file; its folder is made when there is something to write.
          so_far: the lines of the finished rounds. Later lines in the file stay until the next
            round is appended, in case a later checkpoint is put back.

        Raises:
          UserError: the file cannot be written.
        """
        self._path = path
        self._digest, self._length = hashlib.sha256(so_far), len(so_far)
        if so_far and _beginning(path, len(so_far)) != so_far:
            _make_folder(path)
            write_atomic(path, so_far)

    def append(self, line: bytes) -> None:
        """Appends a round's line. It may be lost in a crash of the machine before the next `mark`.

        Raises:
          UserError: the file cannot be written.
        """
        self._write(line)
        self._digest.update(line)
        self._length += len(line)

    def mark(self) -> dict[str, Any]:
        """Waits until all lines are on the disk.

        Returns:
          The mark, which a checkpoint holds under `KEY`.

        Raises:
          UserError: the file cannot be written.
        """
        self._write(b"", wait=True)
        return {"bytes": self._length, "sha256": self._digest.hexdigest()}

    def _write(self, line: bytes, *, wait: bool = False) -> None:
        """Writes after the lines so far, and removes everything that was there."""
        _make_folder(self._path)
        try:
            with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o666), "wb") as file:
                file.truncate(self._length)  # after it: rounds that are repeated, or half a line
                file.seek(self._length)
                file.write(line)
                if wait:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(self._path, error) from error


def with_rows(extra: Any, *paths: Path) -> Any:
    """The `extra` of a checkpoint, with `rows` in place of their mark.

    Args:
      extra: as a run saved it; that of an earlier version contains the rows.
      paths: files that may begin with the rows.

    Returns:
      None if none of the files begins with them.
    """
    if not isinstance(extra, dict) or KEY not in extra:
        return extra
    mark = extra[KEY]
    length = mark.get("bytes") if isinstance(mark, dict) else None
    if not isinstance(length, int) or length < 0:
        return None
    for path in paths:
        content = _beginning(path, length)
        if hashlib.sha256(content).hexdigest() == mark.get("sha256"):
            rows = [json.loads(line) for line in content.split(b"\n")[:-1]]
            return {name: value for name, value in extra.items() if name != KEY} | {"rows": rows}
    return None


def is_of_round(extra: Any, number: int) -> bool:
    """Whether the `extra` of a checkpoint, with its rows, is one that a run writes after a round.

    Args:
      extra: as `with_rows` returns it.
      number: number of the round.
    """
    if not isinstance(extra, dict) or not {"rows", "costs", IN_CHECKPOINT} <= extra.keys():
        return False
    rows = extra["rows"]
    if not isinstance(rows, list) or not rows or not isinstance(extra["costs"], dict):
        return False
    return isinstance(rows[-1], dict) and rows[-1].get("round") == number


def _beginning(path: Path, length: int) -> bytes:
    """The first `length` bytes of a file, or all if it is shorter; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(min(length, path.stat().st_size))
    except OSError:
        return b""


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be written ({reason(error, path)})")
