"""The discrete network in the plainest form: a module an operation, channels last, `lax`'s
convolutions. What `spaces/darts/network.py` computes in another order is compared with it.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from fednas_jax.nn.initializers import uniform_fan_in
from fednas_jax.nn.layers import dense
from fednas_jax.spaces.darts.network import Architecture


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


_CONVOLUTIONS = {
    "sep_conv_3x3": (3, 1, 2),
    "sep_conv_5x5": (5, 1, 2),
    "dil_conv_3x3": (3, 2, 1),
    "dil_conv_5x5": (5, 2, 1),
}
"""Name -> kernel, dilation, repeats."""

_STEM_MULTIPLIER = 3


class Operation(nn.Module):
    """One operation of a discrete network. Unlike in search, no BatchNorm follows a pool.

    Attributes:
      operation: its name.
      stride: 1, or 2 on the inputs of a reduction cell.
    """

    operation: str
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), C]."""
        if self.operation == "max_pool_3x3":
            return max_pool_3x3(x, self.stride)
        if self.operation == "avg_pool_3x3":
            return avg_pool_3x3(x, self.stride)
        if self.operation == "skip_connect":
            if self.stride == 1:
                return x
            return FactorizedReduce(x.shape[-1], name="reduce")(x, train=train)
        kernel, dilation, repeats = _CONVOLUTIONS[self.operation]
        module = SeparableConv(kernel, self.stride, dilation, repeats, name="conv")
        return module(x, train=train)


class Cell(nn.Module):
    """One cell: two inputs brought to `channels`, four nodes of two operations each.

    Attributes:
      pairs: (operation, source state), 8 of them, two a node.
      concat: the states whose channels, side by side, are the output.
      channels: channels of every state.
      reduction: whether the operations on the inputs have stride 2.
      reduction_before: whether the previous cell halved the size, so that input 0 is too large.
    """

    pairs: tuple[tuple[str, int], ...]
    concat: tuple[int, ...]
    channels: int
    reduction: bool
    reduction_before: bool

    @nn.compact
    def __call__(
        self,
        before_last: jax.Array,
        last: jax.Array,
        *,
        train: bool,
        drop_path_rate: jax.Array | float,
        key: jax.Array | None,
    ) -> jax.Array:
        """Two inputs [B, H, W, C] -> [B, H', W', channels * len(concat)]; `key` None: no drop."""
        first = FactorizedReduce if self.reduction_before else ReLUConvNorm
        states = [
            first(self.channels, name="preprocess0")(before_last, train=train),
            ReLUConvNorm(self.channels, name="preprocess1")(last, train=train),
        ]
        paths: list[jax.Array] = []
        for index, (operation, source) in enumerate(self.pairs):
            stride = 2 if self.reduction and source < 2 else 1
            module = Operation(operation, stride, name=f"operation{index}")
            path = module(states[source], train=train)
            identity = operation == "skip_connect" and stride == 1
            if key is not None and not identity:
                path = drop_path(jax.random.fold_in(key, index), path, drop_path_rate)
            paths.append(path)
            if index % 2:
                states.append(paths[-2] + paths[-1])
        return jnp.concatenate([states[state] for state in self.concat], axis=-1)


class AuxiliaryHead(nn.Module):
    """DARTS's auxiliary classifier for CIFAR, on the output of the last reduction cell.

    DARTS averages 8 x 8 pixels to 2 x 2 (windows of 5, stride 3). Here the windows grow and shrink
    with the map, so that any size of at least 2 x 2 becomes 2 x 2 and the weights stay the same.
    """

    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, num_classes]."""
        strides = [max(size * 3 // 8, 1) for size in x.shape[1:3]]
        window = [size - stride for size, stride in zip(x.shape[1:3], strides, strict=True)]
        x = avg_pool(jax.nn.relu(x), (window[0], window[1]), (strides[0], strides[1]))
        for index, (features, kernel) in enumerate(((128, 1), (768, 2))):
            x = conv(features, x.shape[-1], kernel, name=f"conv{index}")(x)
            x = jax.nn.relu(BatchNorm(name=f"norm{index}")(x, train=train))
        return dense(self.num_classes, 768, name="classifier")(x.mean((1, 2)))


class Network(nn.Module):
    """The network of a genotype: stem, `layers` cells, global average pool, linear layer.

    The cells at layers // 3 and 2 * layers // 3 halve the size and double the channels. Variables:
    `params` and `batch_stats`.

    Attributes:
      genotype: the two kinds of cell.
      num_classes: outputs.
      init_channels: channels of the states of the first cells (DARTS: 36; FedNAS: 16).
      layers: cells (DARTS: 20; FedNAS: 8).
      auxiliary: whether training also returns the logits of the auxiliary head.
    """

    genotype: Architecture
    num_classes: int
    init_channels: int = 16
    layers: int = 8
    auxiliary: bool = False

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        *,
        train: bool,
        drop_path_rate: jax.Array | float = 0.0,
        key: jax.Array | None = None,
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """As `fednas_jax.spaces.darts.network.Network` promises."""
        static_rate = drop_path_rate if isinstance(drop_path_rate, int | float) else math.nan
        if train and key is None and static_rate != 0.0:
            raise ValueError("drop_path_rate: needs a random key")
        drop_key = key if train and static_rate != 0.0 else None
        stem = conv(
            _STEM_MULTIPLIER * self.init_channels, images.shape[-1], 3, padding=1, name="stem_conv"
        )
        last = BatchNorm(name="stem_norm")(stem(images), train=train)
        before_last = last
        with_head = self.auxiliary and (train or self.is_initializing())
        for index in range(self.layers):
            output = self._cell(index)(
                before_last,
                last,
                train=train,
                drop_path_rate=drop_path_rate,
                key=None if drop_key is None else jax.random.fold_in(drop_key, index),
            )
            before_last, last = last, output
            if with_head and index == self._reductions[1]:
                head = AuxiliaryHead(self.num_classes, name="auxiliary_head")
                auxiliary_logits = head(last, train=train)
        logits = dense(self.num_classes, last.shape[-1], name="classifier")(last.mean((1, 2)))
        return (logits, auxiliary_logits) if with_head and train else logits

    @property
    def _reductions(self) -> tuple[int, int]:
        return self.layers // 3, 2 * self.layers // 3

    def _cell(self, index: int) -> Cell:
        reduction = index in self._reductions
        doublings = sum(place <= index for place in set(self._reductions))
        return Cell(
            self.genotype.reduce if reduction else self.genotype.normal,
            self.genotype.reduce_concat if reduction else self.genotype.normal_concat,
            self.init_channels * 2**doublings,
            reduction,
            reduction_before=index - 1 in self._reductions,
            name=f"cell{index}",
        )
