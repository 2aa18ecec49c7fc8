"""The operations of a discrete network's cells, and the blocks before them, on maps [C, H, W * B].

Unlike in the supernet, BatchNorms learn a scale and a bias, and pools have no BatchNorm.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from fednas_jax.nn.initializers import uniform_fan_in
from fednas_jax.nn.kernels.pooling import avg_pool, max_pool
from fednas_jax.nn.kernels.separable import Kernels, relu_separable
from fednas_jax.nn.kernels.window import Window, split_phases
from fednas_jax.nn.layers import Conv, Norm, Style

_CONVOLUTIONS = {
    "sep_conv_3x3": (3, 1, 2),
    "sep_conv_5x5": (5, 1, 2),
    "dil_conv_3x3": (3, 2, 1),
    "dil_conv_5x5": (5, 2, 1),
}
"""Name -> kernel, dilation, repeats."""


class Operation(nn.Module):
    """One operation.

    Attributes:
      style: settings of its layers.
      operation: name of the operation.
      stride: 1, or 2 on the inputs of a reduction cell.
    """

    style: Style
    operation: str
    stride: int

    @nn.compact
    def __call__(self, maps: jax.Array, *, train: bool) -> jax.Array:
        """[C, H, W * B] -> [C, ceil(H / stride), ceil(W / stride) * B]."""
        if self.operation in ("max_pool_3x3", "avg_pool_3x3"):
            pool = max_pool if self.operation == "max_pool_3x3" else avg_pool
            return pool(maps, _window(maps, self.style.batch, 3, self.stride))
        if self.operation == "skip_connect":
            if self.stride == 1:
                return maps
            return FactorizedReduce(self.style, len(maps), name="reduce")(maps, train=train)
        kernel, dilation, repeats = _CONVOLUTIONS[self.operation]
        module = SeparableConv(self.style, kernel, self.stride, dilation, repeats, name="conv")
        return module(maps, train=train)


class ReLUConvNorm(nn.Module):
    """ReLU, 1 x 1 convolution, normalisation."""

    style: Style
    features: int

    @nn.compact
    def __call__(self, maps: jax.Array, *, train: bool) -> jax.Array:
        """[C, H, W * B] -> [features, H, W * B]."""
        maps = Conv(self.features, 1, self.style.batch, name="conv")(jax.nn.relu(maps))
        return Norm(self.style, name="norm")(maps, train=train)


class FactorizedReduce(nn.Module):
    """Halves the size without dropping pixels: two 1 x 1 convolutions on interleaved grids.

    The second grid is shifted by one pixel down and right. On odd sizes it is padded with zeros;
    the authors' code fails on those.
    """

    style: Style
    features: int

    @nn.compact
    def __call__(self, maps: jax.Array, *, train: bool) -> jax.Array:
        """[C, H, W * B] -> [features, ceil(H / 2), ceil(W / 2) * B]; `features` is even."""
        batch = self.style.batch
        odd = maps.shape[1] % 2, maps.shape[2] // batch % 2
        even = jnp.pad(jax.nn.relu(maps), ((0, 0), (0, odd[0]), (0, odd[1] * batch)))
        phases = split_phases(even, batch)
        halves = [Conv(self.features // 2, 1, batch, name=f"conv{i}")(phases[i, i]) for i in (0, 1)]
        return Norm(self.style, name="norm")(jnp.concatenate(halves), train=train)


class SeparableConv(nn.Module):
    """ReLU, depthwise and pointwise convolution, normalisation: once or twice, strided at first.

    Attributes:
      style: settings of its layers.
      kernel: 3 or 5.
      stride: 1 or 2.
      dilation: 2 in a dilated convolution.
      repeats: 2 in a separable convolution, 1 in a dilated one.
    """

    style: Style
    kernel: int
    stride: int
    dilation: int
    repeats: int

    @nn.compact
    def __call__(self, maps: jax.Array, *, train: bool) -> jax.Array:
        """[C, H, W * B] -> [C, ceil(H / stride), ceil(W / stride) * B]."""
        channels, k = len(maps), self.kernel
        for i in range(self.repeats):
            stride = self.stride if i == 0 else 1
            window = _window(maps, self.style.batch, k, stride, self.dilation)
            pixels = window.out_height * window.out_width
            depthwise = Kernel((k, k, 1, channels), name=f"depthwise{i}")(pixels)
            pointwise = Kernel((1, 1, channels, channels), name=f"pointwise{i}")(pixels)
            kernels = Kernels(depthwise.transpose(2, 3, 0, 1), pointwise[0].swapaxes(1, 2))
            # A leading axis of one edge.
            outputs, _ = relu_separable(maps[None], (kernels,), jnp.array(True), (window,), False)
            maps = Norm(self.style, name=f"norm{i}")(outputs[0][0], train=train)
        return maps


class Kernel(nn.Module):
    """Declares the kernel of a convolution, [k, k, inputs of a group, outputs]; computes nothing.

    Attributes:
      shape: shape of the kernel, which is initialised by PyTorch's default.
    """

    shape: tuple[int, int, int, int]

    @nn.compact
    def __call__(self, pixels: int) -> jax.Array:
        """The kernel, which is applied at `pixels` positions of an image."""
        del pixels
        size, _, inputs, _ = self.shape
        return self.param("kernel", uniform_fan_in(size * size * inputs), self.shape)

    def pixels(self, pixels: int) -> int:
        """How often the kernel is applied to an image."""
        return pixels


def drop_path(key: jax.Array, maps: jax.Array, rate: jax.Array | float, batch: int) -> jax.Array:
    """Zeroes the paths of whole examples with probability `rate`, and rescales the others.

    Args:
      key: random key.
      maps: [C, H, W * B].
      rate: probability in [0, 1); may be traced, so that a schedule does not recompile.
      batch: B.
    """
    keep = 1 - jnp.asarray(rate, maps.dtype)
    kept = jax.random.bernoulli(key, keep, (batch,))
    factors = jnp.where(kept, 1 / keep, 0)
    return maps * jnp.tile(factors, maps.shape[2] // batch)


def _window(maps: jax.Array, batch: int, kernel: int, stride: int, dilation: int = 1) -> Window:
    return Window(kernel, stride, dilation, maps.shape[1], maps.shape[2] // batch, batch)
