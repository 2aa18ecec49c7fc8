"""Names of classes: labels of one data set as the numbers that another gives the same classes."""

from collections.abc import Sequence

import numpy as np

from fednas_jax.errors import UserError, listed


def numbered(classes: int) -> tuple[str, ...]:
    """The names of classes that have none: their numbers."""
    return tuple(map(str, range(classes)))


def matched(
    labels: np.ndarray,
    names: Sequence[str],
    wanted: Sequence[str],
    source: str,
    owner: str,
) -> np.ndarray:
    """Labels as numbers of the classes of the same names.

    Args:
      labels: [N] integers from 0 on.
      names: of their classes.
      wanted: names of the classes to number them by.
      source: what to call the labels' data in an error.
      owner: what to call whose classes `wanted` are.

    Returns:
      [N] int32.

    Raises:
      UserError: a class that has an example has no name, or its name is none of `wanted`, or
        stands there twice.
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


def moved(there: Sequence[str], here: Sequence[str]) -> str:
    """The first class of `here` that `there` has under another number only; "" where none is."""
    for number, name in enumerate(here):
        if name in there and there[number : number + 1] != here[number : number + 1]:
            return name
    return ""
