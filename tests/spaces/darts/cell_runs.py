"""Neighbouring cells of a network, in the package and in the plain supernet, in float64."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.nn.kernels.normalization import Moments
from fednas_jax.spaces.darts.sources import Geometry
from fednas_jax.spaces.darts.stack import apply_run, plan_cells
from tests.plain import supernet as plain
from tests.plain.conversion import batch_stats_from_plain, cell_weights, params_from_plain
from tests.plain.layout import random_like, to_images, to_maps
from tests.plain.parameters import weight_shapes
from tests.quick import quick_jit

POOLS = ("max_pool_3x3", "avg_pool_3x3")


class Outcome(NamedTuple):
    """What cells yield, in the package's trees but with states as images."""

    states: Any
    """What a next cell reads: two of [B, C, H, W]."""
    used: Any
    """For each cell the moments that each BatchNorm used."""
    gradients: Any = None
    """By alphas, by each cell's weights, by the states read."""


class Run:
    """Some cells out of `layers`, with random weights, inputs and cotangents."""

    def __init__(self, channels: int, layers: int, cells: slice, geometry: Geometry) -> None:
        self.plans = plan_cells(channels, layers, geometry)[cells]
        self.batch = geometry.batch
        shapes = weight_shapes(in_channels=1, num_classes=1, init_channels=channels, layers=layers)
        self._params = random_like(shapes | {"cells": shapes["cells"][cells]}, 0, 0.5)
        stats = plain.init_batch_stats(init_channels=channels, layers=layers, dtype=jnp.float64)
        self._fresh = stats | {"cells": stats["cells"][cells]}
        first = self.plans[0]
        self._states = tuple(
            random_like((self.batch, c, g.height, g.width), seed)
            for seed, c, g in zip((1, 2), first.in_channels, first.geometries, strict=True)
        )
        # Edges of equal shapes share one compilation; a cell as one program would take minutes.
        self._mixed_operation = jax.jit(plain.mixed_operation, static_argnums=(4, 5))

    def running(self) -> Any:
        """Some running moments, in the plain trees."""
        noise = random_like(self._fresh, 3)
        stats = jax.tree.map(lambda fresh, n: fresh + 0.5 * np.abs(n), self._fresh, noise)
        for cell in stats["cells"]:
            # Pools have no weights: those of one source see the same and have the same moments.
            of_source = {source: cell["edges"][e] for e, (_, source) in enumerate(plain.EDGES)}
            for edge, (_, source) in zip(cell["edges"], plain.EDGES, strict=True):
                edge.update({name: of_source[source][name] for name in POOLS})
        return stats

    def ours(self, **switches: bool) -> Callable[[Any], Outcome]:
        """A training step's passes for given alphas [14, 8], compiled at the first call."""

        def step(alphas: Any, weights: Any, states: Any, dy: Any) -> Any:
            def run(*arguments: Any) -> Any:
                return self._ours(*arguments, None, **switches)

            out, back, used = jax.vjp(run, alphas, weights, states, has_aux=True)
            return out, used, back(dy)

        compiled = quick_jit(step)
        weights = self._weights(self._params["cells"])
        return lambda alphas: Outcome(*compiled(alphas, weights, self._states, self._cotangents()))

    def ours_forward(self, alphas: Any, running: Any = None, **switches: bool) -> Outcome:
        """The forward pass; with `running` that of evaluation."""
        moments = running and self._moments(running["cells"])
        function = quick_jit(lambda *arguments: self._ours(*arguments, **switches))
        weights = self._weights(self._params["cells"])
        return Outcome(*function(alphas, weights, self._states, moments))

    def plain(self, alphas: Any) -> Outcome:
        """A training step's passes."""
        out, back, new = jax.vjp(
            lambda *arguments: self._plain(*arguments, self._fresh, train=True),
            jnp.asarray(alphas),
            self._params["cells"],
            self._states,
            has_aux=True,
        )
        of_alphas, of_cells, of_states = back(self._cotangents())
        return Outcome(out, self._used(new), (of_alphas, self._weights(of_cells), of_states))

    def plain_forward(self, alphas: Any, running: Any = None) -> Outcome:
        """The forward pass; with `running` that of evaluation."""
        arguments = (jnp.asarray(alphas), self._params["cells"], self._states)
        if running is None:
            states, new = self._plain(*arguments, self._fresh, train=True)
            return Outcome(states, self._used(new))
        states, _ = self._plain(*arguments, running, train=False)
        return Outcome(states, self._moments(running["cells"]))

    def _ours(
        self, alphas: Any, weights: Any, states: Any, running: Any, **switches: bool
    ) -> tuple[Any, Any]:
        maps = tuple(to_maps(x) for x in states)
        out, used = apply_run(
            self.plans, weights, running, alphas, maps, jnp.array(True), **switches
        )
        return tuple(to_images(x, self.batch) for x in out), used

    def _plain(
        self, alphas: Any, cells: Any, states: Any, stats: Any, *, train: bool
    ) -> tuple[Any, Any]:
        shares, new_stats = jax.nn.softmax(alphas), []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plain, "mixed_operation", self._mixed_operation)
            for plan, cell, old in zip(self.plans, cells, stats["cells"], strict=True):
                out, new = plain.cell(*states, shares, cell, old, plan.reduction, train)
                states = (states[1], out)
                new_stats.append(new)
        return states, new_stats

    def _cotangents(self) -> Any:
        """Of both states that a next cell reads."""
        out = self.plans[-1].out_geometry
        newest = (self.batch, 4 * self.plans[-1].channels, out.height, out.width)
        shapes = [self._states[1].shape if len(self.plans) == 1 else newest, newest]
        return tuple(jnp.asarray(random_like(shape, 4)) for shape in shapes)

    def _weights(self, cells: Any) -> Any:
        converted = params_from_plain(self._params | {"cells": cells})
        return [cell_weights(converted[f"cell_{i}"]) for i in range(len(cells))]

    def _moments(self, cells: Any) -> Any:
        converted = batch_stats_from_plain(self._fresh | {"cells": cells})
        return [
            {name: Moments(**_renamed(entry)) for name, entry in converted[f"cell_{i}"].items()}
            for i in range(len(cells))
        ]

    def _used(self, new_stats: Any) -> Any:
        """Moments of the batch out of new running moments: 0.1 of it, the variance unbiased."""
        used = []
        for plan, cell in zip(self.plans, self._moments(new_stats), strict=True):
            entries = {}
            for name, (mean, variance) in cell.items():
                geometry = plan.geometries[1] if name.startswith("pre") else plan.out_geometry
                count = np.prod(geometry)
                entries[name] = Moments(mean / 0.1, (variance - 0.9) / 0.1 * (count - 1) / count)
            used.append(entries)
        return used


def _renamed(entry: Any) -> Any:
    return {"mean": entry["mean"], "variance": entry["var"]}


def assert_close(found: Any, expected: Any, rtol: float = 1e-10) -> None:
    """Each leaf's error against the largest entry of its leaf (at least 0.001)."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    leaves = zip(jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True)
    for (path, ours), theirs in leaves:
        assert ours.dtype == jnp.float64
        atol = rtol * max(float(jnp.abs(theirs).max()), 1e-3)
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol, err_msg=name)
