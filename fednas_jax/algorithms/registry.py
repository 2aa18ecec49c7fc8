"""All algorithms by name: those of the package and users' own."""

from typing import TYPE_CHECKING

from fednas_jax.algorithms.declared import Declared, Finds, Values
from fednas_jax.algorithms.fedavg.config import DECLARED as FEDAVG
from fednas_jax.algorithms.fednas.config import DECLARED as FEDNAS
from fednas_jax.fields import words
from fednas_jax.fields.field import Field
from fednas_jax.runtime import beside, same_code, user_code
from fednas_jax.runtime.errors import UserError, suggest

if TYPE_CHECKING:
    from fednas_jax.algorithms.room import Room

ALGORITHMS: tuple[Declared, ...] = (FEDNAS, FEDAVG)
"""The package's algorithms; a new one needs an import above and its name here."""

NAMES = tuple(declared.name for declared in ALGORITHMS)
WORDS = words.ALGORITHMS | dict(pair for declared in ALGORITHMS for pair in declared.also)
"""Name that people type for an algorithm -> what to set instead; "" where there is nothing."""
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
      UserError: it is not a `Declared`, or another algorithm has its name. One with the same
        room function is the same algorithm, as is one from a notebook's cell that is run again.
    """
    if not isinstance(declared, Declared):
        raise UserError(f"algorithm: {declared!r} is not usable; {_KIND}")
    if any(declared is own for own in ALGORITHMS):
        return
    declared = _usable(declared, f"algorithm: {declared.name!r}")
    if declared in ALGORITHMS:
        return
    if declared.name in NAMES:
        raise UserError(
            f"algorithm: {declared.name!r} is one of the package's own; another name is needed"
        )
    other = _added.setdefault(declared.name, declared)
    if not same_code.same(other.room, declared.room):
        raise UserError(
            f"algorithm: {declared.name!r} is the name of two algorithms, with the "
            f"rooms {same_code.place(other.room)} and {same_code.place(declared.room)}; another "
            "name is needed"
        )
    _added[declared.name] = declared


def _usable(declared: Declared, about: str) -> Declared:
    """What a user declares, with fields and reads in the types that we compute with.

    Raises:
      UserError: a part is of another type.
    """
    fields, reads = declared.fields, declared.reads
    is_one = isinstance(fields, Field)  # which is a tuple too
    rooms = isinstance(declared.room, str) or callable(declared.room)
    texts = isinstance(reads, set | frozenset | list | tuple) and all(
        isinstance(name, str) for name in reads
    )
    for part, right, needed in (
        ("name", isinstance(declared.name, str) and declared.name, "text"),
        ("title", isinstance(declared.title, str), "text"),
        ("room", rooms, "a function() that returns a Room, or the name of a module with its ROOM,"),
        ("fields", isinstance(fields, list | tuple) and not is_one, "a tuple of Field"),
        ("reads", texts, "a set of names of fields, or of sections such as 'network.',"),
        ("check", callable(declared.check), "a function(values) that raises UserError"),
        ("finds", isinstance(declared.finds, Finds | None), "a Finds, or None,"),
    ):
        if not right:
            value = getattr(declared, part)
            raise UserError(
                f"{about} has the {part} {value!r}; {needed} is needed, see docs/extending.md"
            )
    return declared._replace(fields=tuple(fields), reads=frozenset(reads))


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
        raise UserError(f"{_FIELD}: {name!r} is unknown{suggest(name, known, WORDS)}")
    found = user_code.load(name, _FIELD).value
    if not isinstance(found, Declared):
        raise UserError(f"{_FIELD}: {name} is of type {type(found).__name__}; {_KIND}")
    return _usable(found, f"{_FIELD}: {name}")


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
    if name not in _added:
        return None
    return user_code.source_in_use(_added[name].room, f"{_FIELD}: {name}")


def title(name: str) -> str:
    """An algorithm's title; of an algorithm that is not known here, its name."""
    known = {**{declared.name: declared for declared in ALGORITHMS}, **_added}
    return known[name].title if name in known else name


def room(name: str) -> "Room":
    """The room of an algorithm; imports JAX.

    Raises:
      UserError: as `find`; or the algorithm has no room. The parts of a user's room raise it too if
        they fail or return something of the wrong type.
    """
    declared = find(name)
    if callable(declared.room):
        of = user_code.source_of(declared.room).path
        try:
            with beside.importable(of):
                found = declared.room()
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # of whatever type: it may not be our code
            needed = "a function() that returns a fednas_jax.algorithms.room.Room is needed"
            raise user_code.failed(f"{_FIELD}: the room of {name}", of, error, needed) from error
    else:
        found = user_code.load(f"{declared.room}:ROOM", f"{_FIELD}: the room of {name}").value
    from fednas_jax.algorithms import guarded  # not above: it imports JAX
    from fednas_jax.algorithms.room import Room

    if not isinstance(found, Room):
        raise UserError(
            f"{_FIELD}: the room of {name} is of type {type(found).__name__}; a "
            "fednas_jax.algorithms.room.Room is needed, see docs/extending.md"
        )
    return guarded.room(found, name) if is_brought(name) else found
