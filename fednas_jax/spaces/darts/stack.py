"""The sequence of cells: their shapes, and runs of equal cells compiled once.

Every cell reads the outputs of the two cells before it. At one third and two thirds of the depth, a
reduction cell halves the map and doubles the channels. The normal cells between two reductions are
equal except for the first inputs, so that a run of them is one `lax.scan`, whose body the compiler
sees once.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fednas_jax.nn.kernels.normalization import Moments
from fednas_jax.spaces.darts.cell import mixed_cell
from fednas_jax.spaces.darts.sources import Geometry, Statistics, Weights, preprocess
from fednas_jax.spaces.darts.space import NODES

States = tuple[jax.Array, jax.Array]
"""Outputs of the two cells before a cell, the older one first; each [C_in, H, W * B]."""


class CellPlan(NamedTuple):
    """The static facts of one cell."""

    layer: int
    channels: int
    in_channels: tuple[int, int]
    reduction: bool
    geometries: tuple[Geometry, Geometry]
    """Number of channels of the two states that the cell reads."""

    @property
    def halve_first(self) -> bool:
        """Whether the previous cell was a reduction, so that the older state must be halved."""
        return self.geometries[0] != self.geometries[1]

    @property
    def out_geometry(self) -> Geometry:
        """The geometry of the cell's nodes."""
        return self.geometries[1].halved() if self.reduction else self.geometries[1]


