"""Batch normalisation, with and without affine parameters; the weighted sum of normalised maps.

The backward passes are written by hand and keep only the raw map and its two moments. Autodiff
would keep and process several maps for each of the supernet's hundreds of normalisations.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fednas_jax.nn.kernels.depthwise import add_slices, sum_maps, wide

EPSILON = 1e-5
"""Constant added to the variance, PyTorch's default."""


class Moments(NamedTuple):
    """Mean and biased variance of a map's channels; each [..., C]."""

    mean: jax.Array
    variance: jax.Array


@jax.named_scope("batch_norm")
def moments(x: jax.Array) -> Moments:
    """Moments over the last two axes of `x` [..., C, H, W * B], in one pass over the map."""
    count = x.shape[-1] * x.shape[-2]
    total, squares = sum_maps([x, wide(x) ** 2])
    mean = total / count
    return Moments(mean, jnp.maximum(squares / count - mean * mean, 0.0))


def inverse_deviation(variance: jax.Array) -> jax.Array:
    """1 / sqrt(variance + epsilon)."""
    return lax.rsqrt(variance + EPSILON)


def _wide(x: jax.Array) -> jax.Array:
    return x[..., None, None]


@jax.named_scope("batch_norm")
def normalize(x: jax.Array, statistics: Moments) -> jax.Array:
    """Normalises [..., C, H, W * B] by given moments (evaluation: the running ones)."""
    y = (x - _wide(statistics.mean)) * _wide(inverse_deviation(statistics.variance))
    return y.astype(x.dtype)


@jax.custom_vjp
def batch_norm(x: jax.Array) -> tuple[jax.Array, Moments]:
    """Normalises by the moments of the batch itself.

    Args:
      x: [..., C, H, W * B].

    Returns:
      The normalised map, and its moments, through which no gradient flows.
    """
    statistics = moments(x)
    return normalize(x, statistics), statistics


def _norm_forward(x: jax.Array) -> Any:
    y, statistics = batch_norm(x)
    return (y, statistics), (x, statistics)


def _norm_backward(residuals: Any, cotangents: Any) -> Any:
    x, statistics = residuals
    return (norm_gradient(x, statistics, cotangents[0]),)


@jax.named_scope("batch_norm")
def norm_gradient(x: jax.Array, statistics: Moments, dy: jax.Array) -> jax.Array:
    """Gradient of `batch_norm`'s input: r (dy - mean(dy) - xhat mean(dy xhat))."""
    count = x.shape[-1] * x.shape[-2]
    mean, inverse = statistics.mean, inverse_deviation(statistics.variance)
    total, product = sum_maps([dy, wide(dy) * wide(x)])
    first = total / count
    second = (product / count - mean * first) * inverse
    normal = (x - _wide(mean)) * _wide(inverse)
    dx = _wide(inverse) * (dy - _wide(first) - normal * _wide(second))
    return lax.optimization_barrier(dx.astype(x.dtype))


batch_norm.defvjp(_norm_forward, _norm_backward)


@jax.named_scope("batch_norm")
def normalize_affine(
    x: jax.Array, statistics: Moments, scale: jax.Array, bias: jax.Array
) -> jax.Array:
    """`normalize`, then a scale and a bias of each channel, [..., C]; one multiply-add per
    value."""
    factor = scale * inverse_deviation(statistics.variance)
    return (x * _wide(factor) + _wide(bias - statistics.mean * factor)).astype(x.dtype)


