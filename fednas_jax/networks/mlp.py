"""The "2NN" of McMahan et al. 2017 (arXiv:1602.05629, Section 3): two hidden layers of 200 units.

It has 199,210 parameters on MNIST.
"""

import jax
from flax import linen as nn

from fednas_jax.nn.layers import dense


class MLP(nn.Module):
    """Fully connected layers with ReLU, initialised by PyTorch's defaults.

    Attributes:
      num_classes: outputs.
      hidden: number of units of each hidden layer.
    """

    num_classes: int
    hidden: tuple[int, ...] = (200, 200)

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] float -> [B, num_classes]."""
        del train
        x = images.reshape(len(images), -1)
        for number, units in enumerate(self.hidden):
            x = jax.nn.relu(dense(units, x.shape[1], name=f"dense{number}")(x))
        return dense(self.num_classes, x.shape[1], name=f"dense{len(self.hidden)}")(x)
