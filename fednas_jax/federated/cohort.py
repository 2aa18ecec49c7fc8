"""Who takes part in a round, and who shares a chunk."""

import heapq
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

NOBODY = -1
"""Id of an empty place in a chunk."""

LOCAL_EPOCHS = "local_epochs"
"""Fact of a client: how many local epochs it makes in this round."""

STEP_LIMIT = "step_limit"
"""Fact of a client: its local steps in this round, over all its epochs."""


class Cohort(NamedTuple):
    """The clients of a round in chunks of equal length; each rank's chunks behind another's."""

    ids: np.ndarray
    """[chunks, clients a chunk] int32; `NOBODY` where a place is empty."""
    steps: np.ndarray
    """[chunks] int32: local steps an epoch of the chunk's longest client, which all walk
    through."""
    round: np.ndarray | np.int32 = np.int32(1)
    """Of the run, from 1."""
    facts: dict[str, np.ndarray] = {}  # noqa: RUF012  # of a tuple, never changed
    """Of each client in this round, by name, [chunks, clients a chunk] int32: `LOCAL_EPOCHS` where
    not all make the same number; `STEP_LIMIT` where the last epoch may be cut short."""
    groups: np.ndarray | None = None
    """[chunks] int32: the group of a chunk's clients, 0 where there are none; None where the
    algorithm groups by nothing."""
    first_chunk: np.int32 = np.int32(0)
    """Number of its first chunk among those of all ranks."""

    def of_rank(self, rank: int, ranks: int) -> "Cohort":
        """One rank's chunks, of as many on each.

        Args:
          rank: from 0.
          ranks: how many the cohort was made for.
        """
        chunks = len(self.ids) // ranks
        mine = slice(rank * chunks, (rank + 1) * chunks)
        facts = {name: values[mine] for name, values in self.facts.items()}
        groups = None if self.groups is None else self.groups[mine]
        first = np.int32(rank * chunks)
        return Cohort(self.ids[mine], self.steps[mine], self.round, facts, groups, first)

    def chunks_with_clients(self) -> int:
        """How many chunks there are up to the last in which there is anybody."""
        present = np.flatnonzero((self.ids != NOBODY).any(axis=1))
        return int(present[-1]) + 1 if len(present) else 0

    def local_steps(self, local_steps: np.ndarray, local_epochs: int) -> int:
        """Local steps that its clients make in all.

        Args:
          local_steps: [K] an epoch, of every client of the population.
          local_epochs: of each client, where they make the same.
        """
        if STEP_LIMIT in self.facts:
            return int(self.facts[STEP_LIMIT].sum())
        epochs = self.facts.get(LOCAL_EPOCHS, local_epochs)
        return int((np.where(self.ids >= 0, local_steps[self.ids], 0) * epochs).sum())

    def padding_share(self, local_steps: np.ndarray) -> float:
        """Share of the steps computed that belong to no client.

        Args:
          local_steps: [K] local steps an epoch of every client of the population.
        """
        present = self.ids >= 0
        epochs = np.where(present, self.facts.get(LOCAL_EPOCHS, 1), 0)
        computed = int((self.steps * epochs.max(axis=1, initial=0)).sum()) * self.ids.shape[1]
        whole = np.where(present, local_steps[self.ids], 0) * epochs
        wanted = int(self.facts.get(STEP_LIMIT, whole).sum())
        return 1 - wanted / computed if computed else 0.0


class Attendance(NamedTuple):
    """Who of the clients drawn for a round takes part in it, and for how long."""

    ids: np.ndarray
    """[n] int32, ascending."""
    epochs: np.ndarray | None
    """[n] int32: local epochs of each; None where all make the same."""
    unreachable: int
    """How many of those drawn are not reached."""
    stragglers: int
    """How many of those reached do not make all local epochs in time."""


def size(num_clients: int, clients_per_round: int, clients_fraction: float) -> int:
    """Clients drawn for a round: so many, or McMahan's C times all, at least one.

    Args:
      num_clients: K.
      clients_per_round: 0 where the fraction says it.
      clients_fraction: C.
    """
    return clients_per_round or max(1, round(clients_fraction * num_clients))


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
    rng = host_rng(key)
    if clients_per_round > num_clients // 2:
        return np.sort(rng.permutation(num_clients)[:clients_per_round]).astype(np.int32)
    # The first distinct ones of a stream of draws: a permutation of 10,000 takes 6 ms on a CPU, as
    # long as some rounds, and this takes as long for few clients out of many as out of few.
    chosen: dict[int, None] = {}
    while len(chosen) < clients_per_round:
        chosen |= dict.fromkeys(rng.randint(0, num_clients, clients_per_round).tolist())
    return np.sort(np.array(list(chosen)[:clients_per_round], np.int32))


