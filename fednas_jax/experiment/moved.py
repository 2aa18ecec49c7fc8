"""Files of a run that now lie elsewhere: which fields may name another place than at first.

A place is not compared. The content is: `resumption.look` compares it with what the run has
recorded of it.
"""

import os
from collections.abc import Mapping
from typing import Any

from fednas_jax import config as schema
from fednas_jax.data import sources
from fednas_jax.fields.field import names_in
from fednas_jax.runtime import user_code
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.paths import expand

OF_DATA = ("dataset.name", "dataset.test_path", "partition.path", "partition.table")
"""Fields whose files decide which examples there are, and which client holds them."""

WEIGHTS = "warm_start"

_CODE = ("algorithm", "network.name", "dataset.name", "partition.name", "transforms", "reducer")

Places = Mapping[str, tuple[str, str]]
"""Field -> (place that the run has recorded, place of this start)."""


def fields(recorded: schema.Config, config: schema.Config) -> dict[str, tuple[str, str]]:
    """The fields that name a file in two configs, but not at the same place.

    Args:
      recorded: a run's config, in JSON's types.
      config: the config of this start.
    """
    asked = schema.flat(config)
    return {
        name: (was, now)
        for name, (was, now) in schema.changes_of(recorded, config).items()
        if isinstance(was, str) and isinstance(now, str) and _may_move(name, was, now, asked)
    }


def _may_move(name: str, was: str, now: str, config: Mapping[str, Any]) -> bool:
    if name in _CODE and _same_names(was, now):
        return True
    if name == "dataset.name":
        return sources.is_own(was) and sources.is_own(now)
    if name == "partition.table":
        return bool(config.get("partition.name") == "table")
    return name in (*OF_DATA, WEIGHTS) and bool(was.strip()) and bool(now.strip())


def _same_names(was: str, now: str) -> bool:
    """Whether two values refer to code of the same names, in any modules or files."""
    pairs = list(zip(names_in(was), names_in(now), strict=False))
    same_number = len(names_in(was)) == len(names_in(now)) == len(pairs)
    return same_number and bool(pairs) and all(_same_name(*pair) for pair in pairs)


def _same_name(was: str, now: str) -> bool:
    if was == now:
        return True
    if not (user_code.is_reference(was) and user_code.is_reference(now)):
        return False
    given = user_code.is_given(was) or user_code.is_given(now)
    return not given and was.rpartition(":")[2] == now.rpartition(":")[2]


def earlier_key(key: str, places: Places) -> str:
    """The key under which run.json records a user's code that may lie elsewhere now.

    Args:
      key: of the code now: a field, or "field:reference" where the field names several.
      places: as of `fields`.
    """
    field, _, reference = key.partition(":")
    if field not in places or not reference:
        return key
    was, now = (names_in(value) for value in places[field])
    return f"{field}:{was[now.index(reference)]}" if reference in now else key


def of_inputs(run: Mapping[str, Any], config: schema.Config) -> tuple[str, ...]:
    """The fields whose content run.json records under their name, as of `Room.inputs`.

    Args:
      run: content of run.json.
      config: the resolved config of this start.
    """
    return tuple(name for name in schema.flat(config) if run.get(name) is not None)


def check_there(
    folder: object, recorded: schema.Config, config: schema.Config, names: tuple[str, ...]
) -> None:
    """Refuses to resume a run if a file that it reads is missing, and says what to give.

    Args:
      folder: the run's folder.
      recorded: the config in run.json.
      config: the resolved config of this start.
      names: the fields to look at.

    Raises:
      UserError: a file is missing.
    """
    values, before = schema.flat(config), schema.flat(recorded)
    for name in names:
        path = str(values.get(name, ""))
        if not _is_path(name, path) or os.path.exists(expand(path, f"config.{name}")):
            continue
        if path != before.get(name, path):
            raise UserError(
                f"config.{name}: {path} is missing; the run in {folder} began with "
                f"{before[name]}, and a file or folder with the same content is needed"
            )
        raise UserError(
            f"config.{name}: {path}, which the run in {folder} reads, is missing; the file is "
            f"needed there, or at another place given by --config.{name}=PATH, where its "
            "content is compared"
        )


def _is_path(name: str, value: str) -> bool:
    if name == "dataset.name":
        return sources.is_own(value)
    if name == "partition.table":
        return value.endswith(".csv")
    if name in ("dataset.test_path", "partition.path"):
        return bool(value.strip())
    return user_code.is_path(value) or value.endswith(".json")
