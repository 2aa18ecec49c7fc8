"""How many clients to compute side by side: what fits, or what measures fastest."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from fednas_jax.federated import memory
from fednas_jax.federated.cohort import Cohort, in_chunks
from fednas_jax.federated.round import RoundEngine, ServerState

STEPS = 2
"""Local steps an epoch that a candidate is timed for."""


class Choice(NamedTuple):
    """An engine, and how it was chosen."""

    engine: RoundEngine
    round_seconds: dict[str, float]
    """By clients a chunk, what a round's local steps would take; empty where none was timed."""


def fitting(build: Callable[[int], RoundEngine], state: ServerState, cohort: Cohort) -> Choice:
    """As many clients side by side as the device's memory holds; one on a CPU.

    Args:
      build: makes an engine of so many clients a chunk.
      state: the server's.
      cohort: of a round, in chunks of one.
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
) -> Choice:
    """The fastest of 1, 2, 4, ... clients side by side, as far as the memory goes.

    Each candidate computes a few local steps of the largest clients. A round is as many of these as
    its chunks have in all, padding included. The first candidate that is slower than the one before
    ends the search, since each takes a compilation.

    Args:
      build: makes an engine of so many clients a chunk.
      state: the server's.
      ids: of a round's clients.
      local_steps: [K] local steps an epoch of every client of the population.
      say: is told of each candidate.
    """
    best = build(1)
    seconds = {"1": _round_seconds(best, state, in_chunks(ids, local_steps, 1))}
    say(f"1 client at a time: {seconds['1']:.3g} s a round")
    most = min(len(ids), _that_fit(best, state, in_chunks(ids, local_steps, 1)))
    count = 2
    while count <= most:
        candidate = build(count)
        now = _round_seconds(candidate, state, in_chunks(ids, local_steps, count))
        seconds[str(count)] = now
        say(f"{count} clients at a time: {now:.3g} s a round")
        if now > seconds[str(best.clients_per_chunk)]:
            break
        best, count = candidate, 2 * count
    return Choice(best, seconds)


def _that_fit(single: RoundEngine, state: ServerState, cohort: Cohort) -> int:
    needed = single.temporary_bytes(state, cohort)
    free = memory.free_bytes(jax.local_devices()[0])
    return memory.clients_that_fit(needed, free, len(cohort.ids))


def _round_seconds(engine: RoundEngine, state: ServerState, cohort: Cohort) -> float:
    """The local steps of a round, from the time of a few steps of its first, largest chunk."""
    steps = np.minimum(cohort.steps, STEPS)
    if not steps[0]:
        return 0.0
    seconds = engine.seconds_of_a_chunk(state, cohort._replace(steps=steps))
    return seconds / int(steps[0]) * int(cohort.steps.sum())
