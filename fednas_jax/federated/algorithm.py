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
    """What a client sends. Sums and weights are separate, so that the server can form any mean."""

    sums: Tree
    """Values times their weights."""
    weights: Tree
    """The weights: one number, or a tree that fits `sums` leaf by leaf (or slice by slice)."""
    metrics: dict[str, jax.Array]
    """Numbers about this client alone; those of the first phase reach metrics.jsonl. That phase
    needs three: `weight`, by which the other metrics are averaged over clients; `local_steps`, how
    many the client made; `finite`, whether everything that it sends is finite (`finite_tree`)."""
    personal: Tree = ()
    """The client's next personal state, which is not sent; () leaves it unchanged."""


class ChunkFacts(NamedTuple):
    """What all clients of a chunk have in common; never vmapped."""

    local_steps: jax.Array
    """Local steps an epoch of the chunk's longest client: the length of the common loop."""
    round: jax.typing.ArrayLike = 1
    """Number of the round in the run, from 1."""
    local_epochs: jax.Array | None = None
    """The largest number of local epochs of a client in the chunk; None where all clients of a
    round make the same number. Otherwise each client has its own number as the fact `local_epochs`.
    If its last epoch may be cut short, it also has its local steps of the round as the fact
    `step_limit`."""
    group: jax.typing.ArrayLike = 0
    """The value of the fact `Algorithm.group_by`; 0 where the algorithm has no groups."""
    key: jax.Array | None = None
    """Key of the phase and the group. It is the same for all clients of a group, whatever chunk
    they are in: for what they draw together, such as a path through a supernet."""


class ServerFacts(NamedTuple):
    """What the server knows about a phase besides the client updates."""

    round: jax.typing.ArrayLike
    """Number of the round in the run, from 1."""
    key: jax.Array
    """For random draws of the server in this phase."""
    clients: jax.Array
    """How many clients have sent an update; int32."""


class Phase(NamedTuple):
    """A step in which clients compute and the server collects. Most rounds have one phase."""

    client_update: Callable[[ServerState, Clients, ChunkFacts, Examples, jax.Array], ClientUpdate]
    """(state, one client, chunk facts, examples, this client's key) -> what it sends."""
    server_update: Callable[[ServerState, Tree, Tree, ServerFacts], ServerState]
    """(state, reduced sums, reduced weights, server facts) -> state."""


class Algorithm(NamedTuple):
    """A federated algorithm."""

    init: Callable[[jax.Array], ServerState]
    """key -> server state. It has to be a NamedTuple if clients, transforms or the schedule have
    state, which is added to it."""
    phases: Sequence[Phase]
    evaluate: Callable[[ServerState, Tree, Tree], Scores]
    """(state, raw inputs [B, ...], targets [B, ...]) -> scores of each example."""
    broadcast: Callable[[ServerState], Tree] = lambda state: state
    """server state -> the part of it that the server sends to a client."""
    large: bool = False
    """Whether its programs take long to compile, as those of a supernet do."""
    group_by: str = ""
    """The fact that all clients of a chunk have in common; "" where any clients share a chunk."""
    personal: Callable[[ServerState], Tree] | None = None
    """First server state -> a client's first personal state, which lasts from round to round. A
    client reads it as `client.personal` and returns the next as `ClientUpdate.personal`."""
    reducer: Reducer = SUM
    """Combines the updates of all clients into the arguments of `server_update`."""
    leaves_out: bool = False
    """Whether a client whose update is not finite is absent from the later phases of the round;
    set by the transform `only_finite`."""


def weighted_mean(sums: Tree, weights: Tree, before: Tree) -> Tree:
    """Sums divided by weights; the value before where the total weight is 0.

    Args:
      sums: values times weights, added up.
      weights: one array for all leaves, or a tree like `sums` whose leaves fit by broadcasting.
      before: the values before, a tree like `sums`.
    """

    def mean(total: jax.Array, weight: jax.Array, old: jax.Array) -> jax.Array:
        weight = weight.astype(total.dtype)
        return jnp.where(weight == 0, old, total / jnp.where(weight == 0, 1, weight))

    return jax.tree.map(mean, sums, weight_of_each(sums, weights), before)


def weight_of_each(sums: Tree, weights: Tree) -> Tree:
    """The weight of each leaf of `sums`; one array of weights belongs to all leaves."""
    if isinstance(weights, jax.Array):
        return jax.tree.map(lambda _: weights, sums)
    return weights


def finite_tree(tree: Tree) -> jax.Array:
    """Whether all numbers in a tree are finite."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def weighted_update(
    result: Tree, client: Clients, *, loss: Tree, **metrics: jax.Array
) -> ClientUpdate:
    """An update weighted by the client's number of examples, with the metrics that a run needs.

    Args:
      result: what the client has learnt, such as its parameters.
      client: the client; its `num_examples` is the weight, N_k.
      loss: sums of losses, which have to be finite too.
      metrics: further metrics; `local_steps` has to be one of them.
    """
    weight = client.num_examples.astype(jnp.float32)
    known = {"weight": weight, "finite": finite_tree((result, loss))}
    return ClientUpdate(jax.tree.map(lambda x: weight * x, result), weight, metrics | known)
