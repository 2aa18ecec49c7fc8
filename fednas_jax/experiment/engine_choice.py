"""Chooses how many clients a run computes in parallel, and builds its round engine."""

from collections.abc import Callable, Mapping
from typing import Any

from fednas_jax.experiment.assembly import Population
from fednas_jax.federated import chunks
from fednas_jax.federated.algorithm import Algorithm, ServerState
from fednas_jax.federated.cohort import in_chunks
from fednas_jax.federated.participation import Participation
from fednas_jax.federated.ranks.communicator import LOCAL, Communicator
from fednas_jax.federated.round import RoundEngine
from fednas_jax.runtime import compilation


def choose(
    config: Mapping[str, Any],
    algorithm: Algorithm,
    population: Population,
    participation: Participation,
    state: ServerState,
    recorded: Mapping[str, Any] | None,
    say: Callable[[str], None],
    communicator: Communicator = LOCAL,
) -> chunks.Choice:
    """Chooses the number of clients in a chunk and builds the engine; rank 0 measures if needed.

    Args:
      config: the resolved config.
      algorithm: the algorithm to run.
      population: all clients and examples.
      participation: which clients take part in the rounds.
      state: the server state.
      recorded: content of run.json from earlier starts; None for a new run.
      say: prints a line.
      communicator: joins the ranks.
    """
    clients = population.clients

    def engine(count: int) -> RoundEngine:
        return RoundEngine(algorithm, clients, population.examples, count, communicator)

    asked, most = config["clients_per_chunk"], -(-participation.size // communicator.size)
    if isinstance(asked, int):
        return chunks.Choice(engine(min(asked, most)), {})
    if recorded and "clients_per_chunk" in recorded:
        # Another number would change bits, since sums would be added in another order.
        return chunks.Choice(engine(min(recorded["clients_per_chunk"], most)), {})
    if communicator.rank:
        return chunks.Choice(engine(communicator.decide(lambda: None)), {})
    everyone, steps = participation.everyone(), clients.local_steps
    with compilation.reported(say):
        if asked == "auto":
            cohort = in_chunks(
                everyone.ids, steps, 1, facts=everyone.facts(), groups=participation.groups
            )
            choice = chunks.fitting(engine, state, cohort)
        else:
            choice = chunks.measured(
                engine, state, everyone.ids, steps, say, everyone.facts(), participation.groups
            )
    communicator.decide(lambda: choice.engine.clients_per_chunk)
    return choice
