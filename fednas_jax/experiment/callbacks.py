"""Callbacks: a user's own functions, called after each round."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fednas_jax.federated.ranks.communicator import Communicator
from fednas_jax.fields import extension
from fednas_jax.fields.field import names_in
from fednas_jax.runtime import user_code
from fednas_jax.runtime.errors import UserError

_FIELD = "config.callbacks"
_NEEDED = "a function(event) that returns nothing is needed, see docs/extending.md"


class Event(NamedTuple):
    """A recorded round, as a callback gets it."""

    round: int
    """Number of the round, from 1."""
    row: dict[str, Any]
    """A copy of its metrics, as in metrics.jsonl."""
    state: Any
    """The server state after the round. `jax.device_get(event.state)` copies it from the device."""
    folder: Path
    """The run's folder."""
    config: Mapping[str, Any]
    """The run's resolved config."""


def load(config: Mapping[str, Any]) -> list[tuple[str, Callable[[Event], Any], str]]:
    """The functions that `config.callbacks` names, each with its reference and its file.

    Raises:
      UserError: one cannot be loaded, or is not a function.
    """
    functions = []
    for reference in names_in(config["callbacks"]):
        function, source = extension.unwrapped(reference, _FIELD)
        if not callable(function):
            kind = type(function).__name__
            raise UserError(f"{_FIELD}: {reference} is of type {kind}; {_NEEDED}")
        functions.append((reference, function, source.path))
    return functions


class Callbacks:
    """The functions that `config.callbacks` names, called one after another on rank 0."""

    def __init__(self, config: Mapping[str, Any], folder: Path, communicator: Communicator) -> None:
        """Loads the functions; see `load`."""
        self._config, self._folder, self._communicator = config, folder, communicator
        self._functions = load(config)

    def tell(self, row: Mapping[str, Any], state: Any, keep: Callable[[], None]) -> None:
        """Calls the functions after a round.

        Args:
          row: the round's metrics.
          state: the server state after the round.
          keep: writes the round's checkpoint, so that the round is not lost if a function fails.

        Raises:
          UserError: a function fails, or returns a value other than None.
        """
        if self._functions:
            self._communicator.decide(lambda: self._call(row, state, keep))

    def _call(self, row: Mapping[str, Any], state: Any, keep: Callable[[], None]) -> None:
        for reference, function, path in self._functions:
            copied = copy.deepcopy(dict(row))
            event = Event(row["round"], copied, state, self._folder, self._config)
            what = f"round {row['round']}: {_FIELD}: {reference}"
            try:
                result = function(event)
            except (Exception, SystemExit) as error:  # of any type: a user's code may raise it
                keep()
                raise user_code.failed(what, path, error, "mend it; the round is kept") from error
            if result is not None:
                keep()
                raise UserError(f"{what} returns {type(result).__name__}; {_NEEDED}")
