"""A phase that measures the BatchNorm statistics of the averaged network.

Clients gather running statistics while their weights move apart, so the mean of these statistics
does not fit the mean of the weights. Here each client runs some of its batches through the averaged
network, and the server combines the moments of all clients.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fednas_jax.federated import batches
from fednas_jax.federated.algorithm import (
    ChunkFacts,
    ClientUpdate,
    Phase,
    ServerFacts,
    ServerState,
    weighted_mean,
)
from fednas_jax.federated.clients import Clients, Examples

Tree = Any
Observe = Callable[[ServerState, Tree], Tree]
"""(server state, raw inputs [B, ...]) -> means and variances of this batch, a tree like the state's
`batch_stats`: dictionaries of "mean" and "var"."""


def phase(observe: Observe, batch_size: int, fraction: float) -> Phase:
    """A phase that sets `batch_stats` of a server state, which has to be a NamedTuple.

    Args:
      observe: computes the statistics of a batch.
      batch_size: B; 0 for all of a client's examples in one batch.
      fraction: share of an epoch's batches that is used, above 0; rounded up to whole batches.
    """
    return Phase(_Recalibration(observe, batch_size, fraction).measure, _recalibrate)


class _Recalibration(NamedTuple):
    observe: Observe
    batch_size: int
    fraction: float

    def measure(
        self,
        state: ServerState,
        client: Clients,
        facts: ChunkFacts,
        examples: Examples,
        key: jax.Array,
    ) -> ClientUpdate:
        """Sums of the moments of batches of the train part, with inputs as in evaluation.

        It uses the first full batches, or `fraction` of them; partitions are shuffled, so they are
        a random sample. A client with less than one full batch uses one, which repeats its first
        examples: these weigh more in the moments. The batch's weight is its number of distinct
        examples.
        """
        del key
        size = self.batch_size or client.train.shape[0]
        count = self._part(jnp.clip(client.num_train // size, 1, client.local_steps))
        distinct = jnp.minimum(client.num_train, size).astype(jnp.float32)

        def step(number: jax.Array, sums: Tree) -> Tree:
            indices = batches.batch(client.train, client.num_train, number, size)
            seen = self.observe(state, examples.take(indices).inputs)
            present = number < count
            return jax.tree.map(
                lambda s, x: s + jnp.where(present, distinct * x, 0.0), sums, _raw(seen)
            )

        zeros = jax.tree.map(jnp.zeros_like, _raw(state.batch_stats))
        sums = lax.fori_loop(0, self._part(facts.local_steps), step, zeros)
        return ClientUpdate(sums, distinct * count.astype(jnp.float32), {})

    def _part(self, count: jax.Array) -> jax.Array:
        """How many of `count` batches are used: at least one, if there is one."""
        # Slightly less than the product: 0.1 * 30 must not be rounded up to 4.
        wanted = self.fraction * count.astype(jnp.float32) - 1e-3
        return jnp.ceil(wanted).astype(jnp.int32)


def _recalibrate(state: ServerState, sums: Tree, weights: Tree, facts: ServerFacts) -> ServerState:
    del facts
    moments = weighted_mean(sums, weights, _raw(state.batch_stats))
    return state._replace(batch_stats=_moments(moments))


def _is_moments(tree: Tree) -> bool:
    return isinstance(tree, dict) and set(tree) == {"mean", "var"}


def _raw(batch_stats: Tree) -> Tree:
    """The moments that add up over batches: mean, its square, and variance inside the batch."""
    return jax.tree.map(
        lambda m: {"mean": m["mean"], "square": m["mean"] ** 2, "var": m["var"]},
        batch_stats,
        is_leaf=_is_moments,
    )


def _moments(raw: Tree) -> Tree:
    """Mean and variance of all examples: variance inside batches plus variance of their means."""

    def join(m: Tree) -> Tree:
        between = jnp.maximum(m["square"] - m["mean"] ** 2, 0.0)
        return {"mean": m["mean"], "var": m["var"] + between}

    return jax.tree.map(join, raw, is_leaf=lambda t: isinstance(t, dict) and "square" in t)
