"""The room of a user's own: what its parts return is checked, and where they fail is told."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections
import numpy as np

from fednas_jax.algorithms import stage_types
from fednas_jax.algorithms.room import ClientLayout, Room
from fednas_jax.algorithms.stage_types import RoundsStage, Stage
from fednas_jax.federated.algorithm import Algorithm
from fednas_jax.federated.schedule import Schedule
from fednas_jax.fields.extension import Kind
from fednas_jax.report.findings import Findings
from fednas_jax.runtime import beside, user_code
from fednas_jax.runtime.errors import UserError

_ALGORITHM = "a fednas_jax.federated.algorithm.Algorithm"
_PARTS = {
    "layout": Kind(ClientLayout, "a function(config) that returns a ClientLayout"),
    "build": Kind(Algorithm, f"a function(config, dataset) that returns {_ALGORITHM}"),
    "network": Kind(Mapping, "a function(config) that returns a dictionary with a name"),
    "findings": Kind(Findings, "a function(config, folder) that returns a Findings"),
    "sections": Kind((list, tuple), "a function(run) that returns a list of sections"),
    "inputs": Kind(Mapping, "a function(config) that returns a dictionary"),
    "origins": Kind(Mapping, "a function(config) that returns a dictionary"),
    "facts": Kind(Mapping, "a function(config, partition) that returns a dictionary of arrays"),
    "stages": Kind(object, "a function(config) that returns a tuple of stages"),
}
_CONFIG = Kind((Mapping, ml_collections.ConfigDict), "a function(folders) that returns a config")
_COMPUTE = Kind(object, "a function(context) that returns a dictionary")


def room(given: Room, name: str) -> Room:
    """A room whose parts raise `UserError` where a user's function fails or returns another type.

    Args:
      given: of a user's own. Parts that it shares with the package's rooms are left as they are.
      name: of its algorithm.

    Raises:
      UserError: a part is no function, or the schedule is none.
    """
    about = f"config.algorithm: {name}"
    if not isinstance(given.schedule, Schedule):
        raise UserError(
            f"{about}: the schedule of its room is of type {type(given.schedule).__name__}; a "
            "fednas_jax.federated.schedule.Schedule is needed"
        )
    calls: dict[str, Any] = {
        part: _checked(getattr(given, part), f"{about}: {part} of its room", kind)
        for part, kind in _PARTS.items()
    }
    network, facts, stages = calls["network"], calls["facts"], calls["stages"]
    calls["network"] = lambda config: _with_name(network(config), about)
    calls["facts"] = lambda config, partition: _arrays(facts(config, partition), about)
    calls["stages"] = lambda config: _stages(stages(config), name)
    return given._replace(**calls)


def _checked(function: Any, what: str, kind: Kind) -> Callable[..., Any]:
    if not callable(function):
        raise UserError(f"{what} is of type {type(function).__name__}; {kind.needed}")
    if str(getattr(function, "__module__", "")).startswith("fednas_jax."):
        return function

    def call(*arguments: Any) -> Any:
        path = user_code.source_of(function).path
        try:
            with beside.importable(path):
                found = function(*arguments)
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # of whatever type: it is not our code
            raise user_code.failed(what, path, error, kind.needed) from error
        if not isinstance(found, kind.type):
            raise UserError(
                f"{what}{_place(function, path)} returns {type(found).__name__}; {kind.needed}"
            )
        return found

    return call


def _place(function: Any, path: str) -> str:
    """ " (file:line)" of a function; "" of what has no file."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if not path:
        return ""
    return f" ({path}:{code.co_firstlineno})" if code else f" ({path})"


def _with_name(fields: Mapping[str, Any], about: str) -> Mapping[str, Any]:
    if not isinstance(fields.get("name"), str):
        raise UserError(f"{about}: network of its room has no name; {_PARTS['network'].needed}")
    return fields


def _arrays(facts: Mapping[str, Any], about: str) -> dict[str, np.ndarray]:
    found = {}
    for name, values in facts.items():
        try:
            found[name] = np.asarray(values)
        except ValueError:  # rows of unlike lengths
            found[name] = np.asarray("")
        if found[name].dtype.kind not in "biuf":
            raise UserError(
                f"{about}: the fact {name!r} of its room is no array of numbers; "
                f"{_PARTS['facts'].needed}"
            )
    return found


def _stages(found: Any, name: str) -> tuple[Stage, ...]:
    about = f"config.algorithm: {name}"
    return tuple(
        stage._replace(config=_checked(stage.config, f"{about}: config of a stage", _CONFIG))
        if isinstance(stage, RoundsStage)
        else stage._replace(compute=_checked(stage.compute, f"{about}: compute", _COMPUTE))
        for stage in stage_types.check(found, name)
    )
