"""The small CNN of pfl-research's CIFAR-10 benchmark.

Granqvist et al.: pfl-research: simulation framework for accelerating research in Private Federated
Learning, NeurIPS 2024 Datasets and Benchmarks, arXiv:2404.06430; `simple_cnn` in the benchmarks of
its repository. 1,626,442 parameters on CIFAR-10.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from fednas_jax.networks.cnn import Conv
from fednas_jax.nn.initializers import uniform_fan_in
from fednas_jax.nn.kernels.convolution import flatten, to_maps


class PFLCNN(nn.Module):
    """The CNN, for images with even sides; weights start by Glorot, biases by PyTorch's default.

    Attributes:
      num_classes: outputs.
    """

    num_classes: int

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] float -> [B, num_classes]; training draws from the key `dropout`."""
        batch = len(images)
        # The kernel's axes are [O, k, k, C].
        glorot = nn.initializers.glorot_uniform(in_axis=-1, out_axis=0)
        maps = to_maps(images)
        maps = jax.nn.relu(Conv(32, 3, 0, batch, kernel_init=glorot, name="conv0")(maps))
        maps = Conv(64, 3, 0, batch, pool=True, kernel_init=glorot, name="conv1")(maps)
        x = flatten(jax.nn.relu(maps), batch)
        if train:
            x = dropout(self.make_rng("dropout"), x, 1)
        x = jax.nn.relu(_dense(128, x.shape[1], "dense0")(x))
        if train:
            x = dropout(self.make_rng("dropout"), x, 2)
        return _dense(self.num_classes, 128, "dense1")(x)


def _dense(features: int, in_features: int, name: str) -> nn.Dense:
    glorot = nn.initializers.glorot_uniform()
    return nn.Dense(features, kernel_init=glorot, bias_init=uniform_fan_in(in_features), name=name)


def dropout(key: jax.Array, x: jax.Array, quarters: int) -> jax.Array:
    """Zeroes each value with probability `quarters` / 4, and rescales the others.

    Each value takes two random bits, so that one 32-bit word serves 16 values. Drawing a word for
    each value would take longer than the layers before and after.
    """
    words = jax.random.bits(key, (-(-x.size // 16),), jnp.uint32)
    pairs = (words[:, None] >> jnp.arange(0, 32, 2, dtype=jnp.uint32)) & 3
    keep = pairs.reshape(-1)[: x.size].reshape(x.shape) >= quarters
    return jnp.where(keep, x * (4 / (4 - quarters)), 0)
