"""Densely connected networks with bottlenecks and compression (DenseNet-BC).

Huang, Liu, van der Maaten, Weinberger: Densely Connected Convolutional Networks, CVPR 2017,
arXiv:1608.06993. Each layer reads the outputs of all layers before it in its block. DenseNet-201
(Table 1) has 20,013,928 parameters with 1000 classes and 18,112,138 with 10. The small network is
that of Section 3.4 for CIFAR: 40 layers that add 12 channels each, 176,122 parameters with 10
classes.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from fednas_jax.nn.kernels.convolution import quarters, to_maps
from fednas_jax.nn.kernels.normalization import Moments, batch_norm
from fednas_jax.nn.kernels.pooling import max_pool
from fednas_jax.nn.kernels.window import Window
from fednas_jax.nn.layers import Conv, Norm, Style, dense, he_normal, mean_pixel

BOTTLENECK = 4
"""Number of channels between a layer's two convolutions, in multiples of the growth."""


class DenseNet(nn.Module):
    """A DenseNet: kernels start from N(0, 2 / fan in), the linear layer from PyTorch's default.

    Attributes:
      num_classes: outputs.
      blocks: number of layers of each block; size and channels are halved between two blocks.
      growth: number of channels that a layer adds.
      large_images: whether to begin as for ImageNet, with a 7 x 7 convolution of stride 2 and a max
        pool of stride 2, which needs sides of at least 32 pixels; otherwise with a 3 x 3
        convolution.
      normalization: "batch" or "group".
      momentum: share of the old running statistics that a training step keeps.
    """

    num_classes: int
    blocks: tuple[int, ...]
    growth: int
    large_images: bool
    normalization: str = "batch"
    momentum: float = 0.9

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] float -> [B, num_classes]."""
        style = Style(len(images), self.normalization, self.momentum)
        maps = self._stem(to_maps(images), style, train=train)
        for number, layers in enumerate(self.blocks):
            features = _Features.of(maps, style, train=train)
            for i in range(layers):
                layer = _Layer(style, self.growth, name=f"block{number}_layer{i}")
                features = features.and_also(
                    _Features.of(layer(features, train=train), style, train=train)
                )
            if number < len(self.blocks) - 1:
                maps = _Transition(style, name=f"transition{number}")(features, train=train)
        maps = Norm(style, name="norm")(features.maps, train=train, seen=features.moments)
        pixel = mean_pixel(jax.nn.relu(maps), style.batch)
        return dense(self.num_classes, pixel.shape[1], name="classifier")(pixel)

    def _stem(self, maps: jax.Array, style: Style, *, train: bool) -> jax.Array:
        size, stride = (7, 2) if self.large_images else (3, 1)
        start = he_normal(size**2 * len(maps))
        conv = Conv(2 * self.growth, size, style.batch, stride, start, name="stem_conv")
        maps = conv(maps)
        if not self.large_images:
            return maps
        maps = jax.nn.relu(Norm(style, name="stem_norm")(maps, train=train))
        window = Window(3, 2, 1, maps.shape[1], maps.shape[2] // style.batch, style.batch)
        return max_pool(maps, window)


class _Features(NamedTuple):
    """All maps that a block has so far, [C, H, W * B].

    In training with batch statistics each map is normalised once, when it is added, rather than in
    each layer that reads it: the layers' normalisations differ in scale and bias only.
    """

    maps: jax.Array
    moments: Moments | None
    """Moments by which the maps have been normalised; None where they are raw."""

    @staticmethod
    def of(maps: jax.Array, style: Style, *, train: bool) -> "_Features":
        if train and style.normalization == "batch":
            return _Features(*batch_norm(maps))
        return _Features(maps, None)

    def and_also(self, new: "_Features") -> "_Features":
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), self, new)


class _Layer(nn.Module):
    """The maps that a layer adds: twice normalisation, ReLU and convolution, 1 x 1 and 3 x 3."""

    style: Style
    growth: int

    @nn.compact
    def __call__(self, features: _Features, *, train: bool) -> jax.Array:
        """Maps [C, H, W * B] -> [growth, H, W * B]."""
        maps, batch = features.maps, self.style.batch
        middle = BOTTLENECK * self.growth
        start = he_normal(len(maps))
        maps = jax.nn.relu(Norm(self.style, name="norm0")(maps, train=train, seen=features.moments))
        maps = Conv(middle, 1, batch, kernel_init=start, name="conv0")(maps)
        maps = jax.nn.relu(Norm(self.style, name="norm1")(maps, train=train))
        return Conv(self.growth, 3, batch, kernel_init=he_normal(9 * middle), name="conv1")(maps)


class _Transition(nn.Module):
    """Halves the channels, then the size, by the mean of each 2 x 2 pixels; an odd last row or
    column is dropped."""

    style: Style

    @nn.compact
    def __call__(self, features: _Features, *, train: bool) -> jax.Array:
        """Maps [C, H, W * B] -> [C / 2, H // 2, W // 2 * B]."""
        maps, batch = features.maps, self.style.batch
        start = he_normal(len(maps))
        maps = jax.nn.relu(Norm(self.style, name="norm")(maps, train=train, seen=features.moments))
        maps = Conv(len(maps) // 2, 1, batch, kernel_init=start, name="conv")(maps)
        height, width = maps.shape[1] // 2 * 2, maps.shape[2] // (2 * batch) * 2 * batch
        corners = quarters(maps[:, :height, :width], batch)
        mean = functools.reduce(jnp.add, corners) / len(corners)
        return mean.reshape(len(maps), height // 2, -1)
