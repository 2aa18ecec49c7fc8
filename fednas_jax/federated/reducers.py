"""Reducers: they combine the updates of all clients of a phase into one pair (sums, weights).

A sum is added up while clients are computed, and takes the memory of one client's update. A median
needs all updates at once: its reducer has a buffer with a place for each client.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Tree = Any
"""Below, `sent` is the pair (sums, weights) of a `ClientUpdate`."""


class Reducer(NamedTuple):
    """Collects client updates, chunk by chunk and rank by rank."""

    name: str
    shapes: Callable[[Tree, int], Tree]
    """(shapes of one client's `sent`, number of places for clients) -> shapes of `collected`, a
    pair of which the larger part comes first. `collected` starts as zeros on each rank, and is
    added up over ranks at the end."""
    add: Callable[[Tree, Tree, jax.Array, jax.Array], Tree]
    """(`collected`, `sent` of a chunk [C, ...], whether each place has a client [C] bool, number of
    the chunk's first place) -> `collected` with the chunk."""
    finish: Callable[[Tree], Tree] = lambda collected: collected
    """`collected` of all ranks -> the pair (sums, weights) that `server_update` gets."""


def _add(total: Tree, sent: Tree, present: jax.Array, place: jax.Array) -> Tree:
    del present, place  # an empty place sends zeros; `transforms.chained` sees to it
    return jax.tree.map(lambda t, x: t + x.sum(axis=0), total, sent)


SUM = Reducer("sum", lambda sent, places: sent, _add)
"""Adds up sums and weights: `server_update` can then form the weighted mean of all clients."""


def buffered(name: str, of_all: Callable[[Tree, jax.Array], Tree]) -> Reducer:
    """A reducer that gets the updates of all clients at once.

    It takes the memory of one client's update for each place of a round.

    Args:
      name: the reducer's name.
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
