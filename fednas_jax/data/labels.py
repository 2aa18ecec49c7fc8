"""Labels and clients of a user's own data, in any usual form, as numbers.

Labels are numbers or text. Text is numbered in sorted order, or by the class names if there are
some. Numbers that start above 0, or leave some out, are numbered anew in their order; what they
were is kept, so that labels of another file are understood in the same way.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fednas_jax.data import class_names, text
from fednas_jax.runtime.errors import UserError, listed, warn

_INT32 = np.iinfo(np.int32)


class Classes(NamedTuple):
    """The classes of a user's own data.

    Attributes:
      names: the name of each class.
      named: whether the data name their classes; otherwise the names are the labels.
      raw: the label of each class in the data, where the labels are not 0, 1, ...; else ().
      numbers: whether the labels in the data are numbers, one for each example.
    """

    names: tuple[str, ...]
    named: bool
    raw: tuple[int, ...] = ()
    numbers: bool = False


def column(values: np.ndarray, where: str, length: int, *, one_hot: bool = False) -> np.ndarray:
    """Labels or clients in any usual form as one value for each example.

    Args:
      values: [N] or [N, 1]: text, integers, whole-number floats or bools. Text is cleaned by
        `text.of`.
      where: file and key, for error messages.
      length: number N of examples, 1 or more.
      one_hot: whether rows [N, classes] are possible too, each with a single 1 among zeros.

    Returns:
      [N] int64 or text.

    Raises:
      UserError: they are in another form, or not one for each example.
    """
    values = text.of(values, where)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and one_hot and values.dtype.kind in "biuf":
        values = _from_one_hot(values, where)
    if values.ndim != 1 or values.dtype.kind not in "Ubiuf":
        forms = "[N], [N, 1] or one-hot [N, classes]" if one_hot else "[N] or [N, 1]"
        raise UserError(
            f"{where} is {values.dtype} of shape {values.shape}; integers or text of shape {forms} "
            "are needed"
        )
    if len(values) != length:
        raise UserError(
            f"{where} has {len(values)} entries for {length} images; one for each is needed"
        )
    if values.dtype.kind == "U":
        if (empty := values == "").any():
            raise UserError(f"{where} is empty for example {np.argmax(empty)}; text is needed")
        return values
    wrong = ~(np.isfinite(values) & (values == np.floor(values))) if _is_float(values) else None
    if wrong is not None and wrong.any():
        raise UserError(
            f"{where} has {values[wrong][0]} in example {np.argmax(wrong)}; whole numbers or text "
            "are needed"
        )
    if values.min() < _INT32.min or values.max() > _INT32.max:
        raise UserError(
            f"{where} has {values.min()}..{values.max()}; integers of 32 bits are needed"
        )
    return values.astype(np.int64)


def width(values: np.ndarray) -> int:
    """The number of classes that one-hot labels [N, classes] have; 0 for labels in other forms."""
    is_one_hot = values.ndim == 2 and values.shape[1] > 1 and values.dtype.kind in "biuf"
    return values.shape[1] if is_one_hot else 0


def _is_float(values: np.ndarray) -> bool:
    return values.dtype.kind == "f"


def _from_one_hot(rows: np.ndarray, where: str) -> np.ndarray:
    wrong = ~(((rows == 0) | (rows == 1)).all(axis=1) & (rows.sum(axis=1) == 1))
    if wrong.any():
        raise UserError(
            f"{where} has shape {rows.shape}, but row {np.argmax(wrong)} is not one-hot; a single "
            "1 among zeros in each row, or one label for each example, is needed"
        )
    return rows.argmax(axis=1)


def _numbers_in(text: np.ndarray) -> np.ndarray | None:
    """[N] int64 where all text is whole numbers of 32 bits as Python writes them; else None."""
    for value in np.unique(text).tolist():
        if not (value.isascii() and value.isdigit() and len(value) <= 10):
            return None
        if str(int(value)) != value or int(value) > _INT32.max:
            return None
    return text.astype(np.int64)


def first(
    labels: np.ndarray, names: tuple[str, ...] | None, where: str, width: int = 0
) -> tuple[np.ndarray, Classes, list[str]]:
    """The classes of training data, which others are compared with.

    Args:
      labels: [N] of `column`.
      names: class names in the data; None where there are none. With as many names as labels
        differ, the names are those of the labels in order. With more, they are those of 0, 1, ...,
        and some classes may have no example.
      where: file and key of the labels, for error messages.
      width: the number of classes of one-hot labels, of which some may have no example; else 0.

    Returns:
      [N] int32 numbers of classes; the classes; lines that say what was not as it is in the data.

    Raises:
      UserError: there is one class only, or labels and names do not fit.
    """
    if len(only := np.unique(labels).tolist()) < 2:
        raise UserError(f"{where} has one class only ({only[0]!r}); at least 2 are needed")
    if labels.dtype.kind == "U":
        if names is not None and np.isin(labels, names).all():
            numbers = class_names.numbers(labels, names, where, "'class_names'")
            return numbers, Classes(names, True), _absent(numbers, names, where)
        digits = _numbers_in(labels)
        if digits is None and names is not None:
            raise class_names.none_of(labels, names, where, "'class_names'")
        if digits is None:
            found, numbers = np.unique(labels, return_inverse=True)
            return numbers.astype(np.int32), Classes(tuple(found.tolist()), True), []
        labels = digits
    if width:
        named = names is not None
        names = class_names.numbered(width) if names is None else names
        _check_width(width, len(names), where, "one for each of its 'class_names'")
        numbers = labels.astype(np.int32)
        return numbers, Classes(names, named), _absent(numbers, names, where)
    _check_signs(labels, where)
    present = np.unique(labels).tolist()
    if names is not None:
        numbers, is_anew = _by_names(labels, names, where)
        raw = tuple(present) if is_anew else ()
        lines = _anew(present, names, where) if is_anew else _absent(numbers, names, where)
        return numbers, Classes(names, True, raw, True), lines
    if present == list(range(len(present))):
        names = class_names.numbered(len(present))
        return labels.astype(np.int32), Classes(names, False, (), True), []
    names = tuple(map(str, present))
    numbers = np.searchsorted(present, labels).astype(np.int32)
    return numbers, Classes(names, False, tuple(present), True), _anew(present, names, where)


def _check_width(width: int, wanted: int, where: str, what: str) -> None:
    if width != wanted:
        raise UserError(f"{where} has {width} classes (one-hot); {wanted}, {what}, are needed")


def _check_signs(labels: np.ndarray, where: str) -> None:
    if labels.min() < 0:
        raise UserError(f"{where} has {labels.min()}; 0 or above, or text, is needed")


def _by_names(labels: np.ndarray, names: Sequence[str], where: str) -> tuple[np.ndarray, bool]:
    """Numbers of the names that labels stand for, and whether they are numbered anew for that."""
    present = np.unique(labels)
    if present[-1] < len(names):
        return labels.astype(np.int32), False
    if len(present) == len(names):
        return np.searchsorted(present, labels).astype(np.int32), True
    count, most = len(present), int(present[-1])
    enough = f"{count} names (for {listed(present.tolist())} in order)"
    if most + 1 != count:
        enough += f" or {most + 1} names (for 0 to {most})"
    raise UserError(
        f"{where} has {count} classes, but 'class_names' has length {len(names)}; {enough} are "
        "needed"
    )


def check_clear(labels: np.ndarray, names: Sequence[str], where: str) -> None:
    """Refuses labels that may count their class names from 0 or from 1.

    Args:
      labels: [N] integers from 0 on.
      names: the class names in their data.
      where: file and key of the labels, for error messages.
    """
    if labels.min() > 0 and labels.max() < len(names):
        label = int(labels.min())
        raise UserError(
            f"{where}: label {label} may be {names[label]!r}, counted from 0, or "
            f"{names[label - 1]!r}, counted from 1; names in place of numbers are needed, or the "
            "labels and class_names of the training data"
        )


def _anew(present: Sequence[int], names: Sequence[str], where: str) -> list[str]:
    return [
        f"{where}: {listed(present)} are numbered {listed(range(len(present)))}; class "
        f"names are {listed(map(repr, names))}"
    ]


def _absent(numbers: np.ndarray, names: Sequence[str], where: str) -> list[str]:
    missing = np.setdiff1d(np.arange(len(names)), numbers)
    if not len(missing):
        return []
    named = listed([repr(names[c]) for c in missing])
    return [f"{where}: no training example is of {len(missing)} of {len(names)} classes ({named})"]


def as_of(
    labels: np.ndarray,
    names: tuple[str, ...] | None,
    known: Classes,
    source: str,
    owner: str,
    width: int = 0,
) -> np.ndarray:
    """Labels of other data as numbers of known classes.

    Text is matched by name. Numbers mean what they mean in the known classes' own data, whichever
    of them occur. But where the other data have other class names, their numbers are numbered as
    by `first`, and matched by these names. A line says so where numbers are taken for classes that
    have names.

    Args:
      labels: [N] of `column`.
      names: class names in the other data; None where there are none.
      known: the classes.
      source: the other data, for error messages.
      owner: description of the classes, for error messages.
      width: the number of classes of one-hot labels; else 0. One-hot labels are numbers of the
        names, or of the known classes where there are no names.

    Returns:
      [N] int32.

    Raises:
      UserError: a label is of none of the classes, or may be counted from 0 or from 1.
    """
    if labels.dtype.kind == "U":
        digits = _numbers_in(labels)
        fits = names is None or bool(np.isin(labels, names).all())
        if digits is None and not fits:
            raise class_names.none_of(labels, names or (), source, "'class_names'")
        if digits is None or (fits and np.isin(labels, known.names).all()):
            return class_names.numbers(labels, known.names, source, owner)
        labels = digits
    where = f"{source}: 'labels'"
    _check_signs(labels, where)
    if names is not None and names != known.names:
        if width:
            _check_width(width, len(names), where, "one for each of its 'class_names'")
            numbers = labels
        else:
            check_clear(labels, names, where)
            numbers, _ = _by_names(labels, names, where)
        return class_names.matched(numbers, names, known.names, source, owner)
    if width:
        _check_width(width, len(known.names), where, owner)
        numbers = labels.astype(np.int32)
    else:
        numbers = _by_number(labels, known, source, owner)
    unnamed = names is None and (width or not known.raw)
    if unnamed and known.names != class_names.numbered(len(known.names)):
        warn(
            f"{source} has no class_names; its labels are taken as numbers of {owner} "
            f"({listed(known.names)})"
        )
    return numbers


def in_same(
    labels: np.ndarray,
    train: np.ndarray,
    known: Classes,
    where: str,
    owner: str,
    width: int = 0,
) -> np.ndarray:
    """Labels of a test set that is in the same data as the training examples.

    Args:
      labels: [M] of `column`.
      train: [N] of `column`: the labels of the training examples.
      known: their classes, of `first`.
      where: file and key of the labels, for error messages.
      owner: description of the classes, for error messages.
      width: the number of classes of one-hot test labels; else 0.

    Returns:
      [M] int32.

    Raises:
      UserError: a label is of none of the classes.
    """
    is_text = labels.dtype.kind == "U"
    if is_text and not np.isin(labels, known.names).all():
        digits = _numbers_in(labels)
        if digits is None:
            raise class_names.none_of(labels, known.names, where, owner)
        labels, is_text = digits, False
    if is_text:
        return class_names.numbers(labels, known.names, where, owner)
    if train.dtype.kind == "U" and _numbers_in(train) is None:
        raise UserError(f"{where} has numbers, but the training labels are text; text is needed")
    if width:
        _check_width(width, len(known.names), where, owner)
        return labels.astype(np.int32)
    _check_signs(labels, where)
    return _by_number(labels, known, where, owner)


def _by_number(labels: np.ndarray, known: Classes, where: str, owner: str) -> np.ndarray:
    """[N] int32: labels that mean the same as in the known classes' own data."""
    if known.raw:
        other = labels[~np.isin(labels, known.raw)]
        if len(other):
            raise UserError(
                f"{where}: label {other[0]}; one of {listed(known.raw)}, the labels of {owner}, is "
                "needed"
            )
        return np.searchsorted(known.raw, labels).astype(np.int32)
    most = len(known.names) - 1
    if labels.max() > most:
        raise UserError(f"{where}: label {labels.max()}; 0 to {most}, {owner}, are needed")
    return labels.astype(np.int32)


def clients(*columns: np.ndarray | None) -> tuple[list[np.ndarray | None], tuple[str, ...]]:
    """Clients of training and test data as numbers.

    Args:
      columns: of `column`, [N] each; None for data without one.

    Returns:
      [N] int32 for each: the numbers in the data, or where one is text, numbers of the names; and
      the name of each number, () where the data have numbers.
    """
    found = [
        one if one is None or one.dtype.kind != "U" else _digits_or_text(one) for one in columns
    ]
    there = [one for one in found if one is not None]
    if all(one.dtype.kind != "U" for one in there):
        return [one if one is None else one.astype(np.int32) for one in found], ()
    texts = [one if one is None else one.astype(str) for one in found]
    names = np.unique(np.concatenate([one for one in texts if one is not None]))
    numbers = [
        None if one is None else np.searchsorted(names, one).astype(np.int32) for one in texts
    ]
    return numbers, tuple(names.tolist())


def _digits_or_text(values: np.ndarray) -> np.ndarray:
    digits = _numbers_in(values)
    return values if digits is None else digits
