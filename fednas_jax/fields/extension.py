"""Users' own networks, data sets and so on: the config fields that name them, and their fields."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fednas_jax.fields.field import Field, names_in, several
from fednas_jax.runtime import beside, user_code
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.user_code import Source


class Extension(NamedTuple):
    """A user's function with config fields of its own.

    Wherever a config may refer to a function, it may refer to an `Extension` of the function. The
    fields of a network have names in the section `network.`; the function gets them as keyword
    arguments, by their names without the section.
    """

    make: Callable[..., Any]
    """The function; its arguments depend on what it makes."""
    fields: tuple[Field, ...] = ()
    """Fields of the config; checked, recorded and listed like those of the package."""


class Kind(NamedTuple):
    """What a config field needs."""

    type: type | tuple[type, ...]
    """The type of the result of the user's function."""
    signature: str
    """The function's signature in words, for errors."""

    @property
    def needed(self) -> str:
        """The end of an error: what would be right."""
        return f"{self.signature} is needed, see docs/extending.md"


ONE = ("network.name", "dataset.name", "partition.name", "reducer")
"""Fields that may have a reference."""
SEVERAL = ("transforms", "callbacks")
"""Fields that may have several references, separated by commas."""
AFFECTS_NOTHING = "callbacks"
"""The field whose code may change between two starts of a run, since it affects no result."""
_NETWORK = "network."
_NAME = re.compile(r"[a-z_][a-z_0-9]*(\.[a-z_0-9]+)?")
_TYPES = (int, float, str, bool)


class Named(NamedTuple):
    """A reference in a config to a user's own code."""

    field: str
    """The name of the field, without "config."."""
    reference: str

    @property
    def key(self) -> str:
        """The name under which run.json records its source."""
        reference = user_code.comparable(self.reference)
        return self.field if self.field in ONE else f"{self.field}:{reference}"


def named(values: Mapping[str, Any]) -> Iterator[Named]:
    """All references to a user's own code in a config, in order, except its algorithm.

    Args:
      values: values of the config's fields, by dotted name, of any types.
    """
    for field in (*ONE, *SEVERAL):
        value = values.get(field)
        if isinstance(value, str):
            references: tuple[str, ...] = (value,)
            if field in SEVERAL:  # values that are not usable are refused later, by the check
                references = () if several(value) else names_in(value)
            for reference in dict.fromkeys(filter(user_code.is_reference, references)):
                yield Named(field, reference)


def fields(one: Named) -> tuple[Field, ...]:
    """The fields that a user's `Extension` declares; none for a function without one.

    Raises:
      UserError: it cannot be loaded, or declares a field that is not usable.
    """
    found = user_code.load(one.reference, f"config.{one.field}").value
    if not isinstance(found, Extension):
        return ()
    of = f"config.{one.field}: {one.reference}"
    check_declared(found.fields, of)
    for field in found.fields:
        if one.field == "network.name" and not field.name.startswith(_NETWORK):
            raise UserError(
                f"{of} declares a field {field.name!r}; fields of a network are named "
                f"{_NETWORK}NAME, such as {_NETWORK}{field.name.rpartition('.')[2]}"
            )
        if one.field != "network.name" and field.name.startswith(_NETWORK):
            raise UserError(
                f"{of} declares a field {field.name!r}; names that begin with {_NETWORK} are those "
                "of a network's fields, another name is needed"
            )
        if field.optional:
            raise UserError(
                f"{of} declares the field {field.name!r} as optional, so that no algorithm would "
                "read it; optional=False is needed"
            )
    if one.field == AFFECTS_NOTHING:
        return tuple(field._replace(affects_result=False) for field in found.fields)
    return tuple(found.fields)


def check_declared(declared: Sequence[Field], of: str) -> None:
    """Refuses fields that a config cannot have.

    Args:
      declared: the fields that a user declares.
      of: begins the error: the config field and the reference.

    Raises:
      UserError: one is not a `Field`, or a part of it is not usable.
    """
    if not isinstance(declared, list | tuple) or isinstance(declared, Field):
        raise UserError(
            f"{of} has the fields {declared!r}; a tuple of fednas_jax.fields.field.Field is needed"
        )
    for field in declared:
        if not isinstance(field, Field):
            raise UserError(f"{of} declares {field!r}; a fednas_jax.fields.field.Field is needed")
        if not isinstance(field.name, str) or not _NAME.fullmatch(field.name):
            raise UserError(
                f"{of} declares a field {field.name!r}; a name such as 'mine' or 'mine.size' is "
                "needed"
            )
        right = isinstance(field.types, tuple) and field.types and _all_in(field.types, _TYPES)
        if not right or not isinstance(field.default, field.types):
            raise UserError(
                f"{of} declares a field {field.name!r} with the default {field.default!r}; one of "
                "the types INT, FLOAT, TEXT and FLAG of fednas_jax.fields.field is needed, and a "
                "default "
                "of that type"
            )
        for part, is_right, needed in (
            ("check", callable(field.check), "a function(value) that returns text"),
            ("help", isinstance(field.help, str), "text"),
            ("needs", _is_condition(field.needs), "None, or (name of a field, (value, ...)),"),
        ):
            if not is_right:
                raise UserError(
                    f"{of} declares a field {field.name!r} with the {part} "
                    f"{getattr(field, part)!r}; {needed} is needed"
                )


