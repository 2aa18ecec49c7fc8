"""Reads a CSV file that lists images with their labels and clients."""

import csv
import io
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fednas_jax.data import image_table
from fednas_jax.data.image_table import VALIDATION, Part
from fednas_jax.data.images import Picture
from fednas_jax.runtime.errors import UserError, listed, one_line, warn_once

_NEEDED, _OPTIONAL = ("path", "label"), ("client", "split")
_COLUMNS = "columns path and label, and optionally client and split, are needed"
_SPLITS = "train or test is needed"


class _Row(NamedTuple):
    """A row of the file."""

    line: int
    """Of the file, from 1 on."""
    cells: dict[str, str]
    """Name of the column -> cell, of the columns that are read."""


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a CSV file of images, in the order of its rows.

    The columns are `path`, relative to the file's folder, and `label`; and optionally `client`, and
    `split` with `train` or `test`. Rows with `val`, `valid`, `validation` or `dev` are left out.

    Returns:
      As `image_table.arrays`; labels and clients are integers where all of them are, else text.

    Raises:
      UserError: the file is not such a table, a file in it does not exist, or as `images.read`.
    """
    rows = _rows(path)
    labels = image_table.column([row.cells["label"] for row in rows])
    client = None
    if "client" in rows[0].cells:
        client = image_table.column([row.cells["client"] for row in rows])
    splits = np.array([_split(row, path) for row in rows])
    pictures = _pictures(rows, path)

    def part(name: str) -> Part | None:
        chosen = np.flatnonzero(splits == name)
        if not len(chosen):
            return None
        its = None if client is None else client[chosen]
        return Part([pictures[i] for i in chosen], labels[chosen], its)

    if left := int((splits == "").sum()):
        rows_are = (
            "1 row of a validation split is"
            if left == 1
            else (f"{left} rows of a validation split are")
        )
        warn_once(
            f"{path}: {rows_are} left out, as the best round is "
            "selected on examples that clients hold out"
        )
    train = part("train")
    if train is None:
        raise UserError(f"{path}: column 'split' has no train; rows to train on are needed")
    return image_table.arrays(train, part("test"), str(path))


def brings_test_set(path: Path) -> bool:
    """Whether a CSV file of images has rows of a test set.

    Raises:
      UserError: as `read`.
    """
    return any(_split(row, path) == "test" for row in _rows(path))


def _split(row: _Row, path: Path) -> str:
    """`train`, `test` or, of validation examples, ""."""
    name = row.cells.get("split", "train").lower()
    if name in ("train", "test"):
        return name
    if name in VALIDATION:
        return ""
    raise UserError(f"{path}: line {row.line} has split {row.cells['split']!r}; {_SPLITS}")


def _pictures(rows: Sequence[_Row], path: Path) -> list[Picture]:
    """The image of each row; refuses files that do not exist."""
    found, missing = [], []
    for row in rows:
        file = _file(row.cells["path"], path.parent)
        if not os.path.isfile(file):
            wrong = "is a folder" if os.path.isdir(file) else "does not exist"
            missing.append(f"{path}: line {row.line} names {file}, which {wrong}")
        found.append(Picture(f"{path}: line {row.line}: {file}", file))
    if missing:
        more = f", and {len(missing) - 1} more of {len(rows)} lines" if missing[1:] else ""
        raise UserError(
            f"{missing[0]}{more}; paths of images, relative to {path.parent} or absolute, "
            "are needed"
        )
    return found


def _file(cell: str, folder: Path) -> Path:
    """The path of an image; the path as it was meant where no such file exists."""
    meant = os.path.expanduser(cell)
    for text in dict.fromkeys((cell, meant, meant.replace("\\", "/"))):  # \\: written on Windows
        for form in (text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFD"))):
            if os.path.isfile(folder / form):
                return folder / form
    return folder / meant


def _rows(path: Path) -> list[_Row]:
    """The rows of the file that are not empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            found = list(_parsed(file.read(), path))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({one_line(error)}); a CSV file is needed"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: is not UTF-8; a table saved as UTF-8 is needed, in Excel as 'CSV UTF-8'"
        ) from error
    if not found:
        raise UserError(f"{path}: has no rows; a row for each image is needed")
    return found


def _parsed(content: str, path: Path) -> Iterator[_Row]:
    lines = io.StringIO(content, newline="").readlines()
    first = lines[0] if lines else ""
    stated = re.fullmatch(r"sep=(.)", first.strip())  # a line that Excel writes and reads
    separator = stated[1] if stated else max(",;\t", key=first.count)
    table = _table(lines, int(bool(stated)), separator, path)
    header = next(table)[1]
    places = _places(header, path)
    for line, cells in table:
        if not any(cells):
            continue
        if len(cells) > len(header) and any(cells[len(header) :]):
            raise UserError(
                f"{path}: line {line} has {len(cells)} cells for {len(header)} columns; one for "
                "each is needed, in quotes where it holds the separator"
            )
        row = {name: cells[i] if i < len(cells) else "" for name, i in places.items()}
        if empty := [name for name, cell in row.items() if not cell]:
            raise UserError(f"{path}: line {line} has no {' and no '.join(empty)}; one is needed")
        yield _Row(line, row)


def _table(
    lines: Sequence[str], skipped: int, separator: str, path: Path
) -> Iterator[tuple[int, list[str]]]:
    """The line in which each row begins, from 1 on, and its cells.

    Args:
      lines: of the file.
      skipped: number of lines before the header.
      separator: of cells.
      path: of the file, for error messages.

    Raises:
      UserError: a quote is not closed, or a cell is too long.
    """
    # The empty line at the end is a row of its own, unless a quote is open there.
    table = csv.reader([*lines[skipped:], "\n"], delimiter=separator)
    while (begins := skipped + table.line_num + 1) <= max(len(lines), skipped + 1):
        try:
            cells = next(table)
        except csv.Error as error:
            raise UserError(
                f"{path}: is no CSV ({one_line(error)}, in the row that begins in line {begins}); "
                f"closed quotes are needed, and {_COLUMNS}"
            ) from error
        if skipped + table.line_num > len(lines) and cells:
            raise UserError(
                f"{path}: the row that begins in line {begins} has a quote that is not closed; a "
                "closing quote is needed"
            )
        yield begins, [cell.strip() for cell in cells]


def _places(header: Sequence[str], path: Path) -> dict[str, int]:
    """Name of each column that is read -> its place."""
    lower = [name.lower() for name in header]
    shown = listed([repr(name) for name in header if name]) or "none"
    for name in _NEEDED:
        if name not in lower:
            raise UserError(f"{path}: has no column '{name}' (its columns: {shown}); {_COLUMNS}")
    for name in (*_NEEDED, *_OPTIONAL):
        if lower.count(name) > 1:
            raise UserError(f"{path}: has several columns '{name}'; one is needed")
    unread = [name for name in header if name and name.lower() not in (*_NEEDED, *_OPTIONAL)]
    if unread:
        warn_once(f"{path}: columns that are not read: {listed(unread)}")
    return {name: lower.index(name) for name in (*_NEEDED, *_OPTIONAL) if name in lower}
