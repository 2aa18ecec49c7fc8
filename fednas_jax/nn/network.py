"""The discrete network that a genotype describes (DARTS: Liu et al., 2019, arXiv 1806.09055)."""

import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn

from fednas_jax.nn.layers import (
    BatchNorm,
    FactorizedReduce,
    ReLUConvNorm,
    SeparableConv,
    avg_pool,
    avg_pool_3x3,
    conv,
    dense,
    drop_path,
    max_pool_3x3,
)

_CONVOLUTIONS = {
    "sep_conv_3x3": (3, 1, 2),
    "sep_conv_5x5": (5, 1, 2),
    "dil_conv_3x3": (3, 2, 1),
    "dil_conv_5x5": (5, 2, 1),
}
"""Name -> kernel, dilation, repeats."""

_STEM_MULTIPLIER = 3


class Architecture(Protocol):
    """What a network needs of a genotype: pairs (operation, source state), two a node."""

    @property
    def normal(self) -> tuple[tuple[str, int], ...]: ...
    @property
    def normal_concat(self) -> tuple[int, ...]: ...
    @property
    def reduce(self) -> tuple[tuple[str, int], ...]: ...
    @property
    def reduce_concat(self) -> tuple[int, ...]: ...


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
        """Classifies images.

        Args:
          images: [B, H, W, C], float, normalised; H and W at least 8, any C.
          train: batch statistics instead of running ones; drop path and auxiliary head at work.
          drop_path_rate: probability, in [0, 1), that an example loses an operation's output; may
            be traced. Identities are never dropped.
          key: random key for the drop path; without one there is none.

        Returns:
          Logits [B, num_classes]; in training with `auxiliary` a pair of such arrays, the second
          from the auxiliary head.

        Raises:
          ValueError: in training a rate other than 0.0 came without a key.
        """
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


def _shapes(network: Network, image_shape: tuple[int, int, int]) -> tuple[Any, Any]:
    """One image and the network's variables, as shapes only: nothing is computed or compiled."""
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return image, jax.eval_shape(lambda k, x: network.init(k, x, train=False), key, image)


def parameter_count(
    genotype: Architecture,
    *,
    image_shape: tuple[int, int, int],
    num_classes: int,
    init_channels: int,
    layers: int,
    auxiliary: bool = False,
) -> int:
    """Learnt weights of the genotype's network, worked out from shapes (1 to 3 s of tracing).

    Args:
      genotype: the architecture.
      image_shape: (H, W, C) of an image; only C matters to the count.
      num_classes, init_channels, layers, auxiliary: as in `Network`.
    """
    network = Network(genotype, num_classes, init_channels, layers, auxiliary)
    _, variables = _shapes(network, image_shape)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


def multiply_adds(
    genotype: Architecture,
    *,
    image_shape: tuple[int, int, int],
    num_classes: int,
    init_channels: int,
    layers: int,
) -> int:
    """Multiply-adds of the convolutions and linear layers for one image, without auxiliary head.

    Taps that fall on padding are counted, as is usual.

    Args:
      genotype: the architecture.
      image_shape: (H, W, C) of an image.
      num_classes, init_channels, layers: as in `Network`.
    """
    network = Network(genotype, num_classes, init_channels, layers)
    image, variables = _shapes(network, image_shape)
    total = 0

    def count(run: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        nonlocal total
        output = run(*args, **kwargs)
        if isinstance(context.module, nn.Conv | nn.Dense):
            # Each output value sums a product per kernel entry of its own output feature, and the
            # features are the kernel's last axis, in grouped convolutions too.
            kernel = context.module.variables["params"]["kernel"].shape
            total += output.size * math.prod(kernel[:-1])
        return output

    with nn.intercept_methods(count):
        jax.eval_shape(lambda v, x: network.apply(v, x, train=False), variables, image)
    return total
