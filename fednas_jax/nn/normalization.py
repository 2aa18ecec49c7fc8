"""Batch normalisation without affine parameters, and the weighted sum of normalised maps.

Both keep only the raw map and its two moments for the backward pass, which is written by hand:
autodiff would keep, and walk through, several maps for each of the supernet's hundreds of
normalisations.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fednas_jax.nn.depthwise import add_slices, sum_maps

EPSILON = 1e-5
"""Added to the variance, as PyTorch's default."""


class Moments(NamedTuple):
    """Mean and biased variance of a map's channels; each [..., C]."""

    mean: jax.Array
    variance: jax.Array


def moments(x: jax.Array) -> Moments:
    """Means over the last two axes of `x` [..., C, H, W * B], in one pass over the map."""
    count = x.shape[-1] * x.shape[-2]
    total, squares = sum_maps([x, x * x])
    mean = total / count
    return Moments(mean, jnp.maximum(squares / count - mean * mean, 0.0))


def inverse_deviation(variance: jax.Array) -> jax.Array:
    """1 / sqrt(variance + epsilon)."""
    return lax.rsqrt(variance + EPSILON)


def _wide(x: jax.Array) -> jax.Array:
    return x[..., None, None]


def normalize(x: jax.Array, statistics: Moments) -> jax.Array:
    """Normalises [..., C, H, W * B] by given moments (evaluation: the running ones)."""
    return (x - _wide(statistics.mean)) * _wide(inverse_deviation(statistics.variance))


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


def norm_gradient(x: jax.Array, statistics: Moments, dy: jax.Array) -> jax.Array:
    """Of `batch_norm`'s input: r (dy - mean(dy) - xhat mean(dy xhat))."""
    count = x.shape[-1] * x.shape[-2]
    mean, inverse = statistics.mean, inverse_deviation(statistics.variance)
    total, product = sum_maps([dy, dy * x])
    first = total / count
    second = (product / count - mean * first) * inverse
    normal = (x - _wide(mean)) * _wide(inverse)
    return lax.optimization_barrier(_wide(inverse) * (dy - _wide(first) - normal * _wide(second)))


batch_norm.defvjp(_norm_forward, _norm_backward)


@jax.custom_vjp
def mixed_sum(
    maps: tuple[jax.Array, ...], weights: jax.Array, identity: jax.Array, identity_weight: jax.Array
) -> tuple[tuple[jax.Array, ...], tuple[Moments, ...]]:
    """What the mixed operations of S sources send to M nodes (Eq. 3, BatchNorms folded in).

    Args:
      maps: for each of O operations its raw output [S, M or 1, C, H, W * B]; with 1 the M edges of
        a source share it.
      weights: [O, S, M], shares of the operations.
      identity: [S, M or 1, C, H, W * B], or None where no edge has an identity (stride 2).
      identity_weight: [S, M], or None.

    Returns:
      For each of the M nodes the sum over sources and operations, [C, H, W * B]; and the moments of
      each map, through which no gradient flows.
    """
    statistics = tuple(moments(z) for z in maps)
    return mixed_sum_by(maps, weights, identity, identity_weight, statistics), statistics


def mixed_sum_by(
    maps: tuple[jax.Array, ...],
    weights: jax.Array,
    identity: jax.Array | None,
    identity_weight: jax.Array | None,
    statistics: tuple[Moments, ...],
) -> tuple[jax.Array, ...]:
    """`mixed_sum` with given moments (evaluation: the running ones)."""
    sources, nodes = weights.shape[1:]
    scales, shifts = [], []
    for weight, (mean, variance) in zip(weights, statistics, strict=True):
        scales.append(weight[..., None] * inverse_deviation(variance))
        shifts.append(scales[-1] * mean)
    shift = functools.reduce(jnp.add, shifts).sum(axis=0)
    if identity is not None and identity_weight is not None:
        maps, scales = (*maps, identity), [*scales, identity_weight[..., None]]
    sums = []
    for node in range(nodes):
        terms = [
            _wide(scale[source, node]) * z[source, node if z.shape[1] > 1 else 0]
            for z, scale in zip(maps, scales, strict=True)
            for source in range(sources)
        ]
        sums.append(functools.reduce(jnp.add, terms) - _wide(shift[node]))
    return tuple(sums)


def _mix_forward(maps: Any, weights: Any, identity: Any, identity_weight: Any) -> Any:
    out, statistics = mixed_sum(maps, weights, identity, identity_weight)
    return (out, statistics), (maps, weights, identity, identity_weight, statistics)


def _mix_backward(residuals: Any, cotangents: Any) -> Any:
    maps, weights, identity, identity_weight, statistics = residuals
    # [1, M, ...]: each source receives what its nodes say.
    dy = lax.optimization_barrier(jnp.stack(cotangents[0])[None])
    count = dy.shape[-1] * dy.shape[-2]
    seen = maps if identity is None else (*maps, identity)
    total = sum_maps([dy])[0]
    products = sum_maps([dy * z for z in seen])
    first = total / count
    gradients, weight_gradients = [], []
    # The identity, where there is one, comes last in `products`; zip stops before it.
    for z, weight, statistic, product in zip(maps, weights, statistics, products, strict=False):
        # mean(dy xhat) of each edge and channel; its sum over channels is the weight's gradient.
        second = (product / count - statistic.mean * first) * inverse_deviation(statistic.variance)
        weight_gradients.append(count * second.sum(axis=-1))
        gradients.append(_map_gradient(z, statistic, weight[..., None], dy, first, second))
    if identity is None:
        return tuple(gradients), jnp.stack(weight_gradients), None, None
    d_identity = _wide(identity_weight[..., None]) * dy
    if identity.shape[-4] == 1:
        d_identity = add_slices(d_identity, axis=-4)
    return (
        tuple(gradients),
        jnp.stack(weight_gradients),
        lax.optimization_barrier(d_identity),
        products[-1].sum(axis=-1),
    )


def _map_gradient(
    z: jax.Array,
    statistic: Moments,
    share: jax.Array,
    dy: jax.Array,
    first: jax.Array,
    second: jax.Array,
) -> jax.Array:
    """w r (dy - mean(dy) - xhat mean(dy xhat)), summed over the edges that share `z`."""
    inverse = inverse_deviation(statistic.variance)
    dz, dz_first, dz_second = _wide(share) * dy, share * first, share * second
    if z.shape[-4] == 1 and dy.shape[-4] > 1:
        dz = add_slices(dz, axis=-4)
        dz_first = dz_first.sum(axis=-2, keepdims=True)
        dz_second = dz_second.sum(axis=-2, keepdims=True)
    normal = (z - _wide(statistic.mean)) * _wide(inverse)
    gradient = _wide(inverse) * (dz - _wide(dz_first) - normal * _wide(dz_second))
    return lax.optimization_barrier(gradient)


mixed_sum.defvjp(_mix_forward, _mix_backward)
