"""The plain supernet's parameters: their shapes, first values and counts.

The golden counts of the reference are counts of these trees: a module for each edge, as PyTorch
holds them.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = jax.Array
Tree = Any  # nested dicts and lists with arrays as leaves

PRIMITIVES = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
NODES = 4
# (node, source state): states 0 and 1 are the cell's inputs, state 2 + i is node i.
EDGES = tuple((node, source) for node in range(NODES) for source in range(2 + node))
STEM_MULTIPLIER = 3


class CellPlan(NamedTuple):
    """What a cell is built from. Channels are counts, `inputs` those of the two states before."""

    channels: int
    inputs: tuple[int, int]
    reduction: bool
    previous_reduction: bool


def cell_plans(init_channels: int, layers: int) -> list[CellPlan]:
    """The cells in order; reductions at layers // 3 and 2 * layers // 3 double the channels."""
    plans: list[CellPlan] = []
    channels = init_channels
    inputs = (STEM_MULTIPLIER * channels, STEM_MULTIPLIER * channels)
    previous_reduction = False
    for index in range(layers):
        reduction = is_reduction(index, layers)
        if reduction:
            channels *= 2
        plans.append(CellPlan(channels, inputs, reduction, previous_reduction))
        inputs = (inputs[1], NODES * channels)
        previous_reduction = reduction
    return plans


