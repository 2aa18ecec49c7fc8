"""Configs: checked against the schema in `algorithms/schema.py`, overridden, compared, described.

A config is an `ml_collections.ConfigDict`. A file under `configs/` starts from `default()` and
changes what it needs; `check` refuses what is wrong in one line; `resolve` returns the frozen,
normalised config that a run uses. `python -m fednas_jax.config` prints the table of fields.

A run neither uses nor records a field that its algorithm does not read. If such a field is set, the
config is refused, so that no setting silently has no effect.
"""

import contextlib
import json
import math
import numbers
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import ml_collections

from fednas_jax.algorithms import registry, schema, unknown_fields
from fednas_jax.algorithms.schema import Schema
from fednas_jax.fields import extension
from fednas_jax.fields import rules as config_rules
from fednas_jax.fields.field import Config, Field, names_in
from fednas_jax.runtime import console, user_code
from fednas_jax.runtime.errors import UserError, one_line

FIELDS = schema.OURS.fields
"""The fields of the package's algorithms."""

_TYPE_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def default(algorithm: str = "fednas") -> ml_collections.ConfigDict:
    """A config with every field at its default: by default, the paper's search.

    Fields may be changed freely. `check` checks their types, not the assignment.

    Args:
      algorithm: the value of `config.algorithm`. A user's own algorithm adds its fields.
    """
    # Not type safe: `clients_per_chunk` is text or a number, and `check` has clearer errors.
    flat = {field.name: field.default for field in schema.of({"algorithm": algorithm}).fields}
    flat["algorithm"] = algorithm
    return ml_collections.ConfigDict(_nested(flat), type_safe=False)


def check(config: Config) -> None:
    """Refuses a config that no run could use.

    Raises:
      UserError: one line that names the field, what is wrong and what would be right.
    """
    _checked(config)


def resolve(
    config: Config, overrides: Mapping[str, str] | None = None
) -> ml_collections.FrozenConfigDict:
    """The config that a run uses: checked, with values in their declared types, frozen.

    Args:
      config: a config with every field of the schema. A path may be text or a `pathlib.Path`.
      overrides: fields to set, each as text, as on the command line.

    Raises:
      UserError: as `check`; or an override names no field or has the wrong type.
    """
    return ml_collections.FrozenConfigDict(_nested(_checked(_overridden(config, overrides or {}))))


def resolve_one_of(
    config: Config, overrides: Mapping[str, str], choice: str, values: Sequence[str] = ()
) -> ml_collections.FrozenConfigDict:
    """As `resolve`, for one of several configs that differ in the value of one field.

    A field that is not read with this value is left out instead of refused, since another of the
    configs may read it.

    Args:
      config: a config with every field of the schema.
      overrides: fields to set, each as text.
      choice: the field that differs, such as "network.name".
      values: its values in the other configs.

    Raises:
      UserError: as `resolve`.
    """
    here = _schema(_named(config, overrides)).by_name
    elsewhere: set[str] = set()
    for others in ({}, *({choice: value} for value in values)):
        elsewhere |= _schema(_named(config, others)).by_name.keys() - here.keys()
    overrides = {name: text for name, text in overrides.items() if name not in elsewhere}
    flat = _overridden(config, overrides)
    for name in elsewhere:
        flat.pop(name, None)
    known = _schema(flat)
    for field in known.fields:
        if _unread_for(field, flat, known) is known.by_name[choice]:
            flat.pop(field.name, None)
    return ml_collections.FrozenConfigDict(_nested(_checked(flat)))


def _overridden(config: Config, overrides: Mapping[str, str]) -> dict[str, Any]:
    flat = _named(config, overrides)
    known = _schema(flat)
    for name, text in overrides.items():
        field = known.by_name.get(name) or unknown_fields.refuse(name, known, flat)
        flat[name] = _parse(field, _plain(text))
    return flat


def _named(config: Config, overrides: Mapping[str, str]) -> dict[str, Any]:
    """The values of a config, after the overrides that decide which other fields there are."""
    flat = dict(_flatten(config))
    for name in ("algorithm", *extension.ONE, *extension.SEVERAL):
        if name in overrides:
            flat[name] = _parse(schema.OURS.by_name[name], _plain(overrides[name]))
    return flat


