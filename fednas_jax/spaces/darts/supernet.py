"""The DARTS supernet that FedNAS searches in (Liu et al. 2019; He et al. 2020, section 3.2).

Three collections: `params` (the weights w), `arch` (the alphas), `batch_stats` (running moments).
`cell.py` computes one cell and `stack.py` a sequence of cells; this file declares the variables and
joins the parts.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from fednas_jax.nn.initializers import uniform_fan_in
from fednas_jax.nn.kernels.normalization import Moments, batch_norm, normalize
from fednas_jax.nn.kernels.window import Window
from fednas_jax.spaces.darts.sources import KERNELS, SOURCES, Geometry, Statistics, Weights
from fednas_jax.spaces.darts.space import EDGES, PRIMITIVES
from fednas_jax.spaces.darts.stack import CellPlan, apply_run, plan_cells, runs_of_equal_cells

STEM_MULTIPLIER = 3
ALPHA_SCALE = 1e-3
INPUT_EDGES = 8
"""Edges from the two input states. In a reduction cell they have stride 2, and a skip with
weights."""


class Supernet(nn.Module):
    """A network of mixed cells, for images of 8 x 8 pixels or more with any number of channels.

    Attributes:
      num_classes: outputs.
      init_channels: number of channels C of the first cells; even.
      layers: number of cells L; at least 3.
      scan_cells: whether to compile each run of equal cells once and loop over it. Results are
        equal up to rounding; it compiles two to three times faster and runs a little slower.
      scan_sources: whether to loop over pairs of edges between nodes inside a cell. It compiles in
        about two thirds of the time and runs up to a tenth slower.
      remat: whether to recompute each cell in the backward pass. It takes a quarter more time and
        far less memory.
      momentum: share of the old running moments that a training step keeps (PyTorch's 0.1 is 0.9
        here). With 0, `batch_stats` becomes the moments of the batch itself.
      dtype: dtype of the maps inside the cells and of their matrix products: "float32" or
        "bfloat16". Weights, alphas, statistics, their gradients and all sums over images stay in
        float32; maps are added in their own dtype.
    """

    num_classes: int
    init_channels: int = 16
    layers: int = 8
    scan_cells: bool = True
    scan_sources: bool = True
    remat: bool = False
    momentum: float = 0.9
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        *,
        train: bool,
        needs_weight_gradients: jax.typing.ArrayLike = True,
    ) -> jax.Array:
        """Computes the logits.

        Args:
          images: [B, H, W, C_in] float, normalised.
          train: whether to normalise by the batch's moments and update the running ones (where
            `batch_stats` is mutable); otherwise normalises by the running ones.
          needs_weight_gradients: [] bool; where false, the gradients of the cells' convolutions are
            zero and cost nothing, for passes that only need the gradient of alpha.

        Returns:
          [B, num_classes].
        """
        batch, height, width, _ = images.shape
        alphas = {kind: self._alphas(kind) for kind in ("normal", "reduce")}
        stem = Stem(STEM_MULTIPLIER * self.init_channels, self.momentum, name="stem")
        x = stem(images, train=train)

        if self.dtype == "bfloat16":
            x = x.astype(jnp.bfloat16)
        states = (x, x)
        plans = plan_cells(self.init_channels, self.layers, Geometry(height, width, batch))
        for run in runs_of_equal_cells(plans):
            cells = [CellVariables(plan, name=f"cell_{plan.layer}")() for plan in run]
            weights, running = zip(*cells, strict=True)
            states, used = apply_run(
                run,
                list(weights),
                None if train else [{n: r.value() for n, r in cell.items()} for cell in running],
                alphas["reduce" if run[0].reduction else "normal"],
                states,
                jnp.asarray(needs_weight_gradients),
                scan_cells=self.scan_cells,
                scan_sources=self.scan_sources,
                remat=self.remat,
            )
            if train:
                for plan, cell, moments in zip(run, running, used, strict=True):
                    self._update(plan, cell, moments)
        out = states[1].astype(images.dtype)
        features = out.reshape(out.shape[0], -1, batch).mean(axis=1).T
        bound = uniform_fan_in(features.shape[-1])
        classifier = nn.Dense(
            self.num_classes, kernel_init=bound, bias_init=bound, name="classifier"
        )
        return classifier(features)

    def _update(
        self, plan: CellPlan, running: "dict[str, RunningMoments]", moments: Statistics
    ) -> None:
        for name, variable in running.items():
            before = name.startswith("preprocess")
            geometry = plan.geometries[1] if before else plan.out_geometry
            variable.update(moments[name], math.prod(geometry), self.momentum)

    def _alphas(self, kind: str) -> jax.Array:
        def initialize() -> jax.Array:
            shape = (len(EDGES), len(PRIMITIVES))
            return ALPHA_SCALE * jax.random.normal(self.make_rng("params"), shape)

        return self.variable("arch", kind, initialize).value


class Stem(nn.Module):
    """3 x 3 convolution and affine BatchNorm, without a ReLU, from images to [C, H, W * B]."""

    channels: int
    momentum: float

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C_in] -> [C, H, W * B]."""
        batch, height, width, in_channels = images.shape
        x = images.transpose(3, 1, 2, 0).reshape(in_channels, height, width * batch)
        window = Window(3, 1, 1, height, width, batch)
        planes = window.planes(x, 0.0)
        patches = jnp.concatenate([window.view(planes, tap) for tap in window.taps])
        fan_in = 9 * in_channels
        # One matrix product over patches: XLA's convolution is slow inside loops on a CPU.
        kernel = self.param("kernel", uniform_fan_in(fan_in), (self.channels, fan_in))
        z = jnp.matmul(kernel, patches.reshape(fan_in, -1)).reshape(-1, height, width * batch)
        scale = self.param("scale", nn.initializers.ones, (self.channels,))
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        running = RunningMoments(self, "batch_norm", (self.channels,))
        if train:
            y, moments = batch_norm(z)
            running.update(moments, height * width * batch, self.momentum)
        else:
            y = normalize(z, running.value())
        return y * scale[:, None, None] + bias[:, None, None]


