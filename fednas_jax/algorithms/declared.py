"""What an algorithm declares of itself, before anything is built."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fednas_jax.fields.field import Field

Values = Mapping[str, Any]
"""The fields that a run reads, by dotted name, each in its declared type and range."""


def nothing_to_check(values: Values) -> None:
    """Of an algorithm whose fields go together whatever they are."""


class Finds(NamedTuple):
    """What a run ends with that another run can train."""

    field: str
    """Of the other run's config, which names it."""
    file: str
    """In the folder of the run that finds it."""


class Declared(NamedTuple):
    """An algorithm's name, its fields, and where its room is."""

    name: str
    """As in `config.algorithm`."""
    title: str
    """For people."""
    room: str | Callable[[], Any]
    """The module with its `ROOM`, or a function that returns its `Room`: rooms need JAX, and are
    imported when they are built."""
    fields: tuple[Field, ...] = ()
    """Its own."""
    reads: frozenset[str] = frozenset()
    """Optional common fields that it reads: names, or sections such as "network."."""
    check: Callable[[Values], None] = nothing_to_check
    """Raises `UserError` where values do not go together."""
    finds: Finds | None = None
    """What `config.then_train` trains; None of an algorithm that searches nothing."""

    def is_read(self, field: Field) -> bool:
        """Whether runs of this algorithm read a field, whatever the values of others."""
        if not field.optional or any(own.name == field.name for own in self.fields):
            return True
        return field.name in self.reads or f"{field.name.partition('.')[0]}." in self.reads