def attend(
    key: jax.Array,
    ids: np.ndarray,
    local_epochs: int,
    *,
    unreachable_share: float = 0.0,
    stragglers_share: float = 0.0,
    stragglers: str = "keep",
) -> Attendance:
    """Draws who is not reached, and who is slow, each client for itself.

    The stragglers are those of Li et al. (Federated Optimization in Heterogeneous Networks, MLSys
    2020, arXiv:1812.06127): they make any number of local epochs but all. There, exactly a share of
    those drawn are slow, and draw from 1 to E epochs; here each is slow by chance, as in Flower's
    baseline, and draws from 1 to E - 1.

    Args:
      key: of the round, as for `sample`.
      ids: who was drawn.
      local_epochs: E.
      unreachable_share: probability that a client is not reached.
      stragglers_share: probability that a client that is reached is slow.
      stragglers: `keep` what they come to, or `drop` them, as FedAvg does in that paper.
    """
    if not unreachable_share and not stragglers_share:
        return Attendance(ids, None, 0, 0)
    rng = host_rng(jax.random.fold_in(key, 1))
    reached = rng.random_sample(len(ids)) >= unreachable_share
    slow = (rng.random_sample(len(ids)) < stragglers_share) & reached
    fewer = rng.randint(1, max(2, local_epochs), len(ids))
    counts = int((~reached).sum()), int(slow.sum())
    if stragglers == "drop" or not stragglers_share:
        return Attendance(ids[reached & ~slow], None, *counts)
    epochs = np.where(slow, fewer, local_epochs).astype(np.int32)
    return Attendance(ids[reached], epochs[reached], *counts)


def deal(ids: np.ndarray, work: np.ndarray, ranks: int) -> list[np.ndarray]:
    """Deals clients to ranks, the longest first, each to the rank with the least work so far.

    The busiest rank has at most 4/3 - 1/(3 ranks) of the work that it would have at best (Graham,
    Bounds on Multiprocessing Timing Anomalies, SIAM J. Appl. Math. 17(2), 1969, Theorem 3).

    Args:
      ids: who takes part.
      work: local steps of each in `ids`.
      ranks: how many.

    Returns:
      For each rank the places in `ids` that it gets; nothing random: of equal clients the lower id
      comes first, of equal ranks the lower rank.
    """
    shares: list[list[int]] = [[] for _ in range(ranks)]
    loads = [(0, rank) for rank in range(ranks)]
    for place in np.lexsort((ids, -work)).tolist():
        load, rank = loads[0]
        shares[rank].append(place)
        heapq.heapreplace(loads, (load + int(work[place]), rank))
    return [np.array(share, np.int64) for share in shares]


def in_chunks(
    ids: np.ndarray,
    local_steps: np.ndarray,
    clients_per_chunk: int,
    round: int = 1,
    *,
    facts: Mapping[str, np.ndarray] = MappingProxyType({}),
    places: int = 0,
    ranks: int = 1,
    groups: np.ndarray | None = None,
) -> Cohort:
    """Puts clients of like size together, the longest first: a chunk takes as long as its longest.

    Args:
      ids: who takes part.
      local_steps: [K] local steps an epoch of every client of the population.
      clients_per_chunk: places in a chunk.
      round: of the run, from 1.
      facts: of each in `ids`, by name, as of `Cohort`.
      places: for how many there is room at least: rounds of one shape need one program.
      ranks: how many they are dealt to. Each has room for all, since of unlike clients one rank may
        get the longest and another all others; chunks of nobody are not computed.
      groups: [K] int32 of every client of the population: those of a chunk are of one group. There
        is room for a cohort however its clients are spread over the groups.
    """
    work = facts.get(STEP_LIMIT, local_steps[ids] * facts.get(LOCAL_EPOCHS, 1))
    shares = [np.lexsort((ids, -work))] if ranks == 1 else deal(ids, work, ranks)
    chunks = -(-max(places, len(ids)) // clients_per_chunk)
    if groups is not None:
        chunks += len(np.unique(groups)) - 1
        shares = [_apart(share, groups[ids[share]], clients_per_chunk) for share in shares]

    def table(values: np.ndarray, empty: int) -> np.ndarray:
        filled = np.full((ranks, chunks * clients_per_chunk), empty, np.int32)
        for row, share in zip(filled, shares, strict=True):
            row[: len(share)] = np.where(share < 0, empty, values[share])
        return filled.reshape(ranks * chunks, clients_per_chunk)

    return Cohort(
        table(ids, NOBODY),
        table(local_steps[ids], 0).max(axis=1, initial=0),
        np.int32(round),
        {name: table(values, 0) for name, values in facts.items()},
        None if groups is None else table(groups[ids], 0).max(axis=1, initial=0),
    )


def _apart(share: np.ndarray, groups: np.ndarray, clients_per_chunk: int) -> np.ndarray:
    """Places of clients with empty ones, -1, between them, so that no chunk mixes groups.

    Args:
      share: [n] places in a list of clients, in order.
      groups: [n] of each.
      clients_per_chunk: places in a chunk.
    """
    parts = []
    for group in np.unique(groups):
        of_group = share[groups == group]
        empty = -len(of_group) % clients_per_chunk
        parts += [of_group, np.full(empty, -1, share.dtype)]
    return np.concatenate(parts) if parts else share


def client_metrics(metrics: Mapping[str, Any], ids: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics of the clients that took part, by ascending id.

    Args:
      metrics: name -> [chunks, clients a chunk], as the engine returns them.
      ids: [chunks, clients a chunk], who they are of.

    Returns:
      name -> [clients], and "id".
    """
    present = ids != NOBODY
    order = np.argsort(ids[present])
    named = {name: np.asarray(value)[present][order] for name, value in metrics.items()}
    return {"id": ids[present][order], **named}


def host_rng(key: jax.Array) -> np.random.RandomState:
    """A generator for draws on the host that follow from a key."""
    return np.random.RandomState(np.asarray(jax.random.bits(key, (4,), "uint32")))