def fields_of(config: Config, overrides: Mapping[str, str]) -> tuple[Field, ...]:
    """All fields of a config, with those of a user's own code.

    Args:
      config: a config, which may lack fields. Its values are not checked.
      overrides: fields to set, each as text.

    Raises:
      UserError: a user's own code cannot be loaded.
    """
    return _schema(_named(config, overrides)).fields


def fields_of_data(config: Config, overrides: Mapping[str, str]) -> frozenset[str]:
    """The names of the fields that a user's own data set or partition declares.

    Args:
      config: a config, which may lack fields.
      overrides: fields to set, each as text.

    Raises:
      UserError: a user's own code cannot be loaded.
    """
    named = extension.named(_named(config, overrides))
    of_data = [one for one in named if one.field in ("dataset.name", "partition.name")]
    return frozenset(field.name for one in of_data for field in extension.fields(one))


def _schema(flat: Mapping[str, Any]) -> Schema:
    return schema.of(flat)


def to_json(config: Config) -> dict[str, Any]:
    """The fields that a run reads, as plain nested dicts in the order of the schema."""
    values = _checked(config)
    for name, field in schema.OURS.by_name.items():
        if not field.default_recorded and values.get(name) == field.default:
            values.pop(name, None)
    return _nested(values)


def differences(recorded: Config, config: Config, may_differ: Collection[str] = ()) -> list[str]:
    """The differences because of which `config` cannot resume the run of `recorded`.

    Args:
      recorded: the run's config, as read from JSON. A field that it lacks counts as having its
        default, so that a run can be resumed after a field was added.
      config: the config of this start.
      may_differ: names of fields that are not compared here.

    Returns:
      "config.<field>: <recorded> there, <asked> here" for each field that affects the result.
    """
    there, here = dict(_flatten(recorded)), _checked(config)
    changes = {n: pair for n, pair in changes_of(recorded, config).items() if n not in may_differ}
    found = [_difference(name, *pair) for name, pair in changes.items()]
    gone = {n: value for n, value in there.items() if n not in _schema(here).by_name}
    if gone:
        with contextlib.suppress(UserError):  # perhaps of a callback that is not used any more
            for field in _schema(there).fields:
                if not field.affects_result:
                    gone.pop(field.name, None)
    lines = [f"config.{name}: {was!r} there, no such field here" for name, was in gone.items()]
    return found + lines


def changes_of(recorded: Config, config: Config) -> dict[str, tuple[Any, Any]]:
    """The fields that affect the result and differ: name -> (value there, value here).

    Args:
      recorded: as for `differences`.
      config: as for `differences`.
    """
    there, here = dict(_flatten(recorded)), _checked(config)
    found = {}
    for field in _schema(here).fields:
        was, now = (values.get(field.name, field.default) for values in (there, here))
        if field.affects_result and _comparable(was) != _comparable(now):
            found[field.name] = was, now
    return found


