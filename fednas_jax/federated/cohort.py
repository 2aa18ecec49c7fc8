"""Who takes part in a round, and who shares a chunk."""

from typing import NamedTuple

import jax
import numpy as np

NOBODY = -1
"""Id of an empty place in a chunk."""


class Cohort(NamedTuple):
    """The clients of a round in chunks of equal length."""

    ids: np.ndarray
    """[chunks, clients a chunk] int32; `NOBODY` where a place is empty."""
    steps: np.ndarray
    """[chunks] int32: local steps an epoch of the chunk's longest client, which all walk
    through."""

    def padding_share(self, local_steps: np.ndarray) -> float:
        """Share of the steps computed that belong to no client.

        Args:
          local_steps: [K] local steps an epoch of every client of the population.
        """
        computed = int(self.steps.sum()) * self.ids.shape[1]
        wanted = int(local_steps[self.ids[self.ids >= 0]].sum())
        return 1 - wanted / computed if computed else 0.0


def sample(key: jax.Array, num_clients: int, clients_per_round: int) -> np.ndarray:
    """The ids that take part: all, or a uniform sample without replacement.

    Args:
      key: of the round.
      num_clients: K.
      clients_per_round: how many; 0 for all.

    Returns:
      Ascending ids, int32.
    """
    if clients_per_round in (0, num_clients):
        return np.arange(num_clients, dtype=np.int32)
    rng = np.random.RandomState(np.asarray(jax.random.bits(key, (4,), "uint32")))
    if clients_per_round > num_clients // 2:
        return np.sort(rng.permutation(num_clients)[:clients_per_round]).astype(np.int32)
    # The first distinct ones of a stream of draws: a permutation of 10,000 takes 6 ms on a CPU, as
    # long as some rounds, and this takes as long for few clients out of many as out of few.
    chosen: dict[int, None] = {}
    while len(chosen) < clients_per_round:
        chosen |= dict.fromkeys(rng.randint(0, num_clients, clients_per_round).tolist())
    return np.sort(np.array(list(chosen)[:clients_per_round], np.int32))


def in_chunks(ids: np.ndarray, local_steps: np.ndarray, clients_per_chunk: int) -> Cohort:
    """Groups clients of like size, the longest first, since a chunk takes as long as its longest.

    Args:
      ids: who takes part.
      local_steps: [K] local steps an epoch of every client of the population.
      clients_per_chunk: places in a chunk.
    """
    order = ids[np.lexsort((ids, -local_steps[ids]))]
    chunks = -(-len(order) // clients_per_chunk)
    places = np.full(chunks * clients_per_chunk, NOBODY, np.int32)
    places[: len(order)] = order
    table = places.reshape(chunks, clients_per_chunk)
    # The first of a chunk is its longest; the first place is never empty.
    return Cohort(table, local_steps[table[:, 0]].astype(np.int32))
