"""Text in a user's own data: labels, clients and class names, cleaned in the same way."""

import unicodedata
from collections.abc import Iterable

import numpy as np

from fednas_jax.runtime.errors import UserError


def of(values: np.ndarray, where: str) -> np.ndarray:
    """Bytes, text, and objects that are all text, as cleaned text; other values as they are.

    Args:
      values: [...] of any type. Bytes are text in UTF-8.
      where: file and key, for error messages.

    Returns:
      [...]; text is as `cleaned` returns it.

    Raises:
      UserError: bytes are not UTF-8.
    """
    if values.dtype.kind == "O" and all(isinstance(value, str) for value in values.flat):
        values = values.astype(str)
    if values.dtype.kind == "S":
        try:
            values = np.char.decode(values, "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{where} has bytes that are not text in UTF-8; text is needed"
            ) from error
    if values.dtype.kind != "U":
        return values
    found, which = np.unique(values.ravel(), return_inverse=True)
    return np.array(cleaned(found.tolist()), str)[which].reshape(values.shape)


def cleaned(values: Iterable[object]) -> tuple[str, ...]:
    """Text without spaces at its ends, and with accents in their letters (Unicode's NFC).

    Without that, "Anna" and "Anna " would be two clients, and so would two ways to write "é".
    """
    return tuple(unicodedata.normalize("NFC", str(value).strip()) for value in values)


def class_names(values: Iterable[object], where: str) -> tuple[str, ...]:
    """The cleaned names of classes.

    Args:
      values: the name of each class.
      where: file and key, for error messages.

    Raises:
      UserError: a name is empty, or two classes have the same name.
    """
    names = cleaned(values)
    for number, name in enumerate(names):
        if not name:
            raise UserError(f"{where} is empty for class {number}; a name is needed")
        if (first := names.index(name)) < number:
            raise UserError(
                f"{where} has {name!r} for class {first} and class {number}; another name for one "
                "of them is needed"
            )
    return names
