"""The network of a genotype with the weights that its operations had in the supernet.

The step after search that FedNAS (He et al., 2020, appendix C) leaves to future work: go on from
the search's weights instead of from scratch. What both have is taken over: stem, preprocessing, the
convolutions and strided skips that the genotype keeps, the classifier, and all running moments.

Where every alpha is one-hot, an edge that the genotype leaves out on `none`, both networks are the
same function, but for pools: the supernet normalises what they yield and the network does not. The
scales and biases that the network learns after its convolutions, and the supernet has not, start
at 1 and 0; an auxiliary head has no counterpart and starts afresh.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fednas_jax.nn.sources import SOURCE_MAJOR
from fednas_jax.nn.space import EDGES
from fednas_jax.search.genotype import Genotype

Tree = Any

Variables = dict[str, dict[str, Any]]
"""`params` and `batch_stats`, each by cell and layer."""


def inherit(supernet: Mapping[str, Any], genotype: Genotype) -> Variables:
    """What a genotype's network takes over from a supernet of as many cells and channels.

    Args:
      supernet: its variables: `params` and `batch_stats`.
      genotype: of the network, any of the space.

    Returns:
      `params` and `batch_stats` of `nn.network.Network`, without what the supernet does not have.
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
    """What an operation of the network takes over from an edge of the mixed cell."""
    at = SOURCE_MAJOR.index(EDGES.index((node, source)))

    def moments_of(name: str) -> Tree:
        return {statistic: values[at] for statistic, values in moments[name].items()}

    if operation == "skip_connect" and reduction and source < 2:
        found = _pointwise_norm(weights[operation][at], moments_of(operation))
        return {collection: {"reduce": tree} for collection, tree in found.items()}
    if "conv" not in operation:
        return {}  # an identity or a pool: nothing is learnt
    # The supernet counts from 1, and has no number where there is one of a kind.
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
    """A 1 x 1 convolution, or the two of a factorised reduction, and its BatchNorm's moments."""
    if weight.ndim == 2:
        params = {"conv": _pointwise(weight)}
    else:
        params = {f"conv{i}": _pointwise(half) for i, half in enumerate(weight)}
    return {"params": params, "batch_stats": {"norm": dict(moments)}}


def _pointwise(weight: np.ndarray) -> Tree:
    """[out, in] -> a kernel [1, 1, in, out]."""
    return {"kernel": weight.T[None, None]}


def merged(fresh: Tree, taken: Tree, where: str = "") -> Tree:
    """`fresh` with the leaves of `taken` in their places.

    Raises:
      ValueError: `taken` has a leaf that `fresh` does not have, or has in another shape.
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
