"""That a network computes what plain operations do: its loss, and the gradient of every weight."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from tests.quick import quick_jit


def assert_trains_as(
    network: nn.Module,
    plain: Callable[[Any, jax.Array, Any], jax.Array],
    params: Any,
    others: Any,
    images: jax.Array,
    labels: jax.Array,
) -> None:
    """Compares in the precision of the weights, which should be float64.

    Args:
      network: in training, with the collections `params` and `others`.
      plain: (params, images, network) -> logits.
      params: the weights.
      others: its other collections.
      images: [B, H, W, C].
      labels: [B].
    """

    def loss(logits: jax.Array) -> jax.Array:
        return -jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels].mean()

    def ours(params: Any) -> Any:
        variables = {"params": params} | others
        return network.apply(variables, images, train=True, mutable=["batch_stats"])[0]

    def both(params: Any) -> Any:
        theirs = jax.value_and_grad(lambda p: loss(plain(p, images, network)))(params)
        return jax.value_and_grad(lambda p: loss(ours(p)))(params), theirs

    def close(found: jax.Array, wanted: jax.Array) -> None:
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-11)

    jax.tree.map(close, *quick_jit(both)(params))