def with_values(recorded: Config, values: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded config with other values of some fields, given by dotted name."""
    return _nested({**dict(_flatten(recorded)), **values})


def _comparable(value: Any) -> Any:
    return user_code.comparable(value) if isinstance(value, str) else value


def _difference(name: str, was: Any, asked: Any) -> str:
    line = f"config.{name}: {was!r} there, {asked!r} here"
    given = isinstance(was, str) and any(map(user_code.is_given, names_in(was)))
    return f"{line}, where {user_code.to_pass(f'config.{name}')}" if given else line


def markdown() -> str:
    """The table of fields, as Markdown."""
    rows = ["| field | default | meaning |", "| --- | --- | --- |"]
    rows += [f"| `{f.name}` | `{json.dumps(f.default)}` | {_described(f)} |" for f in FIELDS]
    return "\n".join(rows)


def _described(field: Field) -> str:
    of, everybody = schema.readers(field), len(registry.ALGORITHMS)
    conditions = [] if len(of) == everybody else [", ".join(of)]
    if field.needs:
        name, values = field.needs
        conditions.append(f"`{name}` of {', '.join(map(json.dumps, values))}")
    return f"({'; '.join(conditions)}) {field.meaning}" if conditions else field.meaning


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        section, _, leaf = name.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[leaf] = value
    return nested


def flat(config: Config) -> dict[str, Any]:
    """The values of a config, by dotted name."""
    return dict(_flatten(config))


def _flatten(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, (Mapping, ml_collections.ConfigDict)) and len(value):
            yield from _flatten(value, f"{name}.")
        else:
            yield name, _plain(value)


def _plain(value: Any) -> Any:
    """A path, such as a `pathlib.Path`, as text; another value as it is."""
    return os.fsdecode(value) if isinstance(value, os.PathLike) else value


def _checked(config: Any) -> dict[str, Any]:
    flat = dict(_flatten(config))
    known = _schema(flat)
    for name in flat:
        if name not in known.by_name:
            unknown_fields.refuse(name, known, flat)
    ours = schema.OURS.by_name
    need_not_be = [f for f in known.fields if f.name not in ours or not f.default_recorded]
    flat = {field.name: field.default for field in need_not_be} | flat
    values = {}
    for field in known.fields:
        other = _unread_for(field, flat, known)
        if other is None:
            values[field.name] = _value(field, flat)
        elif field.name in flat and _value(field, flat) != field.default:
            raise UserError(
                f"config.{field.name}: {flat[field.name]!r} is not used where config.{other.name} "
                f"is {_value(other, flat)!r}; {field.default!r}, its default, is needed"
            )
    config_rules.check(values)
    registry.check(values["algorithm"], values)
    return values


def _unread_for(field: Field, flat: Mapping[str, Any], known: Schema) -> Field | None:
    """The other field whose value is the reason that this one is not read; None if it is read."""
    algorithm = known.by_name["algorithm"]
    if not registry.find(_value(algorithm, flat)).is_read(field):
        return algorithm
    if field.needs is None:
        return None
    name, values = field.needs
    other = known.by_name[name]
    if unread_for := _unread_for(other, flat, known):
        # An algorithm that does not read the other field may still read this one.
        return None if unread_for is algorithm else unread_for
    return None if _value(other, flat) in values else other


def _value(field: Field, flat: Mapping[str, Any]) -> Any:
    value = _typed(field, flat)
    try:
        right = field.check(value)
    except Exception as error:  # of any type: the field may be a user's own
        right = f"its check fails ({type(error).__name__}: {one_line(error)}), and has to be mended"
    if right:
        raise UserError(f"config.{field.name}: {value!r} is not usable; {right}")
    return value


def _typed(field: Field, flat: Mapping[str, Any]) -> Any:
    if field.name not in flat:
        raise UserError(f"config.{field.name}: missing; start from fednas_jax.config.default()")
    value = flat[field.name]
    if isinstance(value, str) and field.types == (int, str):
        return _parse(field, value)
    if isinstance(value, bool) and bool not in field.types:
        raise _wrong_type(field, value)
    if int in field.types and isinstance(value, numbers.Integral):
        return int(value)
    if float in field.types and isinstance(value, numbers.Real):
        return _finite(field, value)
    if isinstance(value, field.types):
        return value
    raise _wrong_type(field, value)


def _finite(field: Field, value: Any) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise UserError(f"config.{field.name}: {value} is not usable; a finite number is needed")
    return number


def _parse(field: Field, text: str) -> Any:
    flags = {"true": True, "1": True, "false": False, "0": False}
    if bool in field.types and text.lower() in flags:
        return flags[text.lower()]
    with contextlib.suppress(ValueError):
        if int in field.types:
            return int(text)
        if float in field.types:
            return _finite(field, text)
    if str in field.types:
        return text
    raise _wrong_type(field, text)


def _wrong_type(field: Field, value: Any) -> UserError:
    right = " or ".join(_TYPE_NAMES[kind] for kind in field.types)
    shown = " ".join(repr(value).split())
    besides = f", or {field.besides}" if field.besides else ""
    return UserError(
        f"config.{field.name}: {shown} ({type(value).__name__}) is not usable; "
        f"{right} is needed, such as {field.default!r}{besides}"
    )


@console.tolerant()
def main(argv: Sequence[str], program: str = "python -m fednas_jax.config") -> int:
    """Prints the table of fields; returns the exit code: 0 done, 2 bad input."""
    from fednas_jax.runtime.command_line import listing

    about = f"Lists the fields of a config as Markdown: defaults, meanings.\n\n  {program}\n"
    return listing(argv, about, markdown())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