class RunningMoments:
    """The running moments of one BatchNorm: an entry {"mean", "var"} of `batch_stats`."""

    def __init__(self, module: nn.Module, name: str, shape: tuple[int, ...]):
        self._module = module
        self._variable = module.variable(
            "batch_stats", name, lambda: {"mean": jnp.zeros(shape), "var": jnp.ones(shape)}
        )

    def value(self) -> Moments:
        """The running moments."""
        stored = self._variable.value
        return Moments(stored["mean"], stored["var"])

    def update(self, moments: Moments, count: int, momentum: float) -> None:
        """Moves towards a batch's moments; the variance is unbiased (count - 1), as in PyTorch."""
        if self._module.is_initializing() or not self._module.is_mutable_collection("batch_stats"):
            return
        unbiased = moments.variance * (count / max(count - 1, 1))
        seen = {"mean": moments.mean, "var": unbiased}
        self._variable.value = {
            name: momentum * old + (1 - momentum) * seen[name].reshape(old.shape)
            for name, old in self._variable.value.items()
        }


class CellVariables(nn.Module):
    """Declares the variables of a cell; computes nothing."""

    plan: CellPlan

    @nn.compact
    def __call__(self) -> tuple[Weights, dict[str, RunningMoments]]:
        """The weights by primitive and preprocessing, and the running moments of each BatchNorm."""
        plan, channels = self.plan, self.plan.channels
        weights: Weights = {
            "preprocess0": self._preprocess("preprocess0", plan.in_channels[0], plan.halve_first),
            "preprocess1": self._preprocess("preprocess1", plan.in_channels[1], False),
        }
        for name, kernel in KERNELS.items():
            weights[name] = self._convolution(name, kernel)
        if plan.reduction:
            shape = (INPUT_EDGES, 2, channels // 2, channels)
            weights["skip_connect"] = self.param("skip_connect", uniform_fan_in(channels), shape)
        rows = {
            "preprocess0": (),
            "preprocess1": (),
            "max_pool_3x3": (SOURCES,),
            "avg_pool_3x3": (SOURCES,),
            **{name: (len(EDGES),) for name in KERNELS},
            **{f"{name}_middle": (len(EDGES),) for name in KERNELS if name.startswith("sep")},
            **({"skip_connect": (INPUT_EDGES,)} if plan.reduction else {}),
        }
        running = {n: RunningMoments(self, n, (*shape, channels)) for n, shape in rows.items()}
        return weights, running

    def _preprocess(self, name: str, in_channels: int, halve: bool) -> jax.Array:
        channels = self.plan.channels
        shape = (2, channels // 2, in_channels) if halve else (channels, in_channels)
        return self.param(name, uniform_fan_in(in_channels), shape)

    def _convolution(self, name: str, kernel: int) -> dict[str, jax.Array]:
        edges, channels = len(EDGES), self.plan.channels
        weights = {}
        for suffix in ("1", "2") if name.startswith("sep") else ("",):
            for part, fan_in, shape in (
                ("depthwise", kernel * kernel, (edges, channels, kernel, kernel)),
                ("pointwise", channels, (edges, channels, channels)),
            ):
                initializer = uniform_fan_in(fan_in)
                full = f"{part}{suffix}"
                weights[full] = self.param(f"{name}_{full}", initializer, shape)
        return weights
