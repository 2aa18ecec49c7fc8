"""A few numbers from the reference's results, which distinguish correct tensors from wrong ones."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]
APART = ("params/stem/", "params/classifier/", "arch/")
"""Weights after the steps that have their own numbers; the others are combined."""


def of_gradients(computed: Arrays) -> dict[str, Any]:
    """The numbers for the result of `reference.gradients`."""
    return {
        "loss": float(computed["loss"]),
        "logits": computed["logits"].tolist(),
        "gradients": {
            name: digest(x) for name, x in sorted(computed.items()) if name.startswith("gradients/")
        },
        "batch_stats": digest(_joined(computed, "batch_stats/")),
    }


def of_search(after: Arrays, before: Arrays) -> dict[str, Any]:
    """The numbers for the changes by `reference.search`, starting from the weights `before`."""
    apart = {n: digest(x - before[n]) for n, x in sorted(after.items()) if n.startswith(APART)}
    return {
        "losses": after["losses"].tolist(),
        **apart,
        "params": digest(_joined(after, "params/") - _joined(before, "params/")),
        "batch_stats": digest(_joined(after, "batch_stats/")),
    }


def of_all(computed: Mapping[str, Arrays], before: Arrays) -> dict[str, Any]:
    """The numbers for the gradients and for each order of the search step."""
    orders = {order: of_search(x, before) for order, x in computed.items() if order != "gradients"}
    return {**of_gradients(computed["gradients"]), **orders}


def digest(x: np.ndarray) -> list[float]:
    """The norm, a sum that depends on the order of elements, and the first element."""
    flat = np.asarray(x, np.float64).ravel()
    places = np.cos(np.arange(flat.size))
    return [float(np.linalg.norm(flat)), float(flat @ places), float(flat[0])]


def _joined(leaves: Arrays, prefix: str) -> np.ndarray:
    return np.concatenate([leaves[n].ravel() for n in sorted(leaves) if n.startswith(prefix)])
