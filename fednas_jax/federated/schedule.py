"""How a round goes: which clients compute, from which of the server's states, and when.

Synchronous rounds wait for the clients that were asked. Asynchronous rounds are another schedule:
`RoundEngine.collect` computes clients from a state that may be an old one, `RoundEngine.apply` lets
the server use what they have sent, and what is under way is kept in the server state.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from fednas_jax.federated import cohort as cohorts
from fednas_jax.federated import finite
from fednas_jax.federated.algorithm import ServerState, Tree
from fednas_jax.federated.faults import Participants
from fednas_jax.federated.participation import Participation
from fednas_jax.federated.round import RoundEngine
from fednas_jax.runtime.errors import UserError, listed

_NEEDED = ("weight", "local_steps", "finite")
"""Metrics of the first phase that a run is recorded by."""

SCHEDULE = "schedule"
"""Field of the server state with what a schedule keeps, where it keeps something."""


class Service(NamedTuple):
    """What a schedule works with."""

    engine: RoundEngine
    participation: Participation
    """Who takes part in which round."""
    say: Callable[[str], None]
    """Takes a line for people, of clients that are left out."""
    refuse: Callable[[str], None]
    """Takes a fault of clients that are not left out; raises unless it is ""."""
    progress: Callable[[int, int], None]
    """As of `RoundEngine.run`."""


class ClientRound(NamedTuple):
    """What a round of clients came to."""

    state: ServerState
    """The server's next one."""
    metrics: dict[str, np.ndarray]
    """Of the clients that count, [n] by ascending id."""
    attended: dict[str, Any]
    """Who took part, where that is not always the same: further columns of the round's row."""


class Schedule(NamedTuple):
    """A way of going through rounds."""

    name: str
    round: Callable[[Service, ServerState, int], ClientRound]
    """(service, the server's state, number of the round from 1) -> what it came to."""
    init: Callable[[ServerState], Tree] | None = None
    """The first state -> what the schedule keeps from round to round, in the state's field
    `SCHEDULE`; its `round` replaces it there. Kept in checkpoints."""


def _wait_for_all(service: Service, state: ServerState, number: int) -> ClientRound:
    """A round of clients: begun again where too few answer, at last without anybody."""
    participation = service.participation
    for attempt in range(participation.tries):
        present = participation.participants(number, attempt)
        if len(present.ids) < participation.least:
            continue
        key = participation.key(number, attempt)
        after, clients = _compute(service, present, state, number, key)
        good = clients["finite"]
        left_out = clients["id"][~good].tolist() if participation.leaves_out else []
        if left_out:
            service.say(f"round {number}: {finite.clients_fault(clients)}; left out")
        else:
            service.refuse(finite.clients_fault(clients))
        if len(present.ids) - len(left_out) >= participation.least:
            counted = {name: values[good] for name, values in clients.items()}
            return ClientRound(after, counted, participation.row(present, attempt + 1, left_out))
    nobody, key = participation.nobody(present), participation.key(number)
    after, clients = _compute(service, nobody, state, number, key)
    return ClientRound(after, clients, participation.row(nobody, 0, []))


def _compute(
    service: Service, present: Participants, state: ServerState, number: int, key: jax.Array
) -> tuple[ServerState, dict[str, np.ndarray]]:
    """What these clients make of the server's state, and their metrics, by ascending id."""
    engine = service.engine
    cohort = service.participation.cohort(present, number, engine.clients_per_chunk)
    after, metrics = engine.run(state, cohort, jax.random.fold_in(key, 1), service.progress)
    named = [cohorts.client_metrics(m, cohort.ids) for m in metrics]
    if lacking := [name for name in _NEEDED if name not in named[0]]:
        raise UserError(
            f"config.algorithm: its clients' metrics lack {listed(lacking)}; a ClientUpdate of the "
            f"first phase needs {listed(_NEEDED)}, as weighted_update gives them"
        )
    good = [part["finite"] for part in named if "finite" in part]
    return after, named[0] | {"finite": np.logical_and.reduce(good)}


SYNCHRONOUS = Schedule("synchronous", _wait_for_all)
"""The server waits for the clients that it asked, then takes its step."""