@jax.custom_vjp
def batch_norm_affine(x: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[jax.Array, Moments]:
    """`batch_norm` of [..., C, H, W * B], then a scale and a bias of each channel, [..., C]."""
    statistics = moments(x)
    return normalize_affine(x, statistics, scale, bias), statistics


def _affine_forward(x: jax.Array, scale: jax.Array, bias: jax.Array) -> Any:
    y, statistics = batch_norm_affine(x, scale, bias)
    return (y, statistics), (x, scale, statistics)


@jax.named_scope("batch_norm")
def _affine_backward(residuals: Any, cotangents: Any) -> Any:
    """The sums of dy and of dy xhat, with xhat the normalised map, are the gradients of bias and
    scale; dx = scale r (dy - mean(dy) - xhat mean(dy xhat))."""
    x, scale, statistics = residuals
    dy = lax.optimization_barrier(cotangents[0])
    count = x.shape[-1] * x.shape[-2]
    mean, inverse = statistics.mean, inverse_deviation(statistics.variance)
    of_bias, product = sum_maps([dy, wide(dy) * wide(x)])
    of_scale = (product - mean * of_bias) * inverse
    of_dy = scale * inverse
    of_x = of_dy * inverse * of_scale / count
    constant = of_dy * of_bias / count - of_x * mean
    dx = _wide(of_dy) * dy - _wide(of_x) * x - _wide(constant)
    return lax.optimization_barrier(dx.astype(x.dtype)), of_scale, of_bias


batch_norm_affine.defvjp(_affine_forward, _affine_backward)


@jax.custom_vjp
def mixed_sum(
    maps: tuple[jax.Array, ...], weights: jax.Array, identity: jax.Array, identity_weight: jax.Array
) -> tuple[tuple[jax.Array, ...], Moments]:
    """What the mixed operations of S sources send to M nodes (Eq. 3, including their BatchNorms).

    Args:
      maps: for each of O operations its raw output [S, M or 1, C, H, W * B]; with 1 the M edges of
        a source share one map. The shared maps come first.
      weights: [O, S, M], mixture weights of the operations.
      identity: [S, M or 1, C, H, W * B], or None where no edge has an identity (stride 2).
      identity_weight: [S, M], or None.

    Returns:
      For each of the M nodes the sum over sources and operations, [C, H, W * B]; and the moments of
      the maps, [O, S, M, C], through which no gradient flows.
    """
    count = maps[0].shape[-1] * maps[0].shape[-2]
    totals = _sums_of_alike([*maps, *(wide(z) ** 2 for z in maps)], weights.shape[2])
    mean, square = totals.reshape(2, len(maps), *totals.shape[1:]) / count
    statistics = Moments(mean, jnp.maximum(square - mean * mean, 0.0))
    return mixed_sum_by(maps, weights, identity, identity_weight, statistics), statistics


@jax.named_scope("mixed_sum")
def _sums_of_alike(maps: list[jax.Array], edges: int) -> jax.Array:
    """Sums of maps [S, M or 1, C, H, W * B] over pixels, [maps, S, M, C]; one pass per shape."""
    shapes = {z.shape: [i for i, other in enumerate(maps) if other.shape == z.shape] for z in maps}
    sums: dict[int, jax.Array] = {}
    for shape, alike in shapes.items():
        found = sum_maps([maps[i] for i in alike])
        full = (shape[0], edges, shape[2])
        sums |= {i: jnp.broadcast_to(x, full) for i, x in zip(alike, found, strict=True)}
    return jnp.stack([sums[i] for i in range(len(maps))])


@jax.named_scope("mixed_sum")
def mixed_sum_by(
    maps: tuple[jax.Array, ...],
    weights: jax.Array,
    identity: jax.Array | None,
    identity_weight: jax.Array | None,
    statistics: Moments,
) -> tuple[jax.Array, ...]:
    """`mixed_sum` with given moments (evaluation: the running ones)."""
    sources, nodes = weights.shape[1:]
    scales = weights[..., None] * inverse_deviation(statistics.variance)
    shift = _wide((scales * statistics.mean).sum(axis=(0, 1)))
    if identity is not None and identity_weight is not None:
        share = jnp.broadcast_to(identity_weight[..., None], scales.shape[1:])
        maps, scales = (*maps, identity), jnp.concatenate([scales, share[None]])
    scales = _wide(scales)
    sums = []
    for node in range(nodes):
        terms = [
            scales[number, source, node] * z[source, node if z.shape[1] > 1 else 0]
            for number, z in enumerate(maps)
            for source in range(sources)
        ]
        sums.append((functools.reduce(jnp.add, terms) - shift[node]).astype(maps[0].dtype))
    return tuple(sums)


def _mix_forward(maps: Any, weights: Any, identity: Any, identity_weight: Any) -> Any:
    out, statistics = mixed_sum(maps, weights, identity, identity_weight)
    return (out, statistics), (maps, weights, identity, identity_weight, statistics)


@jax.named_scope("mixed_sum")
def _mix_backward(residuals: Any, cotangents: Any) -> Any:
    """With dy from a node, w the weight of an operation and r its inverse deviation:

    dw = N sum_c mean(dy xhat), and dz = w r (dy - mean(dy) - xhat mean(dy xhat)), which has the
    form (a dy - b z - c).
    """
    maps, weights, identity, identity_weight, (mean, variance) = residuals
    # [1, M, ...]: each source receives the gradients of its nodes.
    dy = lax.optimization_barrier(jnp.stack(cotangents[0])[None])
    count = dy.shape[-1] * dy.shape[-2]
    seen = maps if identity is None else (*maps, identity)
    total, *products = sum_maps(
        [
            jnp.broadcast_to(dy, (len(weights[0]), *dy.shape[1:])),
            *(wide(dy) * wide(z) for z in seen),
        ]
    )
    first = total / count
    product = jnp.stack(products[: len(maps)])
    inverse = inverse_deviation(variance)
    # mean(dy xhat) of each operation, edge and channel.
    second = (product / count - mean * first) * inverse
    of_dy = weights[..., None] * inverse
    of_z = of_dy * inverse * second
    constant = of_dy * first - of_z * mean
    gradients = tuple(
        _map_gradient(z, dy, *coefficients)
        for z, *coefficients in zip(maps, of_dy, of_z, constant, strict=True)
    )
    of_weights = count * second.sum(axis=-1)
    if identity is None:
        return gradients, of_weights, None, None
    of_identity = (_wide(identity_weight[..., None]) * dy).astype(identity.dtype)
    if identity.shape[-4] == 1:
        of_identity = add_slices(of_identity, axis=-4)
    return (
        gradients,
        of_weights,
        lax.optimization_barrier(of_identity),
        products[-1].sum(axis=-1),
    )


def _map_gradient(
    z: jax.Array, dy: jax.Array, of_dy: jax.Array, of_z: jax.Array, constant: jax.Array
) -> jax.Array:
    """of_dy dy - of_z z - constant, summed over the edges that share `z`; the factors and the
    constant are [S, M, C]."""
    gradient = _wide(of_dy) * dy
    if z.shape[-4] == 1 and dy.shape[-4] > 1:
        gradient = add_slices(gradient, axis=-4)
        of_z = of_z.sum(axis=-2, keepdims=True)
        constant = constant.sum(axis=-2, keepdims=True)
    gradient = gradient - _wide(of_z) * z - _wide(constant)
    return lax.optimization_barrier(gradient.astype(z.dtype))


mixed_sum.defvjp(_mix_forward, _mix_backward)
