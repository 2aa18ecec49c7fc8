"""ReLU, depthwise and pointwise convolution, of which separable and dilated operations consist.

The backward pass is written by hand. It keeps only the input, which all convolutions of a source
share, and recomputes the activation, its padding and the depthwise maps where the gradient of the
weights is needed (the passes for alpha do not need it). That costs less than keeping the maps,
since a loop over cells copies everything that it keeps.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fednas_jax.nn.kernels.depthwise import add_slices, kernel_gradient, stencil, transposed
from fednas_jax.nn.kernels.normalization import Moments, moments, norm_gradient, normalize
from fednas_jax.nn.kernels.window import Window


class Kernels(NamedTuple):
    """Weights of one convolution for each of M edges."""

    depthwise: jax.Array
    """[..., M, C, k, k]."""
    pointwise: jax.Array
    """[..., M, D, C]."""


@jax.named_scope("pointwise")
def pointwise(x: jax.Array, weight: jax.Array) -> jax.Array:
    """1 x 1 convolution: x [..., C, H, W * B], weight [..., D, C] -> [..., D, H, W * B]."""
    out = jnp.matmul(weight.astype(x.dtype), _flat(x))
    return out.reshape(*out.shape[:-1], *x.shape[-2:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def relu_separable(
    x: jax.Array,
    kernels: tuple[Kernels, ...],
    needs_weight_gradients: jax.Array,
    windows: tuple[Window, ...],
    normalized: bool,
) -> tuple[tuple[jax.Array, ...], Moments | None]:
    """Several separable convolutions of the same activation.

    Args:
      x: [..., M or 1, C, H, W * B]; with 1 all M edges read the same map.
      kernels: weights of each convolution.
      needs_weight_gradients: [] bool; whether the gradient of the kernels will be used. If not, it
        is zero.
      windows: window of each depthwise convolution; all have the same padding.
      normalized: whether to apply a BatchNorm with the batch's moments before the ReLU.

    Returns:
      For each convolution an array [..., M, D, H', W' * B]; and the moments with `normalized`, else
      None. No gradient flows through the moments.
    """
    del needs_weight_gradients
    statistics = moments(x) if normalized else None
    return separable_by(x, kernels, windows, statistics), statistics


def separable_by(
    x: jax.Array,
    kernels: tuple[Kernels, ...],
    windows: tuple[Window, ...],
    statistics: Moments | None,
) -> tuple[jax.Array, ...]:
    """`relu_separable` with given moments (evaluation: the running ones), or without BatchNorm."""
    return tuple(
        pointwise(y, k.pointwise)
        for y, k in zip(_depthwise_maps(x, kernels, windows, statistics), kernels, strict=True)
    )


def _activate(x: jax.Array, statistics: Moments | None) -> jax.Array:
    return jax.nn.relu(x if statistics is None else normalize(x, statistics))


def _depthwise_maps(
    x: jax.Array,
    kernels: tuple[Kernels, ...],
    windows: tuple[Window, ...],
    statistics: Moments | None,
) -> list[jax.Array]:
    planes = windows[0].planes(_activate(x, statistics), 0.0)
    return [stencil(planes, k.depthwise, w) for k, w in zip(kernels, windows, strict=True)]


def _forward(
    x: jax.Array,
    kernels: tuple[Kernels, ...],
    needs_weight_gradients: jax.Array,
    windows: tuple[Window, ...],
    normalized: bool,
) -> Any:
    out, statistics = relu_separable(x, kernels, needs_weight_gradients, windows, normalized)
    return (out, statistics), (x, kernels, needs_weight_gradients, statistics)


def _backward(
    windows: tuple[Window, ...], normalized: bool, residuals: Any, cotangents: Any
) -> Any:
    x, kernels, needs_weight_gradients, statistics = residuals
    dz = tuple(lax.optimization_barrier(d) for d in cotangents[0])
    dy = tuple(
        pointwise(d, jnp.swapaxes(k.pointwise, -1, -2)) for d, k in zip(dz, kernels, strict=True)
    )
    of_kernels = lax.cond(
        needs_weight_gradients,
        functools.partial(_kernel_gradients, windows),
        lambda kernels, *_: jax.tree.map(jnp.zeros_like, kernels),
        kernels,
        x,
        statistics,
        dy,
        dz,
    )
    terms = [transposed(d, k.depthwise, w) for d, k, w in zip(dy, kernels, windows, strict=True)]
    if x.shape[-4] == 1:
        terms = [add_slices(t, axis=-4) for t in terms]
    active = normalize(x, statistics) > 0 if normalized else x > 0
    dx = lax.optimization_barrier(jnp.where(active, functools.reduce(jnp.add, terms), 0.0))
    if normalized:
        dx = norm_gradient(x, statistics, dx)
    return dx, of_kernels, None


def _kernel_gradients(
    windows: tuple[Window, ...],
    kernels: tuple[Kernels, ...],
    x: jax.Array,
    statistics: Moments | None,
    dy: tuple[jax.Array, ...],
    dz: tuple[jax.Array, ...],
) -> tuple[Kernels, ...]:
    planes = windows[0].planes(_activate(x, statistics), 0.0)
    found = []
    for window, kernel, of_y, of_z in zip(windows, kernels, dy, dz, strict=True):
        y = stencil(planes, kernel.depthwise, window)
        with jax.named_scope("pointwise"):
            transposed_y = jnp.swapaxes(_flat(y), -1, -2)
            sums = jnp.promote_types(y.dtype, jnp.float32)
            of_pointwise = jnp.matmul(_flat(of_z), transposed_y, preferred_element_type=sums)
        found.append(Kernels(kernel_gradient(planes, of_y, window), of_pointwise))
    return jax.tree.map(lambda g, k: g.astype(k.dtype), tuple(found), kernels)


def _flat(x: jax.Array) -> jax.Array:
    return x.reshape(*x.shape[:-2], -1)


relu_separable.defvjp(_forward, _backward)
