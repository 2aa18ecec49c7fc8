"""All algorithms by name: those of the package and users' own."""

from typing import TYPE_CHECKING

from fednas_jax.algorithms.declared import Declared, Values
from fednas_jax.algorithms.fedavg.config import DECLARED as FEDAVG
from fednas_jax.algorithms.fednas.config import DECLARED as FEDNAS
from fednas_jax.runtime import user_code
from fednas_jax.runtime.errors import UserError, suggest

if TYPE_CHECKING:
    from fednas_jax.algorithms.room import Room

ALGORITHMS: tuple[Declared, ...] = (FEDNAS, FEDAVG)
"""The package's algorithms; a new one needs an import above and its name here."""

NAMES = tuple(declared.name for declared in ALGORITHMS)
_FIELD = "config.algorithm"
_KIND = (
    "a fednas_jax.algorithms.declared.Declared(name, title, room, ...) is needed, see "
    "docs/extending.md"
)


_added: dict[str, Declared] = {}


def add(declared: Declared) -> None:
    """Makes a user's algorithm known by its name, in this process.

    Args:
      declared: the user's algorithm. It replaces an earlier one of the same name if the rooms have
        the same name and module, as after a notebook's cell is run again.

    Raises:
      UserError: it is not a `Declared`, or another algorithm has its name.
    """
    if not isinstance(declared, Declared):
        raise UserError(f"algorithm: {declared!r} is not usable; {_KIND}")
    if declared in ALGORITHMS:
        return
    if declared.name in NAMES:
        raise UserError(
            f"algorithm: {declared.name!r} is one of the package's own; another name is needed"
        )
    other = _added.setdefault(declared.name, declared)
    if _place(other) != _place(declared):
        raise UserError(
            f"algorithm: {declared.name!r} is the name of two algorithms, with the rooms "
            f"{_place(other)} and {_place(declared)}; another name is needed"
        )
    _added[declared.name] = declared


def _place(declared: Declared) -> str:
    room = declared.room
    return room if isinstance(room, str) else f"{room.__module__}:{room.__qualname__}"


def is_brought(name: str) -> bool:
    """Whether a name stands for a user's own algorithm."""
    return name in _added or user_code.is_reference(name)


def find(name: str) -> Declared:
    """The algorithm that `config.algorithm` names.

    Args:
      name: the name of an algorithm of the package or of one given to `add`; or
        `package.module:Name` or `path/to/file.py:Name`.

    Raises:
      UserError: there is no such algorithm, or the name is that of something else.
    """
    known = {**{declared.name: declared for declared in ALGORITHMS}, **_added}
    if name in known:
        return known[name]
    if not user_code.is_reference(name):
        raise UserError(f"{_FIELD}: {name!r} is unknown{suggest(name, known)}")
    found = user_code.load(name, _FIELD).value
    if not isinstance(found, Declared):
        raise UserError(f"{_FIELD}: {name} is of type {type(found).__name__}; {_KIND}")
    return found


def check(name: str, values: Values) -> None:
    """Applies an algorithm's check to values.

    Args:
      name: as for `find`.
      values: the fields that a run reads.

    Raises:
      UserError: the values do not fit together, or a user's own check fails.
    """
    declared = find(name)
    try:
        declared.check(values)
    except UserError:
        raise
    except Exception as error:  # of any type: a user's code may raise it
        path = user_code.source_of(declared.check).path
        needed = "a function(values) that raises UserError, or nothing, is needed"
        raise user_code.failed(f"{_FIELD}: the check of {name}", path, error, needed) from error


def source(name: str) -> user_code.Source | None:
    """The source of a user's own algorithm; None for one of the package.

    Raises:
      UserError: as `find`.
    """
    if user_code.is_reference(name):
        return user_code.load(name, _FIELD).source
    return user_code.source_of(_added[name].room) if name in _added else None


def title(name: str) -> str:
    """An algorithm's title; of an algorithm that is not known here, its name."""
    known = {**{declared.name: declared for declared in ALGORITHMS}, **_added}
    return known[name].title if name in known else name


def room(name: str) -> "Room":
    """The room of an algorithm; imports JAX.

    Raises:
      UserError: as `find`; or the algorithm has no room.
    """
    declared = find(name)
    if callable(declared.room):
        of = user_code.source_of(declared.room).path
        try:
            found = declared.room()
        except UserError:
            raise
        except Exception as error:  # of any type: a user's code may raise it
            needed = "a function() that returns a fednas_jax.algorithms.room.Room is needed"
            raise user_code.failed(f"{_FIELD}: the room of {name}", of, error, needed) from error
    else:
        found = user_code.load(f"{declared.room}:ROOM", f"{_FIELD}: the room of {name}").value
    from fednas_jax.algorithms.room import Room  # not above: it imports JAX

    if not isinstance(found, Room):
        raise UserError(
            f"{_FIELD}: the room of {name} is of type {type(found).__name__}; a "
            "fednas_jax.algorithms.room.Room is needed, see docs/extending.md"
        )
    return found
