"""How what all clients of a phase send becomes one thing.

A sum is added up as clients are computed, and takes the memory of one client. A median needs all
that was sent at once: its reducer keeps a buffer with a place for each client.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Tree = Any
"""Below, `sent` is the pair (sums, weights) of `ClientUpdate`."""


class Reducer(NamedTuple):
    """Collects what clients send, chunk by chunk and rank by rank."""

    name: str
    shapes: Callable[[Tree, int], Tree]
    """(`sent` of one client as shapes, clients for which there is a place) -> what is collected,
    as shapes: a pair, its larger part first. It begins as zeros. What several ranks have collected
    is added up."""
    add: Callable[[Tree, Tree, jax.Array, jax.Array], Tree]
    """(collected, `sent` of a chunk [C, ...], whether there is a client in each place [C] bool,
    the chunk's first place) -> collected."""
    finish: Callable[[Tree], Tree] = lambda collected: collected
    """Collected of all ranks -> the pair (sums, weights) that `server_update` gets."""


def _add(total: Tree, sent: Tree, present: jax.Array, place: jax.Array) -> Tree:
    del present, place  # an empty place sends zeros; `transforms.chained` sees to it
    return jax.tree.map(lambda t, x: t + x.sum(axis=0), total, sent)


SUM = Reducer("sum", lambda sent, places: sent, _add)
"""Adds up; the mean of `server_update` is then that of all clients."""


def buffered(name: str, of_all: Callable[[Tree, jax.Array], Tree]) -> Reducer:
    """A reducer that sees what all clients have sent at once.

    It takes the memory of one client's update for each place of a round.

    Args:
      name: of the reducer.
      of_all: (`sent` [places, ...], present [places] bool) -> the pair (sums, weights) that
        `server_update` gets. Where `present` is false, `sent` is zeros.
    """

    def shapes(sent: Tree, places: int) -> Tree:
        present = jax.ShapeDtypeStruct((), jnp.int32)
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((places, *x.shape), x.dtype), (sent, present)
        )

    def add(rows: Tree, sent: Tree, present: jax.Array, place: jax.Array) -> Tree:
        def write(row: jax.Array, new: jax.Array) -> jax.Array:
            return jax.lax.dynamic_update_slice_in_dim(row, new, place, 0)

        return jax.tree.map(write, rows, (sent, present.astype(jnp.int32)))

    def finish(rows: Tree) -> Tree:
        sent, present = rows
        return of_all(sent, present > 0)

    return Reducer(name, shapes, add, finish)