def _all_in(values: Sequence[Any], of: Sequence[Any]) -> bool:
    return all(any(value is one for one in of) for value in values)


def _is_condition(needs: Any) -> bool:
    if needs is None:
        return True
    pair = isinstance(needs, tuple) and len(needs) == 2 and isinstance(needs[0], str)
    return pair and isinstance(needs[1], tuple) and _all_in([*map(type, needs[1])], _TYPES)


def unwrapped(reference: str, field: str) -> tuple[Any, Source]:
    """The object of a reference, without an `Extension` around it, and its source.

    Raises:
      UserError: it cannot be loaded.
    """
    found = user_code.load(reference, field)
    value = found.value.make if isinstance(found.value, Extension) else found.value
    return value, found.source


def made(reference: str, field: str, kind: Kind, *arguments: Any) -> Any:
    """The result of a user's function; or the object itself, if it is already what is needed.

    Args:
      reference: as for `user_code.load`.
      field: the config field with the reference.
      kind: what the field needs.
      *arguments: arguments of the function.

    Raises:
      UserError: the function cannot be loaded, fails, or returns something of another type.
    """
    make, source = unwrapped(reference, field)
    if isinstance(make, kind.type):
        return make
    what = f"{field}: {reference}"
    if not callable(make):
        raise UserError(f"{what} is of type {type(make).__name__}; {kind.needed}")
    try:
        with beside.importable(source.path):
            result = make(*arguments)
    except UserError as error:
        raise UserError(f"{what}: {error}") from error
    except (Exception, SystemExit) as error:  # of any type: a user's code may raise it
        raise user_code.failed(what, source.path, error, kind.needed) from error
    if not isinstance(result, kind.type):
        raise UserError(f"{what} returns {type(result).__name__}; {kind.needed}")
    return result


def given_fields(one: Mapping[str, Any], several: Mapping[str, Any]) -> dict[str, str]:
    """The values, as text, of fields for which a user has passed objects in Python.

    Args:
      one: field, such as "dataset.name" -> an object; None for none.
      several: field -> a list or tuple of objects, or a single one; None for none.

    Returns:
      Field -> references to its objects.
    """
    lists = {field: [value] for field, value in one.items() if value is not None}
    for field, values in several.items():
        # A named tuple, such as a `Transform` or an `Extension`, is one object.
        is_list = isinstance(values, list | tuple) and not hasattr(values, "_fields")
        lists[field] = list(values) if is_list else [] if values is None else [values]
    return {field: given(field, *values) for field, values in lists.items() if values}


def given(field: str, *objects: Any) -> str:
    """The value, as text, of a field for which a user has passed objects in Python.

    An object that can be imported is named by its module; any other object is stored in this
    process under a name of its own (`user_code.give`).

    Args:
      field: the field, such as "dataset.name".
      *objects: the objects, or references to them as text.
    """
    names: dict[str, Any] = {}
    found = []
    for value in objects:
        reference = value if isinstance(value, str) else _importable(value)
        if not reference:
            name = first = _called(value, field)
            while name in names and names[name] is not value:
                name = f"{first}_{len(names) + 1}"
            names[name] = value
            # The examples of a data set are compared wherever they matter: one need not stay.
            reference = user_code.give(value, name, forget=field == "dataset.name")
        found.append(reference)
    return ",".join(found)


def _importable(value: Any) -> str:
    """`package.module:Name` of a class, a function or an `Extension`; "" if it has no such name."""
    if not isinstance(value, Extension):
        return user_code.reference(value)
    module = getattr(value.make, "__module__", "")
    there = vars(sys.modules[module]) if module in sys.modules else {}
    names = (name for name, other in there.items() if other is value)
    return next((user_code.refer(module, name) for name in names), "")


def _called(value: Any, field: str) -> str:
    """A name for an object in this process, from its own name or that of its function or type."""
    inner = value.make if isinstance(value, Extension) else value
    inner = getattr(inner, "func", inner)
    name = getattr(inner, "__name__", None) or getattr(inner, "name", None)
    if not isinstance(name, str):
        name = type(inner).__name__
    short = re.sub(r"\W+", "_", name).strip("_")
    return f"{field.partition('.')[0]}_{short or 'own'}"
