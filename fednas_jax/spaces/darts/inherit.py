"""The network of a genotype with the weights that its operations had in the supernet.

FedNAS (He et al., 2020, appendix C) leaves this to future work: training continues from the weights
of the search instead of from scratch. Everything that both networks have is taken over: the stem,
the preprocessing, the convolutions and strided skips that the genotype keeps, the classifier, and
all running moments.

If every alpha is one-hot, with `none` on the edges that the genotype leaves out, both networks
compute the same function except for pools: the supernet normalises their outputs, the network does
not. The network's scales and biases after convolutions, which the supernet does not have, start at
1 and 0. The auxiliary head, which has no counterpart either, is initialised at random.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fednas_jax.spaces.darts.genotype import Genotype
from fednas_jax.spaces.darts.sources import SOURCE_MAJOR
from fednas_jax.spaces.darts.space import EDGES

Tree = Any

Variables = dict[str, dict[str, Any]]
"""`params` and `batch_stats`, each by cell and layer."""


def inherit(supernet: Mapping[str, Any], genotype: Genotype) -> Variables:
    """The variables of a genotype's network that come from a supernet of the same cells and
    channels.

    Args:
      supernet: `params` and `batch_stats` of the supernet.
      genotype: genotype of the network, any of the search space.

    Returns:
      `params` and `batch_stats` of `nn.network.Network`, without those that the supernet lacks.
    """
    params, stats = jax.tree.map(np.asarray, (supernet["params"], supernet["batch_stats"]))
    stem, channels = params["stem"], stats["stem"]["batch_norm"]
    in_channels = stem["kernel"].shape[1] // 9
    # [out, tap, in] -> [row, column, in, out].
    kernel = stem["kernel"].reshape(-1, 3, 3, in_channels).transpose(1, 2, 3, 0)
    taken: Variables = {
        "params": {
            "stem_conv": {"kernel": kernel},
            "stem_norm": {"scale": stem["scale"], "bias": stem["bias"]},
            "classifier": dict(params["classifier"]),
        },
        "batch_stats": {"stem_norm": dict(channels)},
    }
    for index in range(sum(name.startswith("cell_") for name in params)):
        name = f"cell_{index}"
        weights, moments = params[name], stats[name]
        strided = "skip_connect" in weights  # a reduction cell
        pairs = genotype.reduce if strided else genotype.normal
        cell = {
            f"operation{i}": _operation(weights, moments, operation, i // 2, source, strided)
            for i, (operation, source) in enumerate(pairs)
        }
        for layer in ("preprocess0", "preprocess1"):
            cell[layer] = _pointwise_norm(weights[layer], moments[layer])
        for collection, tree in taken.items():
            tree[f"cell{index}"] = {
                layer: found[collection] for layer, found in cell.items() if collection in found
            }
    return taken


def _operation(
    weights: Tree, moments: Tree, operation: str, node: int, source: int, reduction: bool
) -> Variables:
    """The variables of one operation of the network, from an edge of the mixed cell."""
    at = SOURCE_MAJOR.index(EDGES.index((node, source)))

    def moments_of(name: str) -> Tree:
        return {statistic: values[at] for statistic, values in moments[name].items()}

    if operation == "skip_connect" and reduction and source < 2:
        found = _pointwise_norm(weights[operation][at], moments_of(operation))
        return {collection: {"reduce": tree} for collection, tree in found.items()}
    if "conv" not in operation:
        return {}  # an identity or a pool, which has no weights
    # The supernet numbers convolutions from 1, and does not number one that is alone.
    numbers = ("1", "2") if operation.startswith("sep") else ("",)
    kept = [f"{operation}_middle", operation] if len(numbers) == 2 else [operation]
    params, stats = {}, {}
    for i, number in enumerate(numbers):
        depthwise = weights[f"{operation}_depthwise{number}"][at]
        params[f"depthwise{i}"] = {"kernel": depthwise.transpose(1, 2, 0)[:, :, None]}
        params[f"pointwise{i}"] = _pointwise(weights[f"{operation}_pointwise{number}"][at])
        stats[f"norm{i}"] = moments_of(kept[i])
    return {"params": {"conv": params}, "batch_stats": {"conv": stats}}


def _pointwise_norm(weight: np.ndarray, moments: Tree) -> Variables:
    """A 1 x 1 convolution or a factorised reduction, with its BatchNorm's moments."""
    if weight.ndim == 2:
        params = {"conv": _pointwise(weight)}
    else:
        params = {f"conv{i}": _pointwise(half) for i, half in enumerate(weight)}
    return {"params": params, "batch_stats": {"norm": dict(moments)}}


def _pointwise(weight: np.ndarray) -> Tree:
    """[out, in] -> a kernel [1, 1, in, out]."""
    return {"kernel": weight.T[None, None]}


def merged(fresh: Tree, taken: Tree, where: str = "") -> Tree:
    """`fresh` with its leaves replaced by those of `taken` at the same paths.

    Raises:
      ValueError: `fresh` has no leaf at a path of `taken`, or one of another shape.
    """
    if not isinstance(taken, Mapping):
        if np.shape(fresh) != np.shape(taken):
            raise ValueError(f"{where} is {list(np.shape(taken))}, not {list(np.shape(fresh))}")
        return taken
    for name in taken:
        if name not in fresh:
            raise ValueError(f"{where}/{name} has no counterpart")
    return {
        name: merged(tree, taken[name], f"{where}/{name}" if where else name)
        if name in taken
        else tree
        for name, tree in fresh.items()
    }
