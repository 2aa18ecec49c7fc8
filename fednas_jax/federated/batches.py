"""Which examples a client uses in which local step: index arithmetic on the device."""

import jax
import jax.numpy as jnp


def shuffled(key: jax.Array, indices: jax.Array, count: jax.Array) -> jax.Array:
    """`indices` [N] with the first `count` in random order; the others stay after them."""
    places = jnp.arange(indices.shape[0])
    rank = jnp.where(places < count, jax.random.uniform(key, indices.shape), jnp.inf)
    return indices[jnp.argsort(rank)]


def batch(indices: jax.Array, count: jax.Array, step: jax.Array, batch_size: int) -> jax.Array:
    """The indices of a step's batch, [B]: the next ones of the first `count`, cyclically."""
    places = step * batch_size + jnp.arange(batch_size)
    return indices[places % jnp.maximum(count, 1)]
