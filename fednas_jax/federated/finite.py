"""Whether a round's numbers are finite: what is not would spread to every client in the next."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fednas_jax.federated.evaluation import Score


def clients_fault(clients: Mapping[str, np.ndarray]) -> str:
    """What the clients brought that is not finite, in words; "" where all is.

    Args:
      clients: "id" and "finite", [clients] each.
    """
    bad = clients["id"][~clients["finite"]]
    return f"loss or weights of client {_listed(bad)} are not finite" if len(bad) else ""


def server_fault(
    state: Any, held_out: Sequence[Score], sizes: Sequence[int], test: Score | None
) -> str:
    """What of the server's new state, or of its scores, is not finite, in words; "" where all is.

    Args:
      state: a tree of arrays.
      held_out: scores on what each client holds out.
      sizes: how many examples each holds out; the score of none is nan, and no fault.
      test: the score on the test set, if it was scored and has examples.
    """
    bad = [i for i, n in enumerate(sizes) if n and not np.isfinite(held_out[i]).all()]
    if bad:
        return f"the averaged network's loss on what client {_listed(bad)} held out is not finite"
    if test is not None and not np.isfinite(test).all():
        return "the averaged network's loss on the test set is not finite"
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(state))):
        return "averaged weights are not finite"
    return ""


def _listed(ids: Sequence[int] | np.ndarray) -> str:
    return ", ".join(map(str, ids))
