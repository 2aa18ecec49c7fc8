"""Mixed operations computed source by source.

A cell has two input states and four nodes. Node i receives an edge from both inputs and from every
earlier node: 14 edges, each a mixture of the eight primitives (Eq. 3). Computing edge by edge would
repeat work: all edges that leave one state share its ReLU, its identity, and its two pools with
their BatchNorms, which have no parameters. Therefore each *source* is computed once, and the
separable and dilated convolutions of its M edges become one depthwise convolution with channel
multiplier M and one batched matrix product. This is exact, has fewer and larger operations, and
compiles several times faster. The two inputs are computed together, as both have M = 4 edges.

The leading axis of weights holds the 14 edges ordered by source (`SOURCE_MAJOR`), so that a
source's edges are a slice. Outside of the cell, alphas are always in DARTS order.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fednas_jax.nn.kernels.normalization import (
    Moments,
    batch_norm,
    mixed_sum,
    mixed_sum_by,
    normalize,
)
from fednas_jax.nn.kernels.pooling import avg_pool, max_pool
from fednas_jax.nn.kernels.separable import Kernels, pointwise, relu_separable, separable_by
from fednas_jax.nn.kernels.window import Window, split_phases
from fednas_jax.spaces.darts.space import EDGES, PRIMITIVES

SOURCES = 5
"""States that edges leave: the two inputs and the first three nodes."""

SOURCE_MAJOR = tuple(sorted(range(len(EDGES)), key=lambda edge: (EDGES[edge][1], EDGES[edge][0])))
"""DARTS index of each edge, in the order of the weights."""

KERNELS = {"sep_conv_3x3": 3, "sep_conv_5x5": 5, "dil_conv_3x3": 3, "dil_conv_5x5": 5}


class SourceGroup(NamedTuple):
    """Sources that are computed together, with all the edges that leave them."""

    first: int
    """Number of the first source state."""
    sources: int
    """S, the number of sources."""
    edges: int
    """M, the number of edges of each source: to the last M nodes."""
    start: int
    """Position of the first of their edges in `SOURCE_MAJOR`."""


SOURCE_GROUPS = (
    SourceGroup(0, 2, 4, 0),
    SourceGroup(2, 1, 3, 8),
    SourceGroup(3, 1, 2, 11),
    SourceGroup(4, 1, 1, 13),
)

Weights = dict[str, Any]
Statistics = dict[str, Moments]


class Geometry(NamedTuple):
    """Static shape of a feature map [C, H, W * B]."""

    height: int
    width: int
    batch: int

    def halved(self) -> "Geometry":
        """The geometry after a stride of two."""
        return Geometry(-(-self.height // 2), -(-self.width // 2), self.batch)

    def window(self, kernel: int, stride: int = 1, dilation: int = 1) -> Window:
        """A window sliding over this map."""
        return Window(kernel, stride, dilation, self.height, self.width, self.batch)


def factorized_reduce(x: jax.Array, weights: jax.Array, geometry: Geometry) -> jax.Array:
    """Halves a map by two strided 1 x 1 convolutions, the second shifted by one pixel.

    Args:
      x: [..., C, H, W * B] after its ReLU. An odd side gets one row or column of zeros at its end.
      weights: [..., 2, D / 2, C], one matrix for each of the two views.
      geometry: H, W and B.

    Returns:
      [..., D, ceil(H / 2), ceil(W / 2) * B], before its BatchNorm.
    """
    odd_rows, odd_columns = geometry.height % 2, geometry.width % 2
    if odd_rows or odd_columns:
        pads = [(0, 0)] * (x.ndim - 2) + [(0, odd_rows), (0, odd_columns * geometry.batch)]
        x = jnp.pad(x, pads)
    phases = split_phases(x, geometry.batch)
    halves = [
        pointwise(phases[phase], weights[..., i, :, :]) for i, phase in enumerate(((0, 0), (1, 1)))
    ]
    return jnp.concatenate(halves, axis=-3)


def preprocess(
    x: jax.Array, weight: jax.Array, geometry: Geometry, running: Moments | None
) -> tuple[jax.Array, Moments]:
    """Projects a cell's input to C channels: ReLU, 1 x 1 convolution or factorised reduction,
    BatchNorm.

    Args:
      x: [C_in, H, W * B].
      weight: [C, C_in], or [2, C / 2, C_in] to halve the map.
      geometry: H, W and B of `x`.
      running: moments to normalise by; None for those of the batch.

    Returns:
      The map, and the moments used.
    """
    active = jax.nn.relu(x)
    if weight.ndim == 2:
        z = pointwise(active, weight)
    else:
        z = factorized_reduce(active, weight, geometry)
    if running is not None:
        return normalize(z, running), running
    return batch_norm(z)


def mix_sources(
    group: SourceGroup,
    weights: Weights,
    mixture: jax.Array,
    states: jax.Array,
    geometry: Geometry,
    stride: int,
    running: Statistics | None,
    needs_weight_gradients: jax.Array,
) -> tuple[tuple[jax.Array, ...], Statistics]:
    """What all edges that leave a group's sources send to the last M nodes.

    Args:
      group: S sources with M edges each.
      weights: by primitive; each leaf [S, M, ...].
      mixture: softmax of the alphas of each edge, [S M, 8].
      states: states of the sources, [S, 1, C, H, W * B]; or [1, M, C, H, W * B], where each edge
        has a different source.
      geometry: H, W and B of the states.
      stride: stride of all edges.
      running: moments to normalise by, those of edges [S, M, C], those of pools [S, 1, C]; None for
        the moments of the batch.
      needs_weight_gradients: [] bool; whether the gradient of the convolutions' weights will be
        used.

    Returns:
      For each of the M nodes [C, H', W' * B]; and the moments used.
    """
    shape = (group.sources, group.edges)
    shares = jnp.moveaxis(mixture.reshape(*shape, len(PRIMITIVES)), -1, 0)
    maps, used = _raw_maps(weights, states, geometry, stride, running, needs_weight_gradients)
    names = list(maps)
    raw = tuple(maps.values())
    weight = shares[jnp.array([PRIMITIVES.index(name) for name in names])]
    identity = states if stride == 1 else None
    identity_weight = shares[PRIMITIVES.index("skip_connect")] if stride == 1 else None
    if running is not None:
        statistics = _stacked([running[name] for name in names], shape)
        return mixed_sum_by(raw, weight, identity, identity_weight, statistics), running
    out, moments = mixed_sum(raw, weight, identity, identity_weight)
    for name, *moment in zip(names, *moments, strict=True):
        # The edges of a source share its pools, whose moments are returned once.
        used[name] = Moments(*(m[:, : maps[name].shape[1]] for m in moment))
    return out, used


def _stacked(given: list[Moments], shape: tuple[int, int]) -> Moments:
    """Stacks the moments of all operations, [S, M or 1, C] each, to [O, S, M, C]."""
    full = (*shape, given[0].mean.shape[-1])
    columns = zip(*given, strict=True)
    return Moments(*(jnp.stack([jnp.broadcast_to(m, full) for m in column]) for column in columns))


def _raw_maps(
    weights: Weights,
    states: jax.Array,
    geometry: Geometry,
    stride: int,
    running: Statistics | None,
    needs_weight_gradients: jax.Array,
) -> tuple[dict[str, jax.Array], Statistics]:
    """Each primitive's map before its last BatchNorm, [S, M or 1, C, H', W' * B].

    The identity is left out. Also returns the moments of the BatchNorms in the middle of the
    separable convolutions.
    """
    window = geometry.window(3, stride)
    maps = {"max_pool_3x3": max_pool(states, window), "avg_pool_3x3": avg_pool(states, window)}
    used: Statistics = {}
    first = [_kernels(weights[name], "" if name.startswith("dil") else "1") for name in KERNELS]
    windows = [
        geometry.window(size, stride, 2 if name.startswith("dil") else 1)
        for name, size in KERNELS.items()
    ]
    widest = max(w.padding for w in windows)
    windows = [w._replace(margin=widest - w.padding) for w in windows]
    out, _ = relu_separable(states, tuple(first), needs_weight_gradients, tuple(windows), False)
    after = geometry.halved() if stride == 2 else geometry
    for (name, size), z in zip(KERNELS.items(), out, strict=True):
        if name.startswith("dil"):
            maps[name] = z
            continue
        second, inner = (_kernels(weights[name], "2"),), (after.window(size),)
        middle = f"{name}_middle"
        if running is None:
            (maps[name],), seen = relu_separable(z, second, needs_weight_gradients, inner, True)
            assert seen is not None  # since `normalized` is true
            used[middle] = seen
        else:
            (maps[name],) = separable_by(z, second, inner, running[middle])
    if stride == 2:
        active = lax.optimization_barrier(jax.nn.relu(states))
        maps["skip_connect"] = factorized_reduce(active, weights["skip_connect"], geometry)
    return maps, used


def _kernels(weights: dict[str, jax.Array], number: str) -> Kernels:
    return Kernels(weights[f"depthwise{number}"], weights[f"pointwise{number}"])
