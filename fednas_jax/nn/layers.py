"""Layers of the networks, on feature maps [C, H, W * B] as `nn/kernels/window.py` lays them."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from fednas_jax.nn.initializers import uniform_fan_in
from fednas_jax.nn.kernels.convolution import conv
from fednas_jax.nn.kernels.normalization import (
    EPSILON,
    Moments,
    batch_norm_affine,
    normalize_affine,
)
from fednas_jax.nn.kernels.separable import pointwise
from fednas_jax.nn.kernels.window import Window

MOMENTUM = 0.9
"""Share of the old running statistics that a training step keeps (PyTorch's 0.1)."""
GROUP_CHANNELS = 16
"""Maximum number of channels in a group: as good as 32 groups (Wu and He 2018, Table 3, right)."""


class Style(NamedTuple):
    """The settings that all layers of a network share.

    Attributes:
      batch: B.
      normalization: "batch" or "group".
      momentum: share of the old running statistics that a training step keeps.
    """

    batch: int
    normalization: str = "batch"
    momentum: float = MOMENTUM


def dense(features: int, in_features: int, name: str | None = None) -> nn.Dense:
    """A linear layer with PyTorch's default initialisation of weight and bias."""
    start = uniform_fan_in(in_features)
    return nn.Dense(features, kernel_init=start, bias_init=start, name=name)


class Conv(nn.Module):
    """A square convolution without bias, padded so that ceil(size / stride) outputs remain.

    Attributes:
      features: output channels.
      size: side of the kernel; odd.
      batch: B.
      stride: 1 or 2; the windows lie where PyTorch has them.
      kernel_init: initialiser of the kernel [k, k, C, features]; None for PyTorch's default.
    """

    features: int
    size: int
    batch: int
    stride: int = 1
    kernel_init: nn.initializers.Initializer | None = None

    @nn.compact
    def __call__(self, maps: jax.Array) -> jax.Array:
        """[C, H, W * B] -> [features, H', W' * B]."""
        channels = len(maps)
        shape = (self.size, self.size, channels, self.features)
        start = self.kernel_init or uniform_fan_in(channels * self.size**2)
        kernel = self.param("kernel", start, shape)
        if self.size == 1:
            return pointwise(subsample(maps, self.stride, self.batch), kernel[0, 0].T)
        if self.stride == 1:
            return conv(maps, kernel.transpose(3, 0, 1, 2), self.size // 2, self.batch)
        return self._strided(maps, kernel)

    def pixels(self, maps: jax.Array) -> int:
        """Pixels of the output for one image: how often the kernel is applied."""
        height, width = maps.shape[1], maps.shape[2] // self.batch
        return -(-height // self.stride) * -(-width // self.stride)

    def _strided(self, maps: jax.Array, kernel: jax.Array) -> jax.Array:
        height, width = maps.shape[1], maps.shape[2] // self.batch
        window = Window(self.size, self.stride, 1, height, width, self.batch)
        planes = window.planes(maps, 0.0)
        patches = jnp.concatenate([window.view(planes, tap) for tap in window.taps])
        return pointwise(lax.optimization_barrier(patches), kernel.reshape(-1, self.features).T)


def subsample(maps: jax.Array, stride: int, batch: int) -> jax.Array:
    """Every `stride`-th row and column of [C, H, W * B], from the first on."""
    if stride == 1:
        return maps
    channels, height, _ = maps.shape
    kept = maps.reshape(channels, height, -1, batch)[:, ::stride, ::stride]
    return kept.reshape(channels, kept.shape[1], -1)


def mean_pixel(maps: jax.Array, batch: int) -> jax.Array:
    """Global average pooling: [C, H, W * B] -> [B, C]."""
    return maps.reshape(len(maps), -1, batch).mean(axis=1).T


class Norm(nn.Module):
    """Normalisation of maps [C, H, W * B], then a learnt scale and bias of each channel.

    "batch" normalises by the moments of a channel over the batch; in evaluation, by running moments
    as PyTorch keeps them (`batch_stats`: mean and unbiased variance). "group" always normalises by
    the moments of a group of neighbouring channels of one example (Wu and He: Group Normalization,
    ECCV 2018, arXiv:1803.08494). It has no running moments, so that clients with different data
    share only weights.
    """

    style: Style

    @nn.compact
    def __call__(self, maps: jax.Array, *, train: bool, seen: Moments | None = None) -> jax.Array:
        """Normalises the maps; in training, updates `batch_stats` where it is mutable.

        Args:
          maps: [C, H, W * B].
          train: whether "batch" normalises by the moments of the batch.
          seen: moments by which the maps have been normalised already; None where they are raw.
        """
        channels = len(maps)
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        if self.style.normalization == "group":
            return group_norm(maps, self.style.batch) * scale[:, None, None] + bias[:, None, None]
        mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        variance = self.variable("batch_stats", "var", jnp.ones, (channels,))
        if not train:
            return normalize_affine(maps, Moments(mean.value, variance.value), scale, bias)
        if seen is not None:
            maps = maps * scale[:, None, None] + bias[:, None, None]
        else:
            maps, seen = batch_norm_affine(maps, scale, bias)
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
            count = math.prod(maps.shape[1:])
            keep, take = self.style.momentum, 1 - self.style.momentum
            mean.value = keep * mean.value + take * seen.mean
            unbiased = seen.variance * (count / max(count - 1, 1))
            variance.value = keep * variance.value + take * unbiased
        return maps


def group_norm(maps: jax.Array, batch: int) -> jax.Array:
    """Normalises each example's groups of channels to mean 0 and variance 1; [C, H, W * B]."""
    channels, height, _ = maps.shape
    of_group = group_size(channels)
    # The pixels of a group lie ahead of the batch: sums over slow axes, vectorised over the batch.
    groups = maps.reshape(channels // of_group, -1, batch)
    mean = groups.mean(axis=1, keepdims=True)
    variance = ((groups - mean) ** 2).mean(axis=1, keepdims=True)
    return ((groups - mean) * lax.rsqrt(variance + EPSILON)).reshape(channels, height, -1)


def group_size(channels: int) -> int:
    """Number of channels in a group: the largest divisor of `channels` up to `GROUP_CHANNELS`."""
    return max(n for n in range(1, GROUP_CHANNELS + 1) if channels % n == 0)


def he_normal(fan: int) -> Any:
    """The initialiser N(0, 2 / fan) (He et al. 2015, arXiv:1502.01852), for a given fan."""
    return nn.initializers.normal(math.sqrt(2 / fan))
