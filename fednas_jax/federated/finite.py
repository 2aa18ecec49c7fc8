"""Checks that a round's numbers are finite: others would spread to all clients in the next
round."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fednas_jax.federated import carried
from fednas_jax.federated.evaluation import Score


def clients_fault(clients: Mapping[str, np.ndarray], names: Sequence[str] = ()) -> str:
    """A message that names the clients whose loss or weights are not finite; "" where there are
    none.

    Args:
      clients: "id" and "finite", [clients] each.
      names: the name of each client; () where data have no names.
    """
    bad = clients["id"][~clients["finite"]]
    return f"loss or weights of client {_listed(bad, names)} are not finite" if len(bad) else ""


def server_fault(
    state: Any,
    held_out: Sequence[Score],
    sizes: Sequence[int],
    test: Score | None,
    names: Sequence[str] = (),
) -> str:
    """A message about values in the server's new state or scores that are not finite; or "".

    Args:
      state: a tree of arrays.
      held_out: scores on the held-out examples of each client.
      sizes: number of held-out examples of each client; without any, a score of nan is no fault.
      test: score on the test set; None where it was not scored or has no examples.
      names: the name of each client; () where data have no names.
    """
    bad = [i for i, n in enumerate(sizes) if n and not np.isfinite(held_out[i]).all()]
    if bad:
        return (
            "the averaged network's loss on held-out examples of client "
            f"{_listed(bad, names)} is not finite"
        )
    if test is not None and not np.isfinite(test).all():
        return "the averaged network's loss on the test set is not finite"
    # What clients and transforms keep may be infinite, such as the best loss so far.
    own = jax.device_get(carried.original(state))
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(own)):
        return "averaged weights are not finite"
    return ""


def _listed(ids: Sequence[int] | np.ndarray, names: Sequence[str]) -> str:
    return ", ".join(f"{k} ({names[k]!r})" if names else f"{k}" for k in ids)
