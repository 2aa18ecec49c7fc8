"""The default initialisers of PyTorch's modules."""

import math
from typing import Any

import jax
from flax.typing import Initializer


def uniform_fan_in(fan_in: int) -> Initializer:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's default for convolution and linear layers.

    PyTorch calls it kaiming_uniform with a = sqrt(5); the bound works out to 1/sqrt(fan_in), for
    weights and biases alike.

    Args:
      fan_in: input channels of a group times kernel height times kernel width.
    """
    bound = 1.0 / math.sqrt(fan_in)

    def initialize(
        key: jax.Array, shape: Any, dtype: Any = "float32", out_sharding: Any = None
    ) -> jax.Array:
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialize
