"""Chooses how many clients to compute side by side: as many as fit, or the fastest number."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np

from fednas_jax.federated.algorithm import ServerState
from fednas_jax.federated.cohort import Cohort, in_chunks
from fednas_jax.federated.round import RoundEngine
from fednas_jax.runtime import memory

STEPS = 2
"""Local steps per epoch in the first timing of a candidate."""

ENOUGH_SECONDS = 0.2
"""Minimum time of a timing. Candidates are timed for more steps until they take as long, or an
epoch is over, since the shortest steps take less time than starting a program."""

MUCH_SLOWER = 1.5
"""Factor by which a candidate must be slower than the best to end the search."""


class Choice(NamedTuple):
    """An engine, and how it was chosen."""

    engine: RoundEngine
    round_seconds: dict[str, float]
    """Seconds of a round's local steps, by clients in a chunk; empty where none was timed."""


def fitting(build: Callable[[int], RoundEngine], state: ServerState, cohort: Cohort) -> Choice:
    """Chooses as many clients side by side as the device's memory holds; one on a CPU.

    Args:
      build: makes an engine with a given number of clients in a chunk.
      state: state of the server.
      cohort: cohort of a round, in chunks of one client.
    """
    most = memory.most_side_by_side(len(cohort.ids))
    single = build(1)
    if most == 1:
        return Choice(single, {})
    most = min(most, _that_fit(single, state, cohort))
    return Choice(single if most == 1 else build(most), {})


def measured(
    build: Callable[[int], RoundEngine],
    state: ServerState,
    ids: np.ndarray,
    local_steps: np.ndarray,
    say: Callable[[str], None],
    facts: Mapping[str, np.ndarray] = MappingProxyType({}),
    groups: np.ndarray | None = None,
) -> Choice:
    """Chooses the fastest of about 1, 2, 4, ... clients side by side, within the memory.

    Each candidate is timed on a few local steps of the largest clients. The time of a round is
    estimated from the total number of steps of its chunks, including padding. The first candidate
    that is much slower than the best ends the search, since each needs a compilation.

    Args:
      build: makes an engine with a given number of clients in a chunk.
      state: state of the server.
      ids: ids of a round's clients.
      local_steps: [K] local steps per epoch of every client of the population.
      say: called with a line for each candidate.
      facts: facts of each client in `ids`, by name, as in `Cohort`.
      groups: [K] groups of all clients, as `in_chunks` takes them.
    """

    def cohort(count: int) -> Cohort:
        return in_chunks(ids, local_steps, count, facts=facts, groups=groups)

    best = build(1)
    seconds = {"1": _round_seconds(best, state, cohort(1))}
    say(f"1 client at a time: {seconds['1']:.3g} s a round")
    most = min(len(ids), _that_fit(best, state, cohort(1)))
    for count in even_sizes(len(ids), most)[1:]:
        candidate = build(count)
        now = _round_seconds(candidate, state, cohort(count))
        seconds[str(count)] = now
        say(f"{count} clients at a time: {now:.3g} s a round")
        fastest = seconds[str(best.clients_per_chunk)]
        if now > MUCH_SLOWER * fastest:
            break
        best = candidate if now < fastest else best
    return Choice(best, seconds)


def even_sizes(clients: int, most: int) -> list[int]:
    """Chunk sizes, each about twice the one before, that leave few places empty.

    For 10 clients: 1, 2, 4 (in three chunks), 5 (in two; 8 would leave six places empty), 10.

    Args:
      clients: number of clients in a round.
      most: the largest size.
    """
    sizes = [1]
    while sizes[-1] < min(clients, most):
        wanted = min(2 ** len(sizes), most)
        size = -(-clients // -(-clients // wanted))
        if size == sizes[-1]:
            break
        sizes.append(size)
    return sizes


def _that_fit(single: RoundEngine, state: ServerState, cohort: Cohort) -> int:
    needed = single.temporary_bytes(state, cohort)
    free = memory.free_bytes(jax.local_devices()[0])
    return memory.clients_that_fit(needed, free, len(cohort.ids))


def _round_seconds(engine: RoundEngine, state: ServerState, cohort: Cohort) -> float:
    """Estimates the time of a round's local steps from a few steps of its first, largest chunk."""
    if not cohort.steps[0]:
        return 0.0
    count, seconds, longest = STEPS, 0.0, int(cohort.steps[0])
    while True:
        count = min(count, longest)
        steps = np.minimum(cohort.steps, count)
        seconds = engine.seconds_of_a_chunk(state, cohort._replace(steps=steps))
        if seconds >= ENOUGH_SECONDS or count == longest:
            return seconds / count * int(cohort.steps.sum())
        count *= 4
