"""A stand-in for the supernet that compiles in a second: the same collections, the same calls."""

import flax.linen as nn
import jax
import jax.numpy as jnp

EPSILON = 1e-5


class SmallSupernet(nn.Module):
    """Normalised pixels, as they are and through tanh, mixed by alphas; one linear layer.

    Attributes as of `fednas_jax.spaces.darts.supernet.Supernet`.
    """

    num_classes: int
    momentum: float = 0.9

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool, needs_weight_gradients: jax.typing.ArrayLike = True
    ) -> jax.Array:
        """Args: images [B, H, W, C]. Returns: [B, num_classes]."""
        del needs_weight_gradients  # it spares none
        x = images.reshape(images.shape[0], -1)
        running = self.variable(
            "batch_stats",
            "norm",
            lambda: {"mean": jnp.zeros(x.shape[1]), "var": jnp.ones(x.shape[1])},
        )
        moments = {"mean": x.mean(axis=0), "var": x.var(axis=0)} if train else running.value
        y = (x - moments["mean"]) / jnp.sqrt(moments["var"] + EPSILON)
        if train and self.is_mutable_collection("batch_stats") and not self.is_initializing():
            seen = moments | {"var": moments["var"] * len(x) / (len(x) - 1)}
            running.value = {
                name: self.momentum * running.value[name] + (1 - self.momentum) * seen[name]
                for name in seen
            }
        shares = jax.nn.softmax(self._alphas())
        shape = (2, x.shape[1], self.num_classes)
        kernel = self.param("kernel", nn.initializers.normal(0.1), shape)
        return jnp.einsum("o,obf,ofc->bc", shares, jnp.stack([y, jnp.tanh(y)]), kernel)

    def _alphas(self) -> jax.Array:
        def initialize() -> jax.Array:
            return 1e-3 * jax.random.normal(self.make_rng("params"), (2,))

        return self.variable("arch", "normal", initialize).value
