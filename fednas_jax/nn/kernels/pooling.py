"""3 x 3 pooling with PyTorch's padding and tie rules; the backward passes are written by hand."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fednas_jax.nn.kernels.depthwise import wide
from fednas_jax.nn.kernels.window import Tap, Window


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
@jax.named_scope("pool")
def max_pool(x: jax.Array, window: Window) -> jax.Array:
    """The maximum in each window; padding counts as minus infinity.

    Args:
      x: [..., H, W * B].
      window: its size, stride and the shape of the map.

    Returns:
      [..., H', W' * B].
    """
    planes = window.planes(x, -jnp.inf)
    views = [window.view(planes, tap) for tap in window.taps]
    return lax.optimization_barrier(functools.reduce(jnp.maximum, views))


def _max_forward(x: jax.Array, window: Window) -> Any:
    y = max_pool(x, window)
    return y, (x, y)


@jax.named_scope("pool")
def _max_backward(window: Window, residuals: Any, dy: jax.Array) -> Any:
    x, y = residuals
    planes = window.planes(x, -jnp.inf)
    # The first maximal tap takes all of the gradient, as in PyTorch: taps are visited in reverse,
    # so that the earliest writes last. Recomputed, as keeping it would cost memory in every cell.
    first = jnp.zeros(y.shape, jnp.int8)
    for number, tap in reversed(list(enumerate(window.taps))):
        first = jnp.where(window.view(planes, tap) == y, jnp.int8(number), first)
    first = lax.optimization_barrier(first)

    def term(tap: Tap, dy_slice: jax.Array, first_slice: jax.Array) -> jax.Array:
        number = tap[0] * window.kernel + tap[1]
        return jnp.where(first_slice == number, dy_slice, jnp.zeros((), dy_slice.dtype))

    return (window.transpose((dy, first), term),)


max_pool.defvjp(_max_forward, _max_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
@jax.named_scope("pool")
def avg_pool(x: jax.Array, window: Window) -> jax.Array:
    """The mean in each window; padding is not counted.

    Args:
      x: [..., H, W * B].
      window: its size, stride and the shape of the map.

    Returns:
      [..., H', W' * B].
    """
    planes = window.planes(x, 0.0)
    total = functools.reduce(jnp.add, [wide(window.view(planes, tap)) for tap in window.taps])
    mean = total * _inverse_counts(window, total.dtype)
    return lax.optimization_barrier(mean.astype(x.dtype))


def _avg_forward(x: jax.Array, window: Window) -> Any:
    return avg_pool(x, window), None


@jax.named_scope("pool")
def _avg_backward(window: Window, _: None, dy: jax.Array) -> Any:
    scaled = dy * _inverse_counts(window, dy.dtype)
    return (window.transpose((scaled,), lambda _, slice_: slice_),)


avg_pool.defvjp(_avg_forward, _avg_backward)


def _inverse_counts(window: Window, dtype: jax.typing.DTypeLike) -> jax.Array:
    """1 / (pixels inside the map) of each window, [H', W' * B]."""

    def inside(size: int, outputs: int) -> np.ndarray:
        first = np.arange(outputs) * window.stride - window.padding
        taps = first[:, None] + np.arange(window.kernel) * window.dilation
        return ((taps >= 0) & (taps < size)).sum(axis=1)

    counts = np.outer(
        inside(window.height, window.out_height), inside(window.width, window.out_width)
    )
    return jnp.asarray(np.repeat(1.0 / counts, window.batch, axis=1), dtype)
