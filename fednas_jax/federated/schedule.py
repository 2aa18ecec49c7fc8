"""Schedules: which clients compute in a round, from which server state, and when.

In a synchronous round the server waits for all clients that it has chosen. Asynchronous rounds need
a schedule of their own: `RoundEngine.collect` computes clients from a state that may be an old one,
`RoundEngine.apply` lets the server use their updates, and the server state has those under way.
"""

from collections.abc import Callable, Sequence
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
"""Metrics of the first phase that every run records."""

SCHEDULE = "schedule"
"""Field of the server state with the schedule's own state, if it has any."""


class Service(NamedTuple):
    """What a run offers to a schedule."""

    engine: RoundEngine
    participation: Participation
    """Which clients take part in which round."""
    say: Callable[[str], None]
    """Prints a line, such as one about clients whose updates are discarded."""
    refuse: Callable[[str], None]
    """Stops the run with this description of a fault; "" means that there is none."""
    progress: Callable[[int, int], None]
    """Called with (chunks done, chunks in all), as by `RoundEngine.run`."""
    client_names: Sequence[str] = ()
    """The name of each client; () where data have no names."""


class ClientRound(NamedTuple):
    """The result of a round of clients."""

    state: ServerState
    """The next server state."""
    metrics: dict[str, np.ndarray]
    """Metrics of the clients whose updates count, by name, [n] each by ascending id."""
    attended: dict[str, Any]
    """Further columns of the round's row: how many clients took part, if that can vary."""


class Schedule(NamedTuple):
    """A way to run rounds."""

    name: str
    round: Callable[[Service, ServerState, int], ClientRound]
    """(service, server state, number of the round from 1) -> its result."""
    init: Callable[[ServerState], Tree] | None = None
    """First server state -> the schedule's own first state. It is the field `SCHEDULE` of the
    server state, in which `round` replaces it; checkpoints contain it."""


def _wait_for_all(service: Service, state: ServerState, number: int) -> ClientRound:
    """A round; it is repeated if too few clients return updates, and at last has no clients."""
    participation = service.participation
    for attempt in range(participation.tries):
        present = participation.participants(number, attempt)
        if len(present.ids) < participation.least:
            continue
        key = participation.key(number, attempt)
        after, clients = _compute(service, present, state, number, key)
        good, fault = clients["finite"], finite.clients_fault(clients, service.client_names)
        left_out = clients["id"][~good].tolist() if participation.leaves_out else []
        if left_out:
            service.say(f"round {number}: {fault}; left out")
        else:
            service.refuse(fault)
        if len(present.ids) - len(left_out) >= participation.least:
            counted = {name: values[good] for name, values in clients.items()}
            return ClientRound(after, counted, participation.row(present, attempt + 1, left_out))
    nobody, key = participation.nobody(present), participation.key(number)
    after, clients = _compute(service, nobody, state, number, key)
    return ClientRound(after, clients, participation.row(nobody, 0, []))


def _compute(
    service: Service, present: Participants, state: ServerState, number: int, key: jax.Array
) -> tuple[ServerState, dict[str, np.ndarray]]:
    """The next server state, and the metrics of these clients by ascending id."""
    engine = service.engine
    cohort = service.participation.cohort(present, number, engine.clients_per_chunk)
    after, metrics = engine.run(state, cohort, jax.random.fold_in(key, 1), service.progress)
    named = [cohorts.client_metrics(m, cohort.ids) for m in metrics]
    if lacking := [name for name in _NEEDED if name not in named[0]]:
        raise UserError(
            f"config.algorithm: its clients' metrics lack {listed(lacking)}; a ClientUpdate of the "
            f"first phase needs {listed(_NEEDED)}; weighted_update makes one that has them"
        )
    good = [part["finite"] for part in named if "finite" in part]
    return after, named[0] | {"finite": np.logical_and.reduce(good)}


SYNCHRONOUS = Schedule("synchronous", _wait_for_all)
"""The server waits for all clients that it has chosen, then makes its update."""
