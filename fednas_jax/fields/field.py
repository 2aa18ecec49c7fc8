"""What a field of a config is, and what a value may be held against.

Fields are declared in `common.py`, and by algorithms in their own `config.py`;
`algorithms/schema.py` puts them together.
"""

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import ml_collections

from fednas_jax.runtime.errors import suggest
from fednas_jax.runtime.user_code import is_reference

Config: TypeAlias = Mapping[str, Any] | ml_collections.ConfigDict


Check = Callable[[Any], str]
"""Says in words what would be right, or "" where the value is right."""


class Field(NamedTuple):
    """One field of the config."""

    name: str
    """Dotted, as written after `config.`."""
    default: Any
    types: tuple[type, ...]
    check: Check
    help: str
    affects_result: bool = True
    """By more than the rounding of a sum."""
    besides: str = ""
    """A value that is not like the others, for who has written another type."""
    needs: tuple[str, tuple[Any, ...]] | None = None
    """Another field, and the values of it with which this one is read; None: with any."""
    optional: bool = False
    """Whether only algorithms read it that declare it, or name it in their `reads`."""
    after: str = ""
    """Of an algorithm's field that begins a section, or lies in none: the field, or the section
    such as "network.", behind which it is listed."""
    default_recorded: bool = True
    """Whether a run records its default too. Not where runs of before it should stay as they are:
    then a config need not have it either."""

    @property
    def meaning(self) -> str:
        """The help, and the names to choose from, where there are some."""
        names = getattr(self.check, "names", ())
        return f"{self.help}; one of {', '.join(names)}" if names else self.help


# Far above what is of use, and low enough that sums and products of them fit 32 bits.
MANY = 10_000
INT32_MAX = 2**31 - 1

INT, FLOAT, TEXT, FLAG = (int,), (float,), (str,), (bool,)
"""Types of a field."""


def at_least(low: float, at_most: float = math.inf) -> Check:
    """The value is `low` or more, and not above `at_most`."""

    def check(value: Any) -> str:
        if value < low:
            return f"at least {low} is needed"
        return "" if value <= at_most else f"at most {at_most} is needed"

    return check


def above(low: float, at_most: float = math.inf) -> Check:
    """The value is more than `low`, and not above `at_most`."""

    def check(value: Any) -> str:
        if value <= low:
            return f"more than {low} is needed"
        return "" if value <= at_most else f"at most {at_most} is needed"

    return check


def between(low: float, high: float, ends: str = "[)") -> Check:
    """The value lies in an interval, each end included ("[", "]") or not ("(", ")")."""

    below = operator.le if ends[0] == "[" else operator.lt
    under = operator.le if ends[1] == "]" else operator.lt
    sign = {operator.le: "<=", operator.lt: "<"}

    def check(value: Any) -> str:
        if below(low, value) and under(value, high):
            return ""
        return f"{low} {sign[below]} value {sign[under]} {high} is needed"

    return check


def one_of(*names: str, brought: bool = False) -> Check:
    """The value is one of `names`; with `brought`, or a reference to a user's own code."""

    def check(value: Any) -> str:
        if value in names or (brought and is_reference(value)):
            return ""
        own = ", or path/to/file.py:Name," if brought else ""
        return "one of " + ", ".join(names) + own + " is needed" + _nearest(value, names)

    check.names = names  # type: ignore[attr-defined]
    return check


def names_in(text: str) -> tuple[str, ...]:
    """The names in the value of a field that takes several, with commas between."""
    return tuple(name.strip() for name in text.split(",")) if text.strip() else ()


def several(value: Any) -> str:
    """References to a user's own code, with commas between, or none; a `Check`."""
    if all(map(is_reference, names_in(value))):
        return ""
    return "path/to/file.py:Name is needed, several with commas between, or nothing"


def _nearest(value: Any, names: tuple[str, ...]) -> str:
    hint = suggest(str(value), names)
    return hint if hint.startswith("; did") else ""


def channels(value: Any) -> str:
    """An even number of channels; a `Check`."""
    if value < 2 or value % 2:
        return "an even number of at least 2 is needed"
    return "" if value <= MANY else f"at most {MANY} is needed"


def filled(value: Any) -> str:
    """Text that is not empty; a `Check`."""
    return "" if value.strip() else "a name or a path is needed"


def anything(value: Any) -> str:
    """Any value of the right type; a `Check`."""
    return ""
