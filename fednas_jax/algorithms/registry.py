"""Every algorithm, by name."""

import importlib
from typing import TYPE_CHECKING

from fednas_jax.algorithms.declared import Declared
from fednas_jax.algorithms.fedavg.config import DECLARED as FEDAVG
from fednas_jax.algorithms.fednas.config import DECLARED as FEDNAS
from fednas_jax.errors import UserError, suggest

if TYPE_CHECKING:
    from fednas_jax.algorithms.room import Room

ALGORITHMS: tuple[Declared, ...] = (FEDNAS, FEDAVG)
"""A new one is a line above and a name here."""


def find(name: str) -> Declared:
    """The algorithm that `config.algorithm` names.

    Raises:
      UserError: there is none of this name.
    """
    known = {declared.name: declared for declared in ALGORITHMS}
    if name not in known:
        raise UserError(f"config.algorithm: {name!r} is unknown{suggest(name, known)}")
    return known[name]


def title(name: str) -> str:
    """An algorithm's name for people; that of one which is not known is its own."""
    return next((declared.title for declared in ALGORITHMS if declared.name == name), name)


def room(name: str) -> "Room":
    """The room of an algorithm; imports JAX.

    Raises:
      UserError: as `find`.
    """
    found: Room = importlib.import_module(find(name).room).ROOM
    return found
