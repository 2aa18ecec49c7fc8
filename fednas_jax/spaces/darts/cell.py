"""The mixed cell of the search space: two inputs, four nodes, 14 mixed operations.

`sources.py` computes what a source sends to its nodes. This file decides the order in which sources
are computed, and slices the weights and moments, whose leading axis holds the edges ordered by
source.

The six edges between nodes can be computed as one loop over three pairs. The compiler then sees the
loop's body once, which halves the program. The price: the loop keeps copies of what the backward
pass needs, and a node that sends to several others is activated, padded and pooled once for each.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fednas_jax.nn.kernels.normalization import Moments
from fednas_jax.spaces.darts.sources import (
    SOURCE_GROUPS,
    SOURCE_MAJOR,
    Geometry,
    SourceGroup,
    Statistics,
    Weights,
    mix_sources,
)
from fednas_jax.spaces.darts.space import EDGES, NODES


def mixed_cell(
    weights: Weights,
    alphas: jax.Array,
    inputs: jax.Array,
    geometry: Geometry,
    *,
    reduction: bool,
    running: Statistics | None,
    needs_weight_gradients: jax.Array,
    scan_sources: bool = False,
) -> tuple[jax.Array, Statistics]:
    """All mixed operations of a cell.

    Args:
      weights: by primitive; each leaf [14, ...] in the order `SOURCE_MAJOR`.
      alphas: [14, 8] in DARTS order, before the softmax.
      inputs: the two preprocessed input states, [2, C, H, W * B].
      geometry: H, W and B of the inputs.
      reduction: whether edges from the two inputs have stride 2.
      running: moments to normalise by; None for those of the batch.
      needs_weight_gradients: [] bool; whether the gradient of the convolutions' weights will be
        used.
      scan_sources: whether to loop over the nodes as sources, instead of unrolling them.

    Returns:
      The channels of the four nodes, concatenated, [4 C, H', W' * B], and the moments used.
    """
    mixture = jax.nn.softmax(alphas, axis=-1)[jnp.array(SOURCE_MAJOR)]
    inputs_group, *node_groups = SOURCE_GROUPS
    out, used = _mix_group(
        inputs_group,
        weights,
        mixture,
        inputs,
        geometry,
        2 if reduction else 1,
        running,
        needs_weight_gradients,
    )
    after = geometry.halved() if reduction else geometry
    if scan_sources:
        nodes, used_by_nodes = _scan_nodes(
            weights, mixture, out, after, running, needs_weight_gradients
        )
        return nodes, _join_statistics([used, used_by_nodes])
    received, statistics = [[value] for value in out], [used]
    for group in node_groups:
        state = _add(received[group.first - 2])[None]
        out, used = _mix_group(
            group, weights, mixture, state, after, 1, running, needs_weight_gradients
        )
        statistics.append(used)
        for node, value in zip(range(NODES - group.edges, NODES), out, strict=True):
            received[node].append(value)
    nodes = jnp.concatenate([_add(terms) for terms in received], axis=-3)
    return lax.optimization_barrier(nodes), _join_statistics(statistics)


def _add(terms: list[jax.Array]) -> jax.Array:
    """The sum, behind a barrier: XLA would otherwise recompute all terms in each consumer."""
    return lax.optimization_barrier(functools.reduce(jnp.add, terms))


def _mix_group(
    group: SourceGroup,
    weights: Weights,
    mixture: jax.Array,
    states: jax.Array,
    geometry: Geometry,
    stride: int,
    running: Statistics | None,
    needs_weight_gradients: jax.Array,
) -> tuple[tuple[jax.Array, ...], Statistics]:
    """`mix_sources` with the group's slice of the cell's weights, mixture and moments."""
    stop = group.start + group.sources * group.edges
    return mix_sources(
        group,
        _take(weights, group),
        mixture[group.start : stop],
        states[:, None],
        geometry,
        stride,
        None if running is None else _take_statistics(running, group),
        needs_weight_gradients,
    )


_STEPS = (((2, 1), (2, 2)), ((2, 3), (3, 2)), ((3, 3), (4, 3)))
"""(source state, node) of the two edges in each step of the loop. A node becomes a source only
after all of its inputs have been added."""

_PAIR = SourceGroup(2, 1, 2, 8)
"""One step of the loop: two edges with different sources."""

_POSITIONS = [
    [SOURCE_MAJOR.index(EDGES.index((node, source))) for source, node in step] for step in _STEPS
]
_RETURN = [position for step in _POSITIONS for position in step]
_POOLS = ((0, 0), (1, 1), (2, 1))
"""Step and edge of the loop from which the moments of the pools of sources 2 to 4 are taken."""


def _scan_nodes(
    weights: Weights,
    mixture: jax.Array,
    received: tuple[jax.Array, ...],
    geometry: Geometry,
    running: Statistics | None,
    needs_weight_gradients: jax.Array,
) -> tuple[jax.Array, Statistics]:
    """Adds what nodes 0 to 2 send, in one loop, to what the nodes have received so far."""
    edges, steps = jnp.array(_POSITIONS), jnp.array(_STEPS)

    def pairs(leaf: jax.Array) -> jax.Array:
        """[14, ...] -> [step, source (1), edge, ...]."""
        return leaf[edges][:, None]

    present = {name: leaf for name, leaf in weights.items() if _concerns(name, _PAIR)}
    pair_running = None
    if running is not None:
        pair_running = {
            name: Moments(
                *(m[steps[:, :, 0]][:, None] if _is_pool(name) else pairs(m) for m in value)
            )
            for name, value in running.items()
            if _concerns(name, _PAIR)
        }

    def step(nodes: jax.Array, slices: Any) -> tuple[jax.Array, Statistics]:
        ends, weight, shares, stats = slices
        states = [lax.dynamic_index_in_dim(nodes, ends[i, 0] - 2, 0) for i in range(2)]
        out, used = mix_sources(
            _PAIR,
            weight,
            shares[0],
            jnp.stack(states, axis=1),
            geometry,
            1,
            stats,
            needs_weight_gradients,
        )
        for i in range(2):
            nodes = nodes.at[ends[i, 1]].add(out[i])
        return nodes, used

    slices = (steps, jax.tree.map(pairs, present), pairs(mixture), pair_running)
    nodes, used = lax.scan(step, jnp.stack(received), slices)
    order = jnp.argsort(jnp.array(_RETURN))

    def of_edges(name: str, leaf: jax.Array) -> jax.Array:
        """[step, 1, edge, C] -> [source, C] for pools, [edge in order, C] for the others."""
        if _is_pool(name):
            return jnp.stack([leaf[step, 0, edge] for step, edge in _POOLS])
        return leaf.reshape(-1, leaf.shape[-1])[order]

    moments = {
        name: Moments(*(of_edges(name, leaf) for leaf in value)) for name, value in used.items()
    }
    return nodes.reshape(-1, *nodes.shape[2:]), moments


def _take(weights: Weights, group: SourceGroup) -> Weights:
    """The weights of a group's edges, [S, M, ...]."""
    stop = group.start + group.sources * group.edges
    present = {name: leaf for name, leaf in weights.items() if _concerns(name, group)}

    def cut(leaf: jax.Array) -> jax.Array:
        return leaf[group.start : stop].reshape(group.sources, group.edges, *leaf.shape[1:])

    return jax.tree.map(cut, present)


