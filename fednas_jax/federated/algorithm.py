"""What an algorithm is made of: its phases, and what clients and server exchange in them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fednas_jax.data.task import Scores
from fednas_jax.federated.clients import Clients, Examples
from fednas_jax.federated.reducers import SUM, Reducer

Tree = Any
ServerState = Any


class ClientUpdate(NamedTuple):
    """What a client sends: sums and weights apart, so that means of any kind add up."""

    sums: Tree
    """Values times their weights."""
    weights: Tree
    """The weights: one number, or a tree that fits `sums` leaf by leaf (or slice by slice)."""
    metrics: dict[str, jax.Array]
    """Numbers about this client alone; those of the first phase reach metrics.jsonl. The first
    phase needs `weight`, by which the other metrics are averaged, `local_steps`, how many the
    client has made, and `finite`, whether all that it sends is finite (`finite_tree`)."""
    personal: Tree = ()
    """The client's next personal state, which is not sent; () where it is as before."""


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
    group: jax.typing.ArrayLike = 0
    """The value of the fact `Algorithm.group_by`; 0 where the algorithm groups by nothing."""
    key: jax.Array | None = None
    """Of the phase and the group, the same for every client of it however clients are put in
    chunks: for what they draw together, such as a path through a supernet."""


class ServerFacts(NamedTuple):
    """What the server knows of a phase besides what clients have sent."""

    round: jax.typing.ArrayLike
    """Of the run, from 1."""
    key: jax.Array
    """For what the server draws in this phase."""
    clients: jax.Array
    """How many clients have sent something; int32."""


class Phase(NamedTuple):
    """Clients compute, the server collects. Most algorithms have one in a round."""

    client_update: Callable[[ServerState, Clients, ChunkFacts, Examples, jax.Array], ClientUpdate]
    """(state, one client, chunk facts, examples, this client's key) -> what it sends."""
    server_update: Callable[[ServerState, Tree, Tree, ServerFacts], ServerState]
    """(state, reduced sums, reduced weights, server facts) -> state."""


class Algorithm(NamedTuple):
    """A federated algorithm."""

    init: Callable[[jax.Array], ServerState]
    """key -> state, a NamedTuple where `personal` or a transform adds to it."""
    phases: Sequence[Phase]
    evaluate: Callable[[ServerState, Tree, Tree], Scores]
    """(state, raw inputs [B, ...], targets [B, ...]) -> scores of each example."""
    broadcast: Callable[[ServerState], Tree] = lambda state: state
    """What of its state the server sends to a client; the rest is its own."""
    large: bool = False
    """Whether its programs are such that compiling them is what one waits for, as a supernet's."""
    group_by: str = ""
    """Fact of clients by which chunks are made: all clients of a chunk have the same value."""
    personal: Callable[[ServerState], Tree] | None = None
    """The first state -> what each client keeps from round to round, at first. A client finds its
    own as `client.personal`, and returns the next as `ClientUpdate.personal`."""
    reducer: Reducer = SUM
    """How what clients send becomes what `server_update` gets."""
    leaves_out: bool = False
    """Whether a client that sends what is not finite counts as absent from then on in the round;
    set by the transform `only_finite`."""


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


def finite_tree(tree: Tree) -> jax.Array:
    """Whether all numbers of a tree are finite."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def weighted_update(
    result: Tree, client: Clients, *, loss: Tree, **metrics: jax.Array
) -> ClientUpdate:
    """A client's result times its number of examples, with the metrics that a run needs.

    Args:
      result: what the client has learnt.
      client: whose it is; `num_examples` is its weight, N_k.
      loss: sums of losses, which have to be finite too.
      metrics: others; `local_steps` among them.
    """
    weight = client.num_examples.astype(jnp.float32)
    known = {"weight": weight, "finite": finite_tree((result, loss))}
    return ClientUpdate(jax.tree.map(lambda x: weight * x, result), weight, metrics | known)
