"""Class names: converting the labels of one data set to the class numbers of another."""

from collections.abc import Sequence

import numpy as np

from fednas_jax.runtime.errors import UserError, listed


def numbered(classes: int) -> tuple[str, ...]:
    """The numbers of the classes as names, for data without class names."""
    return tuple(map(str, range(classes)))


def matched(
    labels: np.ndarray,
    names: Sequence[str],
    wanted: Sequence[str],
    source: str,
    owner: str,
) -> np.ndarray:
    """Renumbers labels so that classes of the same name have the same number.

    Args:
      labels: [N] integers from 0 on.
      names: names of the classes of `labels`.
      wanted: names of the classes in their new numbering.
      source: the data that the labels are from, for error messages.
      owner: description of the classes `wanted`, for error messages.

    Returns:
      [N] int32.

    Raises:
      UserError: a class with examples has no name, or its name is not in `wanted` exactly once.
    """
    numbers = np.zeros(len(names), np.int32)
    for label in np.unique(labels):
        if label >= len(names):
            raise UserError(
                f"{source}: label {label}; 0 to {len(names) - 1}, its classes, are needed"
            )
        name = names[label]
        if label < len(wanted) and wanted[label] == name:
            numbers[label] = label
            continue
        if list(wanted).count(name) != 1:
            which = "one of several" if name in wanted else "none"
            raise UserError(
                f"{source}: class {label} is {name!r}, {which} of {owner} ({listed(wanted)}); "
                "the same names are needed, as labels are matched by them"
            )
        numbers[label] = list(wanted).index(name)
    return numbers[labels]


def numbers(labels: np.ndarray, names: Sequence[str], source: str, owner: str) -> np.ndarray:
    """The numbers of labels that are names of classes.

    Args:
      labels: [N] text.
      names: the name of each class.
      source: the data that the labels are from, for error messages.
      owner: description of the classes, for error messages.

    Returns:
      [N] int32.

    Raises:
      UserError: a label is not in `names` exactly once.
    """
    found, which = np.unique(labels, return_inverse=True)
    for name in found.tolist():
        if list(names).count(name) != 1:
            raise none_of(labels, names, source, owner)
    return np.array([list(names).index(name) for name in found.tolist()], np.int32)[which]


def none_of(labels: np.ndarray, names: Sequence[str], source: str, owner: str) -> UserError:
    """The error of text labels that are not in `names`; arguments as of `numbers`."""
    wrong = [name for name in np.unique(labels).tolist() if list(names).count(name) != 1]
    several = "more than once" if wrong[0] in names else "not"
    return UserError(
        f"{source}: label {wrong[0]!r} is {several} among {owner} ({listed(names)}); the same "
        "names are needed"
    )


def moved(there: Sequence[str], here: Sequence[str]) -> str:
    """The first class of `here` that has another number in `there`; "" where there is none."""
    for number, name in enumerate(here):
        if name in there and there[number : number + 1] != here[number : number + 1]:
            return name
    return ""
