"""Cohorts: which clients take part in a round, and which share a chunk."""

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
    """The clients of a round in chunks of equal length, ordered by rank."""

    ids: np.ndarray
    """[chunks, clients a chunk] int32; `NOBODY` in an empty place."""
    steps: np.ndarray
    """[chunks] int32: local steps an epoch of the chunk's longest client; all its clients go
    through as many."""
    round: np.ndarray | np.int32 = np.int32(1)
    """Number of the round in the run, from 1."""
    facts: dict[str, np.ndarray] = {}  # noqa: RUF012  # of a tuple, never changed
    """Facts of each client in this round, by name, [chunks, clients a chunk] int32: `LOCAL_EPOCHS`
    if clients make unequal numbers; `STEP_LIMIT` if the last epoch may be cut short."""
    groups: np.ndarray | None = None
    """[chunks] int32: the group of a chunk's clients, 0 for a chunk without clients; None if the
    algorithm has no groups."""
    first_chunk: np.int32 = np.int32(0)
    """Number of this cohort's first chunk among the chunks of all ranks."""

    def of_rank(self, rank: int, ranks: int) -> "Cohort":
        """One rank's chunks; every rank has the same number.

        Args:
          rank: from 0.
          ranks: how many ranks the cohort was made for.
        """
        chunks = len(self.ids) // ranks
        mine = slice(rank * chunks, (rank + 1) * chunks)
        facts = {name: values[mine] for name, values in self.facts.items()}
        groups = None if self.groups is None else self.groups[mine]
        first = np.int32(rank * chunks)
        return Cohort(self.ids[mine], self.steps[mine], self.round, facts, groups, first)

    def chunks_with_clients(self) -> int:
        """The number of chunks up to the last that has a client."""
        present = np.flatnonzero((self.ids != NOBODY).any(axis=1))
        return int(present[-1]) + 1 if len(present) else 0

    def local_steps(self, local_steps: np.ndarray, local_epochs: int) -> int:
        """The sum of the local steps of its clients.

        Args:
          local_steps: [K] local steps an epoch of every client of the population.
          local_epochs: local epochs of each client, if all make the same number.
        """
        if STEP_LIMIT in self.facts:
            return int(self.facts[STEP_LIMIT].sum())
        epochs = self.facts.get(LOCAL_EPOCHS, local_epochs)
        return int((np.where(self.ids >= 0, local_steps[self.ids], 0) * epochs).sum())

    def padding_share(self, local_steps: np.ndarray) -> float:
        """The share of the computed steps that are padding: they belong to no client.

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
    """Which of the clients drawn for a round take part in it, and for how many local epochs."""

    ids: np.ndarray
    """[n] int32, ascending."""
    epochs: np.ndarray | None
    """[n] int32: local epochs of each; None if all make the same number."""
    unreachable: int
    """How many of the drawn clients are not reached."""
    stragglers: int
    """How many of the reached clients do not make all local epochs in time."""


def size(num_clients: int, clients_per_round: int, clients_fraction: float) -> int:
    """How many clients are drawn for a round; at least one.

    Args:
      num_clients: K.
      clients_per_round: the number; 0 for `clients_fraction` of all clients.
      clients_fraction: C of McMahan et al.
    """
    return clients_per_round or max(1, round(clients_fraction * num_clients))


def sample(key: jax.Array, num_clients: int, clients_per_round: int) -> np.ndarray:
    """The ids of the clients that take part: all, or a uniform sample without replacement.

    Args:
      key: the round's key.
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
    # Takes the first distinct ids of a stream of draws. A permutation of 10,000 takes 6 ms on a
    # CPU, as long as some rounds; the time of this does not grow with the number of all clients.
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
    """Draws, independently for each client, whether it is reached and whether it is slow.

    Stragglers are those of Li et al. (Federated Optimization in Heterogeneous Networks, MLSys 2020,
    arXiv:1812.06127): they make fewer than all E local epochs. In the paper a fixed share of the
    drawn clients is slow, and each of them draws 1 to E epochs. Here each client is slow with a
    probability, as in Flower's baseline, and draws 1 to E - 1 epochs.

    Args:
      key: the round's key, as for `sample`.
      ids: the drawn clients.
      local_epochs: E.
      unreachable_share: probability that a client is not reached.
      stragglers_share: probability that a reached client is slow.
      stragglers: `keep` their updates, or `drop` the clients, as FedAvg does in that paper.
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
    """Divides clients among ranks: the longest client first, to the rank with the least work.

    The busiest rank has at most 4/3 - 1/(3 ranks) times the work that it has in the best division
    (Graham, Bounds on Multiprocessing Timing Anomalies, SIAM J. Appl. Math. 17(2), 1969, Theorem
    3).

    Args:
      ids: the clients that take part.
      work: [n] local steps of each.
      ranks: how many ranks.

    Returns:
      For each rank the places in `ids` of its clients. Nothing is random: of equal clients the
      lower id comes first, of equal ranks the lower rank.
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
    """Puts clients with similar numbers of steps in one chunk, which takes as long as its longest.

    Args:
      ids: the clients that take part.
      local_steps: [K] local steps an epoch of every client of the population.
      clients_per_chunk: places in a chunk.
      round: number of the round in the run, from 1.
      facts: facts of each client in `ids`, by name, [n] each; see `Cohort.facts`.
      places: the least number of places, so that all rounds have one shape and need one program.
      ranks: how many ranks the clients are divided among. Each has places for all clients, since
        one rank may get the longest client and another all others; empty chunks are not computed.
      groups: [K] int32 group of every client of the population; a chunk has clients of one group.
        There are enough places however the clients are spread over the groups.
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
    """The places of `share` by group, with -1 between groups so that no chunk mixes them.

    Args:
      share: [n] places in a list of clients, in order.
      groups: [n] group of each.
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
      ids: [chunks, clients a chunk], the client in each place.

    Returns:
      name -> [clients], and "id".
    """
    present = ids != NOBODY
    order = np.argsort(ids[present])
    named = {name: np.asarray(value)[present][order] for name, value in metrics.items()}
    return {"id": ids[present][order], **named}


def host_rng(key: jax.Array) -> np.random.RandomState:
    """A random generator for draws on the host, seeded by a key."""
    return np.random.RandomState(np.asarray(jax.random.bits(key, (4,), "uint32")))
