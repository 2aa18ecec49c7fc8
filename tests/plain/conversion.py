"""Turns trees of the plain supernet (a module for each edge) into those of the package.

Works on weights, on their gradients and on running moments alike: it only stacks and renames, in
numpy, since eagerly JAX would compile a program for each of the many shapes. Pools
whose edges share a source have equal moments there, of which the package keeps one.
"""

from typing import Any

import numpy as np

from fednas_jax.spaces.darts.sources import SOURCE_MAJOR, SOURCES
from fednas_jax.spaces.darts.space import EDGES
from tests.plain.supernet import Tree

INPUT_EDGES = [edge for edge in SOURCE_MAJOR if EDGES[edge][1] < 2]
EDGE_OF_SOURCE = [
    next(e for e in SOURCE_MAJOR if EDGES[e][1] == source) for source in range(SOURCES)
]


def params_from_plain(plain: Tree) -> Tree:
    """The package's `params` from the plain ones."""
    stem, classifier = plain["stem"], plain["classifier"]
    conv = stem["conv"]
    tree = {
        "stem": {
            # Patches are [kernel row, kernel column, channel]; PyTorch's kernels are channel first.
            "kernel": np.transpose(conv, (0, 2, 3, 1)).reshape(conv.shape[0], -1),
            "scale": stem["bn_scale"],
            "bias": stem["bn_bias"],
        },
        "classifier": {"kernel": classifier["weight"].T, "bias": classifier["bias"]},
    }
    for layer, cell in enumerate(plain["cells"]):
        tree[f"cell_{layer}"] = _cell_params(cell)
    return tree


def _reduce(weights: Tree) -> Any:
    return np.stack([weights["conv1"][:, :, 0, 0], weights["conv2"][:, :, 0, 0]])


def _cell_params(cell: Tree) -> Tree:
    tree = {}
    for name in ("preprocess0", "preprocess1"):
        weights = cell[name]
        tree[name] = weights["conv"][:, :, 0, 0] if "conv" in weights else _reduce(weights)
    edges = cell["edges"]
    for name, parts in edges[SOURCE_MAJOR[0]].items():
        if name == "skip_connect":
            tree[name] = np.stack([_reduce(edges[e][name]) for e in INPUT_EDGES])
            continue
        for part in parts:
            leaves = [edges[e][name][part] for e in SOURCE_MAJOR]
            cut = [w[:, 0] if part.startswith("depthwise") else w[:, :, 0, 0] for w in leaves]
            tree[f"{name}_{part}"] = np.stack(cut)
    return tree


def batch_stats_from_plain(plain: Tree) -> Tree:
    """The package's `batch_stats` from the plain ones."""
    tree = {"stem": {"batch_norm": plain["stem"]["bn"]}}
    for layer, cell in enumerate(plain["cells"]):
        edges = cell["edges"]
        out = {name: cell[name]["bn"] for name in ("preprocess0", "preprocess1")}
        for name in ("max_pool_3x3", "avg_pool_3x3"):
            out[name] = _stack([edges[e][name]["bn"] for e in EDGE_OF_SOURCE])
        for size in (3, 5):
            sep, dil = f"sep_conv_{size}x{size}", f"dil_conv_{size}x{size}"
            out[f"{sep}_middle"] = _stack([edges[e][sep]["bn1"] for e in SOURCE_MAJOR])
            out[sep] = _stack([edges[e][sep]["bn2"] for e in SOURCE_MAJOR])
            out[dil] = _stack([edges[e][dil]["bn"] for e in SOURCE_MAJOR])
        if "skip_connect" in edges[0]:
            out["skip_connect"] = _stack([edges[e]["skip_connect"]["bn"] for e in INPUT_EDGES])
        tree[f"cell_{layer}"] = out
    return tree


def _stack(entries: list[Tree]) -> Tree:
    return {key: np.stack([entry[key] for entry in entries]) for key in ("mean", "var")}


def cell_weights(params: Tree) -> Tree:
    """The weights of one cell by primitive, as the package's functions take them.

    Args:
      params: a cell's entry of `params_from_plain`.
    """
    weights: Tree = {}
    for name, leaf in params.items():
        primitive, _, part = name.rpartition("_")
        if part.startswith(("depthwise", "pointwise")):
            weights.setdefault(primitive, {})[part] = leaf
        else:
            weights[name] = leaf
    return weights