def _take_statistics(running: Statistics, group: SourceGroup) -> Statistics:
    """The moments of a group: those of edges [S, M, C], those of pools [S, 1, C]."""

    def cut(name: str, leaf: jax.Array) -> jax.Array:
        if _is_pool(name):
            return leaf[group.first : group.first + group.sources, None]
        stop = group.start + group.sources * group.edges
        return leaf[group.start : stop].reshape(group.sources, group.edges, leaf.shape[-1])

    return {
        name: Moments(*(cut(name, leaf) for leaf in value))
        for name, value in running.items()
        if _concerns(name, group)
    }


def _is_pool(name: str) -> bool:
    return name.endswith("pool_3x3")


def _concerns(name: str, group: SourceGroup) -> bool:
    """Whether a group has the entry: preprocessing belongs to no edge, and `skip_connect` has
    weights on edges of stride 2 only."""
    return not name.startswith("preprocess") and (name != "skip_connect" or group.first < 2)


def _join_statistics(groups: list[Statistics]) -> Statistics:
    """The moments of all groups by name: those of edges [14 or 8, C], those of pools [5, C]."""

    def join(*leaves: jax.Array) -> jax.Array:
        return jnp.concatenate([leaf.reshape(-1, leaf.shape[-1]) for leaf in leaves])

    return {
        name: jax.tree.map(join, *(group[name] for group in groups if name in group))
        for name in groups[0]
    }
