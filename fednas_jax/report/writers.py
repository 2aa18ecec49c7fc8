"""The file of JSON lines with the metrics of each round."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import plain, reason, write_atomic

Row = Mapping[str, Any]
"""The metrics of one round: name -> number, or None where it was not measured."""


class MetricsFile:
    """metrics.jsonl: one JSON object for each round, on the disk before the next round starts."""

    def __init__(self, path: Path | str) -> None:
        """Args: path, of the file; its folder exists. Nothing is written yet."""
        self.path = Path(path)

    def append(self, row: Row) -> bytes:
        """Adds a round's metrics; values that are not finite are written as null.

        Returns:
          The line.

        Raises:
          UserError: the file cannot be written.
        """
        line = _encode(row)
        try:
            with self.path.open("ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({reason(error, self.path)})"
            ) from error
        return line

    def rewrite(self, rows: Iterable[Row]) -> bytes:
        """Replaces the content of the file by `rows`, whole or not at all.

        It is called when a run resumes, since the file may hold rounds after the checkpoint, and
        its last line may be incomplete.

        Returns:
          All lines.

        Raises:
          UserError: the file cannot be written.
        """
        lines = b"".join(_encode(row) for row in rows)
        write_atomic(self.path, lines)
        return lines


def read_rows(path: Path | str) -> list[dict[str, Any]]:
    """Reads metrics.jsonl, also while a run is writing it: an incomplete last line is left out.

    Raises:
      UserError: the file cannot be read, or another line is not a JSON object.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    rows = []
    for number, line in enumerate(lines[:-1], start=1):  # the last line is empty or incomplete
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: line {number} is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}: line {number} must be an object, the metrics of a round")
        rows.append(row)
    return rows


def _encode(row: Row) -> bytes:
    return (json.dumps(plain(row), allow_nan=False) + "\n").encode()
