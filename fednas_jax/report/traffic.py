"""The amount of data that the clients of a run have sent, computed from its records."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from fednas_jax.federated import cohort


def sent_so_far(
    rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any], num_clients: int
) -> list[int]:
    """Bytes that all clients together have sent to the server after each round.

    A client that is not selected for a round, or does not take part in it, sends nothing.

    Args:
      rows: rows of metrics.jsonl.
      config: config of the run, as in run.json.
      num_clients: number of clients of the partition.

    Returns:
      A number of bytes for each row.
    """
    drawn = cohort.size(
        num_clients, config.get("clients_per_round", 0), config.get("clients_fraction", 1.0)
    )
    each = (row.get("clients", drawn) * (row.get("bytes_up_per_client") or 0) for row in rows)
    return list(itertools.accumulate(each))
