"""Residual networks for small images.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385,
Section 4.2: a 3 x 3 convolution, three stages of n blocks with 16, 32 and 64 channels, the second
and third of which halve the size, global average pooling, a linear layer: 6 n + 2 layers. Shortcuts
have no parameters: they pad channels with zeros (option A). ResNet-20, 32, 56 on CIFAR-10: 269,722,
464,154 and 853,018 parameters.

`bottleneck=True` is the network that the FedML benchmark calls ResNet-56 (He et al. 2020,
arXiv:2007.13518): blocks of 1 x 1, 3 x 3 and 1 x 1 convolutions with four times the channels
outside, and shortcuts of 1 x 1 convolutions where the shape changes (option B). It has 9 n + 2
layers; with n = 6, 591,322 parameters.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from fednas_jax.nn.kernels.convolution import to_maps
from fednas_jax.nn.layers import Conv, Norm, Style, dense, he_normal, mean_pixel, subsample

STAGES = (16, 32, 64)
EXPANSION = 4
"""Number of channels outside of a bottleneck, in multiples of those inside."""


class ResNet(nn.Module):
    """A residual network for images of any size.

    Kernels start from N(0, 2 / fan in), as in the paper; with `bottleneck` from N(0, 2 / fan out),
    as in FedML's code. The linear layer starts from PyTorch's default.

    The equal blocks of a stage are one loop, so that depth costs no compile time. Their variables
    are stacked, [n - 1, ...], under `stage*/blocks`.

    Attributes:
      num_classes: outputs.
      blocks: n, the number of blocks in each stage; at least 2.
      bottleneck: whether blocks are FedML's bottlenecks.
      normalization: "batch" or "group".
      momentum: share of the old running statistics that a training step keeps.
    """

    num_classes: int
    blocks: int
    bottleneck: bool = False
    normalization: str = "batch"
    momentum: float = 0.9

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] float -> [B, num_classes]."""
        batch = len(images)
        style = Style(batch, self.normalization, self.momentum)
        stem = _ConvNorm(style, self.bottleneck, STAGES[0], 3, name="stem")
        maps = stem(to_maps(images), train=train)
        maps = jax.nn.relu(maps)
        for number, channels in enumerate(STAGES):
            stage = _Stage(
                style=style,
                bottleneck=self.bottleneck,
                channels=channels,
                blocks=self.blocks,
                stride=2 if number else 1,
                name=f"stage{number}",
            )
            maps = stage(maps, train=train)
        return dense(self.num_classes, len(maps), name="classifier")(mean_pixel(maps, batch))


class _ConvNorm(nn.Module):
    """A convolution and its normalisation."""

    style: Style
    bottleneck: bool
    features: int
    size: int
    stride: int = 1

    @nn.compact
    def __call__(self, maps: jax.Array, *, train: bool) -> jax.Array:
        style = self.style
        fan = self.size**2 * (self.features if self.bottleneck else len(maps))
        start = he_normal(fan)
        conv = Conv(self.features, self.size, style.batch, self.stride, start, name="conv")
        return Norm(style, name="norm")(conv(maps), train=train)


class _Block(nn.Module):
    """A residual block: its input plus its convolutions; the first 3 x 3 one has the stride."""

    style: Style
    bottleneck: bool
    channels: int
    stride: int = 1

    @nn.compact
    def __call__(self, maps: jax.Array, *, train: bool) -> jax.Array:
        """[C, H, W * B] -> [C', H', W' * B]; C' is `channels`, or four times that in a
        bottleneck."""
        style, channels = self.style, self.channels
        if self.bottleneck:
            out = EXPANSION * channels
            layers = [(channels, 1, 1), (channels, 3, self.stride), (out, 1, 1)]
        else:
            out = channels
            layers = [(channels, 3, self.stride), (channels, 3, 1)]
        added = maps
        for number, (features, size, stride) in enumerate(layers):
            added = jax.nn.relu(added) if number else added
            layer = _ConvNorm(style, self.bottleneck, features, size, stride, name=f"layer{number}")
            added = layer(added, train=train)
        if len(maps) != out and self.bottleneck:
            shortcut = _ConvNorm(style, True, out, 1, self.stride, name="shortcut")
            maps = shortcut(maps, train=train)
        elif len(maps) != out:
            missing = out - len(maps)
            before = missing // 2
            maps = subsample(maps, self.stride, style.batch)
            maps = jnp.pad(maps, ((before, missing - before), (0, 0), (0, 0)))
        return jax.nn.relu(maps + added)


class _Stage(nn.Module):
    """A block that may change the shape, and a loop over the others, which do not."""

    style: Style
    bottleneck: bool
    channels: int
    blocks: int
    stride: int

    @nn.compact
    def __call__(self, maps: jax.Array, *, train: bool) -> jax.Array:
        first = _Block(self.style, self.bottleneck, self.channels, self.stride, name="first")
        maps = first(maps, train=train)
        loop = nn.scan(
            lambda block, maps, _: (block(maps, train=train), None),
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True},
            length=self.blocks - 1,
        )
        equal = _Block(self.style, self.bottleneck, self.channels, name="blocks")
        return loop(equal, maps, None)[0]