def is_reduction(index: int, layers: int) -> bool:
    """Whether the cell at `index` of `layers` halves the image."""
    return index in (layers // 3, 2 * layers // 3)


def edge_stride(reduction: bool, source: int) -> int:
    """2 on the edges of a reduction cell that leave its two inputs, else 1."""
    return 2 if reduction and source < 2 else 1


def weight_shapes(
    *, in_channels: int, num_classes: int, init_channels: int, layers: int
) -> dict[str, Any]:
    """The tree of `init` with a shape (a tuple) in place of each array."""
    stem = STEM_MULTIPLIER * init_channels
    plans = cell_plans(init_channels, layers)
    features = NODES * plans[-1].channels
    return {
        "stem": {"conv": (stem, in_channels, 3, 3), "bn_scale": (stem,), "bn_bias": (stem,)},
        "cells": [_cell_shapes(plan) for plan in plans],
        "classifier": {"weight": (num_classes, features), "bias": (num_classes,)},
    }


def _cell_shapes(plan: CellPlan) -> dict[str, Any]:
    first, second = plan.inputs
    if plan.previous_reduction:
        preprocess0 = _factorized_reduce_shapes(first, plan.channels)
    else:
        preprocess0 = {"conv": (plan.channels, first, 1, 1)}
    return {
        "preprocess0": preprocess0,
        "preprocess1": {"conv": (plan.channels, second, 1, 1)},
        "edges": [
            _edge_shapes(plan.channels, edge_stride(plan.reduction, source)) for _, source in EDGES
        ],
    }


def _edge_shapes(channels: int, stride: int) -> dict[str, dict[str, tuple[int, ...]]]:
    """The primitives that have weights on an edge; the others have no entry."""
    pointwise = (channels, channels, 1, 1)
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    if stride == 2:
        shapes["skip_connect"] = _factorized_reduce_shapes(channels, channels)
    for size in (3, 5):
        depthwise = (channels, 1, size, size)
        shapes[f"sep_conv_{size}x{size}"] = {
            "depthwise1": depthwise,
            "pointwise1": pointwise,
            "depthwise2": depthwise,
            "pointwise2": pointwise,
        }
        shapes[f"dil_conv_{size}x{size}"] = {"depthwise": depthwise, "pointwise": pointwise}
    return shapes


def _factorized_reduce_shapes(inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    half = (outputs // 2, inputs, 1, 1)
    return {"conv1": half, "conv2": half}


def init(
    key: Array,
    *,
    in_channels: int,
    num_classes: int,
    init_channels: int,
    layers: int,
    dtype: Any = jnp.float32,
) -> dict[str, Any]:
    """Weights as PyTorch's modules draw them: U(+-1/sqrt(fan_in)), BatchNorm scale 1 and bias 0.

    Args:
      key: a random key.
      in_channels: channels of the images.
      num_classes: outputs of the classifier.
      init_channels: C before the first reduction. The stem has 3C.
      layers: number of cells, at least 1.
      dtype: of all weights; float64 needs x64.

    Returns:
      {"stem": {"conv" [3C, in, 3, 3], "bn_scale" [3C], "bn_bias" [3C]}, "cells": a dict for each
      cell with "preprocess0", "preprocess1" and "edges" (14 dicts, primitive -> its weights; those
      without weights have no entry), "classifier": {"weight" [classes, features], "bias"}}.
    """
    shapes = weight_shapes(
        in_channels=in_channels,
        num_classes=num_classes,
        init_channels=init_channels,
        layers=layers,
    )
    leaves, treedef = jax.tree.flatten(shapes, is_leaf=lambda node: isinstance(node, tuple))
    # One draw cut into pieces: a draw for each shape would compile the generator for each shape.
    sizes = [math.prod(shape) for shape in leaves]
    starts = np.cumsum([0, *sizes[:-1]])
    unit = jax.random.uniform(key, (sum(sizes),), dtype, -1.0, 1.0)
    drawn = [
        lax.dynamic_slice_in_dim(unit, start, size).reshape(shape) / math.sqrt(math.prod(shape[1:]))
        for start, size, shape in zip(starts, sizes, leaves, strict=True)
    ]
    params = jax.tree.unflatten(treedef, drawn)
    params["stem"]["bn_scale"] = jnp.ones(shapes["stem"]["bn_scale"], dtype)
    params["stem"]["bn_bias"] = jnp.zeros(shapes["stem"]["bn_bias"], dtype)
    # A bias has no inputs of its own: PyTorch bounds it by the fan-in of its layer's weight.
    params["classifier"]["bias"] /= math.sqrt(shapes["classifier"]["weight"][1])
    return params


def init_batch_stats(
    *, init_channels: int, layers: int, dtype: Any = jnp.float32
) -> dict[str, Any]:
    """Running statistics before training: {"mean": zeros [C], "var": ones [C]} a BatchNorm.

    Returns:
      The structure of `init` without the classifier: {"stem": {"bn"}, "cells": a dict for each
      cell with "preprocess0": {"bn"}, "preprocess1": {"bn"} and "edges", 14 dicts primitive ->
      {"bn"}, or {"bn1", "bn2"} for the separable convolutions. A skip has one at stride 2 only.
    """

    def fresh(channels: int) -> dict[str, Array]:
        return {"mean": jnp.zeros(channels, dtype), "var": jnp.ones(channels, dtype)}

    def edge(channels: int, stride: int) -> dict[str, Any]:
        names = [name for name in PRIMITIVES if name != "none"]
        if stride == 1:
            names.remove("skip_connect")
        stats = {name: {"bn": fresh(channels)} for name in names}
        for name in ("sep_conv_3x3", "sep_conv_5x5"):
            stats[name] = {"bn1": fresh(channels), "bn2": fresh(channels)}
        return stats

    return {
        "stem": {"bn": fresh(STEM_MULTIPLIER * init_channels)},
        "cells": [
            {
                "preprocess0": {"bn": fresh(plan.channels)},
                "preprocess1": {"bn": fresh(plan.channels)},
                "edges": [
                    edge(plan.channels, edge_stride(plan.reduction, source)) for _, source in EDGES
                ],
            }
            for plan in cell_plans(init_channels, layers)
        ],
    }


def count_parameters(params: Tree) -> int:
    """Number of weights in a tree of arrays (or of their shapes from `jax.eval_shape`)."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def count_batch_norms(batch_stats: Tree) -> tuple[int, int]:
    """(number of BatchNorms, their channels in all); each holds one mean and one variance."""
    leaves = jax.tree.leaves(batch_stats)
    return len(leaves) // 2, count_parameters(batch_stats) // 2
