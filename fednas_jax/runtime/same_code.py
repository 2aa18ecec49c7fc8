"""Whether two functions or objects of a user's are one and the same."""

import functools
import sys
from types import FunctionType
from typing import Any


def place(value: Any) -> str:
    """Where an object stands, for people: `module:name`; of text the text itself."""
    if isinstance(value, str):
        return value
    while isinstance(value, functools.partial):
        value = value.func
    if not hasattr(value, "__qualname__"):
        value = type(value)
    return f"{value.__module__}:{value.__qualname__}"


def same(one: Any, other: Any) -> bool:
    """Whether two objects are one, or an earlier and a later definition of one.

    A name in a module leads to one object at a time, so what has the same name is the same. What
    has none, such as a lambda, is the same where its code and what it captures are. In a notebook,
    whose cells are run again, the place alone counts.
    """
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, functools.partial):
        return same((one.func, one.args, one.keywords), (other.func, other.args, other.keywords))
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, FunctionType | type):
        return place(one) == place(other) and _same_definition(one, other)
    try:
        return bool(one == other)
    except Exception:  # of arrays, and of whatever else a user compares in a way of its own
        return False


def _same_definition(one: Any, other: Any) -> bool:
    """Of two functions or classes of one place."""
    main = sys.modules.get("__main__")
    if one.__module__ == "__main__" and getattr(main, "__file__", None) is None:
        return True
    if "<" not in one.__qualname__:  # neither a lambda nor inside of a function
        return True
    if not isinstance(one, FunctionType) or one.__code__ != other.__code__:
        return False
    return same(_captured(one), _captured(other))


def _captured(function: FunctionType) -> tuple[Any, ...]:
    """Defaults, and the variables of the functions around it."""
    cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    return function.__defaults__ or (), function.__kwdefaults__ or {}, tuple(cells)


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # assigned only later
        return False
