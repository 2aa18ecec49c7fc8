"""The convolutional network of the FedAvg paper.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas: Communication-Efficient Learning of Deep Networks
from Decentralized Data, AISTATS 2017, arXiv:1602.05629. Section 3: two 5 x 5 convolutions of 32 and
64 channels, each followed by 2 x 2 max pooling, a layer of 512 units, ReLU; 1,663,370 parameters on
MNIST. The paper does not say how convolutions are padded. "same" is the usual reading: sides of 28
pixels, pooled to 14, again 14, pooled to 7; 12,273,152 multiply-adds an image. "flower" is the
padding of Flower's baseline: convolutions lose a pixel on each side, and pools pad by one, so that
sides are 26, 14, 12 and 7 pixels. It has as many parameters, but 9,524,352 multiply-adds.

The ReLU after each convolution is a reading too: the paper names one only for the 512 units.
Flower's baseline has it. The CNN that FedML publishes as that of this paper (`CNN_OriginalFedAvg`)
has none there, so that its logits differ with the same weights: by up to 0.08 at the first weights,
whose largest logits are 0.15 (200 test images of MNIST, scaled to [0, 1], five seeds).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from fednas_jax.nn.initializers import uniform_fan_in
from fednas_jax.nn.kernels.convolution import conv, flatten, max_pool_2x2, to_maps
from fednas_jax.nn.layers import dense

PADDINGS = {"same": (2, 0), "flower": (1, 1)}
"""Name -> pixels that a convolution pads with zeros on each side, and pixels that a pool pads with
the lowest value."""


class CNN(nn.Module):
    """The CNN, for images whose sides are multiples of four; initialised by PyTorch's defaults.

    Attributes:
      num_classes: outputs.
      padding: "same" or "flower".
    """

    num_classes: int
    padding: str = "same"

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] float -> [B, num_classes]."""
        del train
        batch = len(images)
        maps = to_maps(images)
        of_conv, of_pool = PADDINGS[self.padding]
        for number, features in enumerate((32, 64)):
            layer = Conv(
                features,
                5,
                of_conv,
                batch,
                pool=True,
                pool_padding=of_pool,
                name=f"conv{number}",
            )
            maps = jax.nn.relu(layer(maps))
        x = flatten(maps, batch)
        x = jax.nn.relu(dense(512, x.shape[1], name="dense0")(x))
        return dense(self.num_classes, 512, name="dense1")(x)


class Conv(nn.Module):
    """A convolution with bias on maps [C, H, W * B], optionally followed by 2 x 2 max pooling.

    A ReLU between the two may be applied after the pooling instead: the maximum commutes exactly
    with the ReLU and with the bias, and both then process a quarter of the values.

    Attributes:
      features: output channels.
      size: side of the square kernel.
      padding: rows and columns of zeros on each side.
      batch: B.
      pool: whether to take the maximum of each 2 x 2 pixels.
      pool_padding: rows and columns that the pool pads on each side with the lowest value.
      kernel_init: initialiser of the kernel; None for PyTorch's default.
    """

    features: int
    size: int
    padding: int
    batch: int
    pool: bool = False
    pool_padding: int = 0
    kernel_init: nn.initializers.Initializer | None = None

    @nn.compact
    def __call__(self, maps: jax.Array) -> jax.Array:
        """[C, H, W * B] -> [features, H', W' * B]; with `pool` the sides are halved."""
        channels = len(maps)
        default = uniform_fan_in(channels * self.size**2)
        shape = (self.features, self.size, self.size, channels)
        kernel = self.param("kernel", self.kernel_init or default, shape)
        bias = self.param("bias", default, (self.features,))
        maps = conv(maps, kernel, self.padding, self.batch)
        if self.pool_padding:
            rows, columns = self.pool_padding, self.pool_padding * self.batch
            sides = (0, 0), (rows, rows), (columns, columns)
            maps = jnp.pad(maps, sides, constant_values=-jnp.inf)
        if self.pool:
            maps = max_pool_2x2(maps, self.batch)
        return maps + bias[:, None, None]

    def pixels(self, maps: jax.Array) -> int:
        """Pixels of the convolution's output for one image: how often its kernel is applied."""
        lost = self.size - 1 - 2 * self.padding
        return (maps.shape[1] - lost) * (maps.shape[2] // self.batch - lost)
