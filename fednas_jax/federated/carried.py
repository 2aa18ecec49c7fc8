"""Fields that the engine adds to an algorithm's server state, which is a NamedTuple.

The algorithm's fields keep their places and names, so that checkpoints, `restore` and warm starts
find them whether or not fields are added.
"""

import functools
from collections import namedtuple
from typing import Any

from fednas_jax.runtime.errors import UserError

State = Any


@functools.cache  # one type for each set of fields: states of two types are two trees to JAX
def _type(of: Any, names: tuple[str, ...]) -> Any:
    made = namedtuple(of.__name__, (*of._fields, *names))  # type: ignore[misc]
    made.original_type = of  # type: ignore[attr-defined]
    return made


def extended(state: State, **more: Any) -> State:
    """The state with the fields `more` after its own; the state itself if there are none.

    Raises:
      UserError: the state is not a NamedTuple, or has a field of that name.
    """
    if not more:
        return state
    fields = getattr(state, "_fields", None)
    if fields is None:
        raise UserError(
            f"config.algorithm: its server state is a {type(state).__name__}; a NamedTuple is "
            f"needed, to which {' and '.join(more)} can be added"
        )
    for name in more:
        if name in fields:
            raise UserError(
                f"config.algorithm: its server state has a field {name!r}, but the engine adds a "
                "field of that name; another name is needed"
            )
    first = original(state)
    had = {name: getattr(state, name) for name in fields[len(_fields(first)) :]}
    of: Any = type(first)
    return _type(of, (*had, *more))(*first, *had.values(), *more.values())


def original(state: State) -> State:
    """The algorithm's own state."""
    of = getattr(type(state), "original_type", None)
    return state if of is None else of(*state[: len(of._fields)])


def replaced(state: State, after: State, **more: Any) -> State:
    """`state` with `after` as the algorithm's own part, and new values `more` of added fields."""
    if original(state) is state:
        return after
    of = type(state)
    had = {name: getattr(state, name) for name in of._fields[len(_fields(after)) :]}
    return of(*after, *(had | more).values())


def _fields(state: State) -> tuple[str, ...]:
    return tuple(type(state)._fields)
