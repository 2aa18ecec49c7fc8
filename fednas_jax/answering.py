"""The clients' part of a round: asked again where too few have answered."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from fednas_jax.federated import finite
from fednas_jax.federated.algorithm import ServerState
from fednas_jax.federated.faults import Answers
from fednas_jax.federated.round import RoundEngine
from fednas_jax.report import rows
from fednas_jax.turnout import Turnout


class Answered(NamedTuple):
    """What a round of clients came to."""

    state: ServerState
    """The server's next one."""
    metrics: dict[str, np.ndarray]
    """Of the clients that count, [n] by ascending id."""
    attended: rows.Row
    """Who took part, where that is not always the same."""


def ask(
    engine: RoundEngine,
    turnout: Turnout,
    state: ServerState,
    number: int,
    *,
    say: Callable[[str], None],
    refuse: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> Answered:
    """A round of clients: begun again where too few answer, at last without anybody.

    Args:
      engine: that runs them.
      turnout: who takes part.
      state: the server's.
      number: of the round.
      say: takes a line for people, of clients that are left out.
      refuse: called with a fault of clients that are not; raises unless it is "".
      progress: as of `RoundEngine.run`.
    """
    for attempt in range(turnout.tries):
        present = turnout.answers(number, attempt)
        if len(present.ids) < turnout.least:
            continue
        key = turnout.key(number, attempt)
        after, clients = _compute(engine, turnout, present, state, number, key, progress)
        good = clients["finite"]
        left_out = clients["id"][~good].tolist() if turnout.leaves_out else []
        if left_out:
            say(f"round {number}: {finite.clients_fault(clients)}; left out")
        else:
            refuse(finite.clients_fault(clients))
        if len(present.ids) - len(left_out) >= turnout.least:
            counted = {name: values[good] for name, values in clients.items()}
            return Answered(after, counted, turnout.row(present, attempt + 1, left_out))
    nobody, key = turnout.nobody(present), turnout.key(number)
    after, clients = _compute(engine, turnout, nobody, state, number, key, progress)
    return Answered(after, clients, turnout.row(nobody, 0, []))


def _compute(
    engine: RoundEngine,
    turnout: Turnout,
    present: Answers,
    state: ServerState,
    number: int,
    key: jax.Array,
    progress: Callable[[int, int], None],
) -> tuple[ServerState, dict[str, np.ndarray]]:
    """What these clients make of the server's state, and their metrics, by ascending id."""
    cohort = turnout.cohort(present, number, engine.clients_per_chunk)
    after, metrics = engine.run(state, cohort, jax.random.fold_in(key, 1), progress)
    named = [rows.client_metrics(m, cohort.ids) for m in metrics]
    good = [part["finite"] for part in named if "finite" in part]
    return after, named[0] | {"finite": np.logical_and.reduce(good)}
