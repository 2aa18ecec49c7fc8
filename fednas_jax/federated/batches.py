"""Which examples a client sees in which local step: index arithmetic on the device."""

import jax
import jax.numpy as jnp


def shuffled(key: jax.Array, indices: jax.Array, count: jax.Array) -> jax.Array:
    """A random order of the first `count` of `indices` [N]; what lies behind stays behind."""
    places = jnp.arange(indices.shape[0])
    rank = jnp.where(places < count, jax.random.uniform(key, indices.shape), jnp.inf)
    return indices[jnp.argsort(rank)]


def batch(indices: jax.Array, count: jax.Array, step: jax.Array, batch_size: int) -> jax.Array:
    """The indices of a step's batch, [B]: the next ones, wrapping around the first `count`."""
    places = step * batch_size + jnp.arange(batch_size)
    return indices[places % jnp.maximum(count, 1)]
