"""Tables of the number of examples of each client and class: reading and scaling them."""

import csv
from pathlib import Path

import numpy as np

from fednas_jax.runtime.errors import UserError, suggest
from fednas_jax.runtime.paths import THIRD_PARTY, expand

# Table 2 of the FedNAS paper (He et al., 2020): CIFAR-10 over 16 clients.
NAMED_TABLES = ("fednas_table2",)
_MAX_CELL = 2**31 - 1  # since indices are int32


def read_table(path_or_name: str | Path) -> np.ndarray:
    """Reads the number of examples of each class that each client gets.

    Args:
      path_or_name: a CSV file with the header `client,c0,c1,...` and one row for each client 0, 1,
        ... in order; or "fednas_table2". Empty rows, and empty cells after the last column, are
        ignored: spreadsheets write them.

    Returns:
      [K, classes] int64 counts, 0 or above.

    Raises:
      UserError: the name is unknown, the file is unreadable, or a cell is not a whole number of 0
        or above; names file, row and column.
    """
    name = str(path_or_name)
    if name in NAMED_TABLES:
        path = THIRD_PARTY / f"{name}.csv"
    elif Path(name).suffix:
        path = expand(name, "config.partition.table")
    else:
        hint = suggest(name, NAMED_TABLES)
        raise UserError(
            f"config.partition.table: unknown table '{name}'{hint} (or a path to a .csv)"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a table ({_reason(error)})") from error
    try:
        numbered = enumerate(csv.reader(text.splitlines()), start=1)
        lines = [(row, line) for row, line in numbered if any(cell.strip() for cell in line)]
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV file ({error})") from error
    return _parse(lines, path)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or "unreadable"
    return "not UTF-8 text"


def _parse(lines: list[tuple[int, list[str]]], path: Path) -> np.ndarray:
    """The counts in the rows of a file, each with its number in the file; the first row is 1."""
    header = _cut([cell.strip() for cell in lines[0][1]], 0) if lines else []
    classes = len(header) - 1
    if classes < 1 or header != ["client", *(f"c{c}" for c in range(classes))]:
        raise UserError(
            f"{path}: the first row must be 'client,c0,c1,...', with one column for each class"
        )
    if len(lines) < 2:
        raise UserError(f"{path}: no client; one row for each client is needed below the header")
    table = np.zeros((len(lines) - 1, classes), np.int64)
    for client, (number, cells) in enumerate(lines[1:]):
        row = f"{path}: row {number}"
        line = _cut(cells, classes + 1)
        if len(line) != classes + 1:
            raise UserError(
                f"{row}: {len(line)} columns; {classes + 1} as in the header are needed"
            )
        if line[0].strip() != str(client):
            raise UserError(
                f"{row}, column 'client': '{line[0]}'; clients must be 0, 1, ... in order: {client}"
            )
        for c, cell in enumerate(line[1:]):
            table[client, c] = _count(cell, f"{row}, column 'c{c}'")
    if not table.any():
        raise UserError(f"{path}: all counts are 0; at least one example is needed")
    return table


def _cut(cells: list[str], columns: int) -> list[str]:
    """The cells of a row without empty ones at its end; at least `columns`, if it has so many."""
    end = len(cells)
    while end > columns and not cells[end - 1].strip():
        end -= 1
    return cells[:end]


def _count(cell: str, where: str) -> int:
    digits = cell.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10):
        raise UserError(f"{where}: '{cell}' is not a count; a whole number of 0 or above is needed")
    if int(digits) > _MAX_CELL:
        raise UserError(f"{where}: {digits} is too large; at most {_MAX_CELL} is needed")
    return int(digits)


def scale_table(table: np.ndarray, fraction: float) -> np.ndarray:
    """Scales a table, so that each class needs only that fraction of its examples.

    The total of each class becomes floor(fraction x total). Counts are rounded down, and then
    raised by one where rounding took most, until they add up to the total (ties: the lower client).

    Args:
      table: [K, classes] counts.
      fraction: above 0, at most 1.

    Returns:
      [K, classes] int64 counts.

    Raises:
      UserError: the fraction is out of range, or takes all examples from a client that had some.
    """
    if not 0 < fraction <= 1:
        raise UserError(
            f"config.partition.table_fraction: {fraction}; a value above 0 and at most 1 is needed"
        )
    exact = table * fraction
    # 1e-9 corrects products that should be whole numbers but are rounded (0.29 x 100 = 28.99...).
    counts = np.floor(exact + 1e-9).astype(np.int64)
    missing = np.floor(table.sum(axis=0) * fraction + 1e-9).astype(np.int64) - counts.sum(axis=0)
    for c in range(table.shape[1]):
        lost_most = np.argsort(-(exact[:, c] - counts[:, c]), kind="stable")
        counts[lost_most[: max(0, missing[c])], c] += 1
    emptied = np.flatnonzero((table.sum(axis=1) > 0) & (counts.sum(axis=1) == 0))
    if emptied.size:
        raise UserError(
            f"config.partition.table_fraction: {fraction} leaves client {emptied[0]} without "
            "examples; a larger fraction is needed"
        )
    return counts