def plan_cells(init_channels: int, layers: int, geometry: Geometry) -> list[CellPlan]:
    """The plans of `layers` cells for images of the given size, by the rule of DARTS."""
    reductions = (layers // 3, 2 * layers // 3)
    channels = init_channels
    inputs, geometries = (3 * channels, 3 * channels), (geometry, geometry)
    plans = []
    for layer in range(layers):
        reduction = layer in reductions
        channels = 2 * channels if reduction else channels
        plan = CellPlan(layer, channels, inputs, reduction, geometries)
        plans.append(plan)
        inputs = (inputs[1], NODES * channels)
        geometries = (geometries[1], plan.out_geometry)
    return plans


def runs_of_equal_cells(plans: list[CellPlan]) -> list[list[CellPlan]]:
    """Groups neighbouring normal cells; a reduction cell stands alone."""
    key = [p.layer if p.reduction else (p.channels, "normal") for p in plans]
    groups = itertools.groupby(range(len(plans)), key=lambda i: key[i])
    return [[plans[i] for i in group] for _, group in groups]


def apply_run(
    plans: list[CellPlan],
    weights: list[Weights],
    running: list[Statistics] | None,
    alphas: jax.Array,
    states: States,
    needs_weight_gradients: jax.Array,
    *,
    scan_cells: bool,
    scan_sources: bool,
    remat: bool,
) -> tuple[States, list[Statistics]]:
    """Applies equal cells one after another.

    Args:
      plans: plan of each cell.
      weights: weights of each cell.
      running: moments to normalise by; None for those of the batch.
      alphas: [14, 8], those of the cells' kind.
      states: the inputs of the first cell.
      needs_weight_gradients: [] bool; whether the gradient of the cells' convolutions will be used.
      scan_cells: whether to loop over the cells instead of unrolling them.
      scan_sources: whether to loop over the nodes as sources inside a cell.
      remat: whether to recompute each cell in the backward pass.

    Returns:
      The inputs of the cell after the last, and the moments that each cell used.
    """
    cell: Any = functools.partial(_mix, scan_sources=scan_sources)
    if remat:
        # Unrolled cells need `prevent_cse`: otherwise XLA merges the two computations again.
        cell = jax.checkpoint(cell, static_argnums=(0,), prevent_cse=True)
    if scan_cells and len(plans) > 1:
        return _scan_run(cell, plans, weights, running, alphas, states, needs_weight_gradients)
    used = []
    for i, plan in enumerate(plans):
        stats = None if running is None else running[i]
        inputs, preprocessed = _preprocess_both(plan, weights[i], stats, states)
        out, moments = cell(plan, weights[i], alphas, inputs, stats, needs_weight_gradients)
        used.append(moments | preprocessed)
        states = (states[1], out)
    return states, used


def _mix(
    plan: CellPlan,
    weights: Weights,
    alphas: jax.Array,
    inputs: States,
    running: Statistics | None,
    needs_weight_gradients: jax.Array,
    *,
    scan_sources: bool,
) -> tuple[jax.Array, Statistics]:
    return mixed_cell(
        weights,
        alphas,
        jnp.stack(inputs),
        plan.geometries[1],
        reduction=plan.reduction,
        running=running,
        needs_weight_gradients=needs_weight_gradients,
        scan_sources=scan_sources,
    )


def _preprocess_both(
    plan: CellPlan, weights: Weights, running: Statistics | None, states: States
) -> tuple[States, Statistics]:
    used, inputs = {}, []
    for i, state in enumerate(states):
        name = f"preprocess{i}"
        stats = None if running is None else running[name]
        x, used[name] = preprocess(state, weights[name], plan.geometries[i], stats)
        inputs.append(x)
    return (inputs[0], inputs[1]), used


def _scan_run(
    cell: Any,
    plans: list[CellPlan],
    weights: list[Weights],
    running: list[Statistics] | None,
    alphas: jax.Array,
    states: States,
    needs_weight_gradients: jax.Array,
) -> tuple[States, list[Statistics]]:
    """`apply_run` as one loop.

    The loop carries the older input preprocessed and the newer one raw: step i applies cell i and
    preprocesses the older input of cell i + 1. In the last step there is no next cell, and the
    weights for it are zero (a few percent of a cell's work).
    """
    first = plans[0]
    channels = NODES * first.channels
    stats0 = None if running is None else running[0]["preprocess0"]
    older, used_first = preprocess(
        states[0], weights[0]["preprocess0"], first.geometries[0], stats0
    )
    newer = _pad_channels(states[1], channels, axis=0)
    stacked = _stack([_rest(w, "preprocess0") for w in weights], channels)
    next_weights = _stack_next([w["preprocess0"] for w in weights], channels)
    stacked_stats = next_stats = None
    if running is not None:
        rest = [_rest(r, "preprocess0") for r in running]
        stacked_stats = jax.tree.map(lambda *x: jnp.stack(x), *rest)
        following = [*(r["preprocess0"] for r in running[1:]), running[-1]["preprocess0"]]
        next_stats = jax.tree.map(lambda *x: jnp.stack(x), *following)
    geometry = first.geometries[1]

    def step(carry: States, slices: Any) -> tuple[States, Any]:
        older, newer = carry
        weight, next_weight, stats, next_stat = slices
        stat1 = None if stats is None else stats["preprocess1"]
        x, used1 = preprocess(newer, weight["preprocess1"], geometry, stat1)
        out, moments = cell(first, weight, alphas, (older, x), stats, needs_weight_gradients)
        next_older, used0 = preprocess(newer, next_weight, geometry, next_stat)
        return (next_older, out), (moments | {"preprocess1": used1}, used0)

    # The next cell needs the second newest output raw; it is the `newer` of the last step.
    (_, last), (moments, used0), raw = _scan_with_raw(
        step, (older, newer), (stacked, next_weights, stacked_stats, next_stats)
    )
    used = []
    for i in range(len(plans)):
        one: Statistics = jax.tree.map(lambda x, i=i: x[i], moments)
        before = used_first if i == 0 else Moments(*(x[i - 1] for x in used0))
        used.append(one | {"preprocess0": before})
    return (raw, last), used


def _scan_with_raw(step: Any, carry: States, slices: Any) -> Any:
    def with_raw(full: Any, slice_: Any) -> Any:
        (older, newer), _ = full
        carry, out = step((older, newer), slice_)
        return (carry, newer), out

    (final, raw), (moments, used0) = lax.scan(with_raw, (carry, carry[1]), slices)
    return final, (moments, used0), raw


def _rest(tree: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if key != name}


def _pad_channels(x: jax.Array, channels: int, axis: int) -> jax.Array:
    """Appends channels of zeros, which is exact since their weights are zero too."""
    pads = [(0, 0)] * x.ndim
    pads[axis] = (0, channels - x.shape[axis])
    return jnp.pad(x, pads) if pads[axis][1] else x


def _stack(weights: list[Weights], channels: int) -> Weights:
    padded = [w | {"preprocess1": _pad_channels(w["preprocess1"], channels, 1)} for w in weights]
    return jax.tree.map(lambda *x: jnp.stack(x), *padded)


def _stack_next(weights: list[jax.Array], channels: int) -> jax.Array:
    following = [_pad_channels(w, channels, 1) for w in weights[1:]]
    return jnp.stack([*following, jnp.zeros_like(following[0])])
