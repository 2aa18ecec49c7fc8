"""What an algorithm is made of: its phases, and what clients and server exchange in them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fednas_jax.federated.clients import Clients, Examples

Tree = Any
ServerState = Any


class ClientUpdate(NamedTuple):
    """What a client sends: sums and weights apart, so that means of any kind add up."""

    sums: Tree
    """Values times their weights."""
    weights: Tree
    """The weights: one number, or a tree that fits `sums` leaf by leaf (or slice by slice)."""
    metrics: dict[str, jax.Array]
    """Numbers about this client alone."""


class ChunkFacts(NamedTuple):
    """What all clients of a chunk share; never vmapped."""

    local_steps: jax.Array
    """Steps an epoch of the longest client: the common loop's length."""
    round: jax.typing.ArrayLike = 1
    """Of the run, from 1."""
    local_epochs: jax.Array | None = None
    """Most local epochs of a client, where these differ in a round; each client then has its own
    number as the fact `local_epochs`, and where its last epoch may be cut short as the fact
    `step_limit` its local steps over all of them."""


class Phase(NamedTuple):
    """Clients compute, the server collects. Most algorithms have one in a round."""

    client_update: Callable[[ServerState, Clients, ChunkFacts, Examples, jax.Array], ClientUpdate]
    """(state, one client, chunk facts, examples, this client's key) -> what it sends."""
    server_update: Callable[[ServerState, Tree, Tree], ServerState]
    """(state, total sums, total weights) -> state."""


class Algorithm(NamedTuple):
    """A federated algorithm."""

    init: Callable[[jax.Array], ServerState]
    """key -> state."""
    phases: Sequence[Phase]
    evaluate: Callable[[ServerState, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    """(state, raw images [B, H, W, C], labels [B]) -> losses [B], correct [B] as 0 or 1."""
    broadcast: Callable[[ServerState], Tree] = lambda state: state
    """What of its state the server sends to a client; the rest is its own."""
    large: bool = False
    """Whether its programs are such that compiling them is what one waits for, as a supernet's."""


def weighted_mean(sums: Tree, weights: Tree, before: Tree) -> Tree:
    """Sums over weights, and what was there before where nobody brought any weight.

    Args:
      sums: values times weights, added up.
      weights: one array for all leaves, or a tree like `sums` whose leaves fit by broadcasting.
      before: a tree like `sums`.
    """
    if isinstance(weights, jax.Array):
        weights = jax.tree.map(lambda _: weights, sums)

    def mean(total: jax.Array, weight: jax.Array, old: jax.Array) -> jax.Array:
        weight = weight.astype(total.dtype)
        return jnp.where(weight == 0, old, total / jnp.where(weight == 0, 1, weight))

    return jax.tree.map(mean, sums, weights, before)
