"""The declaration of an algorithm: what is known before anything is built."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fednas_jax.fields.field import Field

Values = Mapping[str, Any]
"""Values of the fields that a run reads, by dotted name; each has its declared type and range."""


def nothing_to_check(values: Values) -> None:
    """The check of an algorithm that accepts every combination of values."""


class Finds(NamedTuple):
    """The result of a search, which another run can train."""

    field: str
    """The field of the other run's config that names the result."""
    file: str
    """The file with the result, in the folder of the search."""


class Declared(NamedTuple):
    """An algorithm's name, its fields, and where its room is."""

    name: str
    """The value of `config.algorithm`."""
    title: str
    """The name for messages and pages."""
    room: str | Callable[[], Any]
    """The module with the algorithm's `ROOM`, or a function that returns its `Room`. A room needs
    JAX, so it is imported only when a run is built."""
    fields: tuple[Field, ...] = ()
    """The algorithm's own fields."""
    reads: frozenset[str] = frozenset()
    """The optional common fields that it reads: names, or sections such as "network."."""
    check: Callable[[Values], None] = nothing_to_check
    """Raises `UserError` if values do not fit together."""
    finds: Finds | None = None
    """What `config.then_train` trains; None if the algorithm does not search."""
    also: tuple[tuple[str, str], ...] = ()
    """Pairs (a name that people type for it, what to set instead), which errors suggest."""

    def is_read(self, field: Field) -> bool:
        """Whether this algorithm reads a field, without regard to the values of other fields."""
        if not field.optional or any(own.name == field.name for own in self.fields):
            return True
        return field.name in self.reads or f"{field.name.partition('.')[0]}." in self.reads
