"""The rows of a run beside its checkpoints, each written once however many checkpoints there are.

A checkpoint that held all rows so far would grow by the round, and what a run writes in all by the
square of its rounds. So `checkpoints/rows.jsonl` holds them, and a checkpoint holds a mark: how
long the file was, and the SHA-256 of that. metrics.jsonl begins with the same bytes, so that where
one of the two is lost or damaged the other serves.
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
"""Of the mark, in what a checkpoint says besides its arrays."""


class Ledger:
    """The file, which one process goes on with."""

    def __init__(self, path: Path, so_far: bytes) -> None:
        """Brings the file to the rows of a checkpoint.

        Args:
          path: the file; its folder is made when there is something to write.
          so_far: the lines of the rounds done. What the file holds behind them stays until the
            next: it does no harm, and a checkpoint that is put back may be of it.

        Raises:
          UserError: it cannot be written.
        """
        self._path = path
        self._digest, self._length = hashlib.sha256(so_far), len(so_far)
        if so_far and _beginning(path, len(so_far)) != so_far:
            _make_folder(path)
            write_atomic(path, so_far)

    def append(self, line: bytes) -> None:
        """Adds a round's line, which a lost disk cache may take until the next `mark`.

        Raises:
          UserError: it cannot be written.
        """
        self._write(line)
        self._digest.update(line)
        self._length += len(line)

    def mark(self) -> dict[str, Any]:
        """Waits until all lines are on the disk.

        Returns:
          What a checkpoint is to say under `KEY`.

        Raises:
          UserError: they cannot be written.
        """
        self._write(b"", wait=True)
        return {"bytes": self._length, "sha256": self._digest.hexdigest()}

    def _write(self, line: bytes, *, wait: bool = False) -> None:
        """Writes behind the lines so far, in the place of what is there."""
        _make_folder(self._path)
        try:
            with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o666), "wb") as file:
                file.truncate(self._length)  # behind it: rounds that are repeated, or half a line
                file.seek(self._length)
                file.write(line)
                if wait:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(self._path, error) from error


def with_rows(extra: Any, *paths: Path) -> Any:
    """What a checkpoint says besides its arrays, with `rows` in the place of their mark.

    Args:
      extra: as a run saved it; one of an earlier version holds the rows itself.
      paths: files that may begin with them.

    Returns:
      None where none of the files does.
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
    """Whether what a checkpoint says, with its rows, is what a run writes after a round.

    Args:
      extra: as `with_rows` returns it.
      number: of the round.
    """
    if not isinstance(extra, dict) or not {"rows", "costs", IN_CHECKPOINT} <= extra.keys():
        return False
    rows = extra["rows"]
    if not isinstance(rows, list) or not rows or not isinstance(extra["costs"], dict):
        return False
    return isinstance(rows[-1], dict) and rows[-1].get("round") == number


def _beginning(path: Path, length: int) -> bytes:
    """At most so many bytes of a file; none of one that cannot be read."""
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
