"""Neighbouring normal cells of a discrete network, as one loop.

The cells are equal except for their inputs: the first ones read the stem or a reduction cell. Step
i of the loop applies cell i, whose older input has been preprocessed, and preprocesses the older
input of cell i + 1. In the last step there is no next cell, and the weights for it are zero (a few
percent of a cell's work). Maps with fewer channels are padded with zeros, which weights of zero
multiply, so that the result is exact. The compiler sees one cell instead of all. `stack.py` does
the same for the supernet.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

Tree = dict[str, Any]
"""Variables, as nested dicts: collection -> name -> ..."""
States = tuple[jax.Array, jax.Array]
"""Outputs of the two cells before a cell, the older one first; [C, H, W * B]."""


def loop_over_cells(
    cell: nn.Module,
    halve_or_not: nn.Module,
    preprocess: nn.Module,
    variables: list[Tree],
    states: States,
    out_channels: int,
    rate: jax.Array | float,
    keys: list[jax.Array | None],
    *,
    train: bool,
) -> tuple[States, list[Tree]]:
    """Applies two or more cells.

    Args:
      cell: the module of all cells, without variables.
      halve_or_not: the module that preprocesses the first cell's older input, without variables.
      preprocess: the module that preprocesses all other inputs, without variables.
      variables: the variables of each cell.
      states: the inputs of the first cell.
      out_channels: number of channels of each cell's output.
      rate: drop path rate, as in `Cell`.
      keys: random key of each cell, as in `Cell`.
      train: as in `Cell`.

    Returns:
      The inputs of the cell after the last, and each cell's `batch_stats`, empty where there are
      none.
    """

    def apply(module: nn.Module, own: Tree, *args: Any, **options: Any) -> Any:
        out, changed = module.apply(own, *args, train=train, mutable=["batch_stats"], **options)
        return out, changed.get("batch_stats", {})

    wide = max(len(states[1]), out_channels)
    older, seen_first = apply(halve_or_not, _part(variables[0], "preprocess0"), states[0])
    newer = _pad(states[1], wide, 0)
    second = [_widen(_part(own, "preprocess1"), wide) for own in variables]
    following = [_widen(_part(own, "preprocess0"), wide) for own in variables[1:]]
    following.append(jax.tree.map(jnp.zeros_like, following[-1]))
    operations = [_without_preprocessing(own) for own in variables]

    def step(carry: Any, own: Any) -> Any:
        older, newer, _ = carry
        inside, before, before_next, key = own
        x, seen1 = apply(preprocess, before, newer)
        out, seen = apply(cell, inside, older, x, rate, key, preprocessed=True)
        next_older, seen0 = apply(preprocess, before_next, newer)
        return (next_older, _pad(out, wide, 0), newer), (seen, seen1, seen0)

    stacked = tuple(_stack(trees) for trees in (operations, second, following))
    stacked_keys = None if keys[0] is None else _stack(keys)
    # The cell after the last needs the raw newer input of the last step.
    carry, (seen, seen1, seen0) = lax.scan(step, (older, newer, newer), (*stacked, stacked_keys))
    statistics = []
    for i in range(len(variables)):
        first = seen_first if i == 0 else _take(seen0, i - 1)
        own = {**_take(seen, i), "preprocess0": first, "preprocess1": _take(seen1, i)}
        statistics.append({name: tree for name, tree in own.items() if tree})
    return (carry[2][:out_channels], carry[1][:out_channels]), statistics


def _part(variables: Tree, name: str) -> Tree:
    return {kind: tree[name] for kind, tree in variables.items() if name in tree}


def _without_preprocessing(variables: Tree) -> Tree:
    return {
        kind: {name: leaf for name, leaf in tree.items() if not name.startswith("preprocess")}
        for kind, tree in variables.items()
    }


def _widen(own: Tree, channels: int) -> Tree:
    """Pads a 1 x 1 convolution [1, 1, C, D] and its normalisation to more input channels."""
    params = own["params"]
    kernel = _pad(params["conv"]["kernel"], channels, 2)
    return {**own, "params": {**params, "conv": {"kernel": kernel}}}


def _pad(x: jax.Array, size: int, axis: int) -> jax.Array:
    pads = [(0, 0)] * x.ndim
    pads[axis] = (0, size - x.shape[axis])
    return jnp.pad(x, pads) if pads[axis][1] else x


def _stack(trees: Any) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _take(tree: Any, index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], tree)
