"""Layers of the discrete networks, as PyTorch computes them: channels last, [B, H, W, C]."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from fednas_jax.nn.initializers import uniform_fan_in


def conv(
    features: int,
    in_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    depthwise: bool = False,
    name: str | None = None,
) -> nn.Conv:
    """A square convolution without bias, PyTorch's default start and PyTorch's padding.

    The padding is the same on both sides, so with stride 2 the windows lie where PyTorch has them
    ("SAME" would shift them by one pixel on even sizes). An output has ceil(size / stride) pixels
    wherever `padding` is `dilation * (kernel - 1) / 2`.
    """
    groups = in_channels if depthwise else 1
    return nn.Conv(
        features,
        (kernel, kernel),
        strides=stride,
        padding=((padding, padding), (padding, padding)),
        kernel_dilation=dilation,
        feature_group_count=groups,
        use_bias=False,
        kernel_init=uniform_fan_in(in_channels // groups * kernel * kernel),
        name=name,
    )


def dense(features: int, in_features: int, name: str | None = None) -> nn.Dense:
    """A linear layer with PyTorch's default start of weight and bias."""
    start = uniform_fan_in(in_features)
    return nn.Dense(features, kernel_init=start, bias_init=start, name=name)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, with PyTorch's running statistics.

    PyTorch normalises by the biased variance of the batch but keeps a running mean of the unbiased
    one; Flax's own layer keeps the biased one, which is why it is not used.

    Attributes:
      momentum: share of the old running statistics that stays (1 - PyTorch's momentum).
      epsilon: added to the variance.
      affine: whether a scale and a bias are learnt.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    affine: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Normalises [..., C]: with the batch's statistics in training, else the running ones."""
        channels = x.shape[-1]
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        variance = self.variable("batch_stats", "var", jnp.ones, channels)
        if train:
            axes = tuple(range(x.ndim - 1))
            count = x.size // channels
            batch_mean, batch_variance = x.mean(axes), x.var(axes)
            if not self.is_initializing():
                unbiased = batch_variance * (count / max(count - 1, 1))
                keep, take = self.momentum, 1 - self.momentum
                mean.value = keep * mean.value + take * batch_mean
                variance.value = keep * variance.value + take * unbiased
        else:
            batch_mean, batch_variance = mean.value, variance.value
        x = (x - batch_mean) * jax.lax.rsqrt(batch_variance + self.epsilon)
        if self.affine:
            scale = self.param("scale", nn.initializers.ones_init(), (channels,))
            bias = self.param("bias", nn.initializers.zeros_init(), (channels,))
            x = x * scale + bias
        return x


class ReLUConvNorm(nn.Module):
    """ReLU, 1 x 1 convolution, BatchNorm."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, features]."""
        x = conv(self.features, x.shape[-1], 1, name="conv")(jax.nn.relu(x))
        return BatchNorm(name="norm")(x, train=train)


class FactorizedReduce(nn.Module):
    """Halves the size without dropping pixels: two 1 x 1 convolutions on interleaved grids.

    The second grid is shifted by one pixel down and right. On odd sizes that grid is completed
    with zeros, where the originals fail.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, ceil(H / 2), ceil(W / 2), features]; `features` is even."""
        x = jax.nn.relu(x)
        shifted = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))[:, 1::2, 1::2]
        half = self.features // 2
        halves = [
            conv(half, x.shape[-1], 1, name="conv0")(x[:, ::2, ::2]),
            conv(half, x.shape[-1], 1, name="conv1")(shifted),
        ]
        return BatchNorm(name="norm")(jnp.concatenate(halves, axis=-1), train=train)


class SeparableConv(nn.Module):
    """(ReLU, depthwise, pointwise, BatchNorm), once or twice; the stride is in the first one.

    Attributes:
      kernel: 3 or 5.
      stride: 1 or 2.
      dilation: 2 in a dilated convolution.
      repeats: 2 in a separable convolution, 1 in a dilated one.
    """

    kernel: int
    stride: int
    dilation: int
    repeats: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), C]."""
        channels = x.shape[-1]
        for i in range(self.repeats):
            depthwise = conv(
                channels,
                channels,
                self.kernel,
                stride=self.stride if i == 0 else 1,
                padding=self.dilation * (self.kernel - 1) // 2,
                dilation=self.dilation,
                depthwise=True,
                name=f"depthwise{i}",
            )
            pointwise = conv(channels, channels, 1, name=f"pointwise{i}")
            x = pointwise(depthwise(jax.nn.relu(x)))
            x = BatchNorm(name=f"norm{i}")(x, train=train)
        return x


def max_pool_3x3(x: jax.Array, stride: int) -> jax.Array:
    """[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), C]; padding never wins."""
    return nn.max_pool(x, (3, 3), (stride, stride), ((1, 1), (1, 1)))


def avg_pool_3x3(x: jax.Array, stride: int) -> jax.Array:
    """[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), C]; padding is not counted."""
    return avg_pool(x, (3, 3), (stride, stride), ((1, 1), (1, 1)))


def avg_pool(
    x: jax.Array,
    window: tuple[int, int],
    strides: tuple[int, int],
    padding: Sequence[tuple[int, int]] = ((0, 0), (0, 0)),
) -> jax.Array:
    """Average over the pixels of a window that are inside the image."""
    return nn.avg_pool(x, window, strides, padding, count_include_pad=False)


def drop_path(key: jax.Array, x: jax.Array, rate: jax.Array | float) -> jax.Array:
    """Zeroes a whole example's path with probability `rate`, and scales the others to make up.

    Args:
      key: random key.
      x: [B, H, W, C].
      rate: in [0, 1); may be traced, so that a schedule does not recompile.
    """
    keep = 1 - jnp.asarray(rate, x.dtype)
    mask = jax.random.bernoulli(key, keep, (x.shape[0], 1, 1, 1))
    return jnp.where(mask, x / keep, 0)
