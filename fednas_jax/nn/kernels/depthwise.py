"""The depthwise convolution as shifted multiply-adds, with a backward pass written by hand.

Autodiff of the forward pass and XLA's grouped convolution are 10 to 170 times slower on a CPU,
above all for the gradient of the kernel. Here that gradient is one variadic reduction, which reads
the map once for all taps.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fednas_jax.nn.kernels.window import Tap, Window, slice_maps


@jax.named_scope("depthwise")
def stencil(planes: dict[Tap, jax.Array], kernel: jax.Array, window: Window) -> jax.Array:
    """Convolves each channel with a kernel of its own (cross-correlation, as PyTorch).

    Args:
      planes: the phase planes of a map [..., M or 1, C, H, W * B], from `Window.planes`; with 1 all
        M kernels read the same map (a channel multiplier).
      kernel: [..., M, C, k, k].
      window: kernel size k, stride, dilation and the shape of the map.

    Returns:
      [..., M, C, H', W' * B].
    """
    views = [window.view(planes, tap) for tap in window.taps]
    terms = [_scaled(view, kernel, tap) for tap, view in zip(window.taps, views, strict=True)]
    total = functools.reduce(lax.add, terms)
    return lax.optimization_barrier(total.astype(views[0].dtype))


@jax.named_scope("depthwise")
def transposed(dy: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Gradient of the map: dy [..., M, C, H', W' * B] -> [..., M, C, H, W * B]."""
    return window.transpose((dy,), lambda tap, slice_: _scaled(slice_, kernel, tap))


@jax.named_scope("depthwise")
def kernel_gradient(planes: dict[Tap, jax.Array], dy: jax.Array, window: Window) -> jax.Array:
    """Gradient of the kernel, [..., M, C, k, k]: for each tap the sum of dy times its view."""
    dy = wide(dy)
    views = [wide(window.view(planes, tap)) for tap in window.taps]
    sums = sum_maps([lax.mul(dy, _broadcast(view, dy.shape)) for view in views])
    shape = (*dy.shape[:-2], window.kernel, window.kernel)
    return jnp.stack(sums, axis=-1).reshape(shape)


def _scaled(view: jax.Array, kernel: jax.Array, tap: Tap) -> jax.Array:
    """The view [..., M or 1, C, H, W * B] times the tap's weight.

    Functions that run once for each tap use `lax`, not `jnp`, which takes twice as long to trace: a
    network has thousands of taps.
    """
    weight = slice_maps(kernel, (tap[0], tap[0] + 1), (tap[1], tap[1] + 1))
    shape = (*kernel.shape[:-2], *view.shape[-2:])
    dtype = jnp.promote_types(view.dtype, kernel.dtype)
    return lax.mul(_broadcast(view.astype(dtype), shape), _broadcast(weight.astype(dtype), shape))


def _broadcast(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Like `jnp.broadcast_to`, for a shape of the same rank."""
    if x.shape == shape:
        return x
    return lax.broadcast_in_dim(x, shape, tuple(range(len(shape))))


def wide(x: jax.Array) -> jax.Array:
    """Converts to the precision in which sums are taken, at least float32."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def add_slices(x: jax.Array, axis: int) -> jax.Array:
    """Sums over a short axis by adding its slices, and keeps the axis at length 1.

    XLA's reduction over a short axis that is not the minor one is up to 20 times slower on a CPU.
    """
    parts = [lax.index_in_dim(x, i, axis % x.ndim) for i in range(x.shape[axis])]
    return functools.reduce(jnp.add, parts)


def sum_maps(maps: list[jax.Array]) -> tuple[jax.Array, ...]:
    """Sums each of several maps [..., H, W * B] over its last two axes, all in one pass.

    Returns:
      One array [...] for each map.
    """
    maps = [wide(m) for m in maps]
    zeros = tuple(jnp.zeros((), m.dtype) for m in maps)
    dims = (maps[0].ndim - 2, maps[0].ndim - 1)

    def add(left: Any, right: Any) -> Any:
        return tuple(a + b for a, b in zip(left, right, strict=True))

    return tuple(lax.reduce(tuple(maps), zeros, add, dims))
