"""How well logits fit labels."""

import jax
import jax.numpy as jnp
import optax


def score(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy in nats and correctness (0 or 1) of each example.

    Args:
      logits: [B, classes].
      labels: [B] int32.

    Returns:
      [B] each.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses, (logits.argmax(axis=-1) == labels).astype(jnp.float32)
