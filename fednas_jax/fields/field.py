"""Fields of a config, and checks of their values.

Fields are declared in `common.py`, and by algorithms in their own `config.py`;
`algorithms/schema.py` puts them together.
"""

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import ml_collections

from fednas_jax.runtime.errors import meant
from fednas_jax.runtime.user_code import is_reference

Config: TypeAlias = Mapping[str, Any] | ml_collections.ConfigDict


Check = Callable[[Any], str]
"""value -> "" if it is right, else words that say what would be right."""


class Field(NamedTuple):
    """One field of the config."""

    name: str
    """The dotted name, as written after `config.`."""
    default: Any
    types: tuple[type, ...]
    check: Check
    help: str
    affects_result: bool = True
    """Whether it affects results by more than the rounding of sums."""
    besides: str = ""
    """Another possible value, of another type; an error about a wrong type adds it."""
    needs: tuple[str, tuple[Any, ...]] | None = None
    """(another field, values of it): this field is read only if the other has one of the values.
    None: it is always read."""
    optional: bool = False
    """If true, only algorithms that declare it, or have it in their `reads`, read it."""
    after: str = ""
    """Where an algorithm's field is listed, if it begins a section or is in none: after this field,
    or after this section, such as "network."."""
    default_recorded: bool = True
    """Whether run.json records the field even if it has its default. False for a field that was
    added later: records of runs stay as they were, and a config may lack it."""
    also: tuple[str, ...] = ()
    """Other names that people type for it, such as "lr"; errors suggest this field for them."""

    @property
    def meaning(self) -> str:
        """The help, and the possible names if the value has to be one of several."""
        names = getattr(self.check, "names", ())
        return f"{self.help}; one of {', '.join(names)}" if names else self.help


# More than is useful, but low enough that sums and products of such numbers fit into 32 bits.
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


def one_of(*names: str, brought: bool = False, also: Mapping[str, str] = {}) -> Check:
    """The value is one of `names`, or with `brought` a reference to a user's own code.

    Args:
      *names: the possible values.
      brought: whether a reference is possible too.
      also: other word that people type -> the name, or words that say what to set instead.
    """

    def check(value: Any) -> str:
        if value in names or (brought and is_reference(value)):
            return ""
        own = ", or path/to/file.py:Name," if brought else ""
        right = meant(str(value), names, also)
        hint = f"; did you mean {right}?" if right else ""
        return "one of " + ", ".join(names) + own + " is needed" + hint

    check.names = names  # type: ignore[attr-defined]
    return check


def names_in(text: str) -> tuple[str, ...]:
    """The names in the value of a field that takes several, separated by commas."""
    return tuple(name.strip() for name in text.split(",")) if text.strip() else ()


def several(value: Any) -> str:
    """References to a user's own code, separated by commas, or none; a `Check`."""
    if all(map(is_reference, names_in(value))):
        return ""
    return "path/to/file.py:Name is needed, or several separated by commas, or nothing"


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
