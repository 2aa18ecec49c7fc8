"""What the round engine tells a client of its chunk, and what several ranks make of a round."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.federated.algorithm import Algorithm, ClientUpdate, Phase
from fednas_jax.federated.cohort import Cohort, in_chunks
from fednas_jax.federated.round import RoundEngine
from tests.federated import toys

CLIENTS = toys.population()
EVERYONE = np.arange(len(toys.STEPS))
EXAMPLES = toys.random_examples()
KEY = jax.random.key(5)


def engine(algorithm: Algorithm, clients_per_chunk: int) -> RoundEngine:
    return RoundEngine(algorithm, CLIENTS, EXAMPLES, clients_per_chunk)


def cohort(clients_per_chunk: int, ids: np.ndarray = EVERYONE) -> Cohort:
    return in_chunks(ids, np.asarray(CLIENTS.local_steps), clients_per_chunk)


def tells_facts(told: list[Any] | None = None) -> Algorithm:
    """Each client sends 1, and tells what its chunk and the cohort say to it."""

    def client_update(state, client, facts, examples, key):
        if told is not None:
            told.append((facts.local_epochs, sorted(client.facts)))
        metrics = {
            "round": facts.round,
            "steps": facts.local_steps,
            "most": 0 if facts.local_epochs is None else facts.local_epochs,
            "own": client.facts.get("local_epochs", 0),
            "limit": client.facts.get("step_limit", 0),
            "tier": client.facts.get("tier", 0),
        }
        metrics = {name: jnp.int32(value) for name, value in metrics.items()}
        present = (client.id >= 0).astype(jnp.int32)
        return ClientUpdate(present, present, metrics)

    return Algorithm(None, [Phase(client_update, lambda s, sums, weights, f: sums)], None)


@pytest.mark.parametrize("clients_per_chunk", [1, 3])
def test_epochs_and_limits_are_each_clients_and_the_most_is_the_chunks(clients_per_chunk):
    # Work of 6, 4, 5 and 2 steps; the client with the most work does not make the most epochs.
    epochs, limits = np.array([2, 4, 1, 1]), np.array([6, 4, 5, 2])
    members = in_chunks(
        np.array([0, 1, 2, 4]),
        np.asarray(CLIENTS.local_steps),
        clients_per_chunk,
        7,
        facts={"local_epochs": epochs, "step_limit": limits, "tier": np.array([3, 0, 1, 2])},
    )
    _, (found,) = engine(tells_facts(), clients_per_chunk).run(jnp.int32(0), members, KEY)
    rows = {1: [[6], [5], [4], [2]], 3: [[6, 5, 4], [2, 0, 0]]}[clients_per_chunk]
    assert found["limit"].tolist() == rows
    tiers = {1: [[3], [1], [0], [2]], 3: [[3, 1, 0], [2, 0, 0]]}[clients_per_chunk]
    assert found["tier"].tolist() == tiers, "any fact of a cohort reaches its client"
    rows = {1: [[2], [1], [4], [1]], 3: [[2, 1, 4], [1, 0, 0]]}[clients_per_chunk]
    assert found["own"].tolist() == rows
    assert found["most"].tolist() == [[max(row)] * len(row) for row in rows]
    assert set(found["round"].ravel().tolist()) == {7}
    rows = {1: [[3], [5], [1], [2]], 3: [[5] * 3, [2] * 3]}[clients_per_chunk]
    assert found["steps"].tolist() == rows


def test_without_them_no_client_is_told_any():
    told: list[Any] = []
    engine(tells_facts(told), 3).run(jnp.int32(0), cohort(3), KEY)
    assert told == [(None, [])]


def test_each_rank_runs_its_own_clients_and_all_are_added_up():
    # Of 3, 1, 5, 0 and 2 steps: 5, 1 and 0 go to the one rank, 3 and 2 to the other.
    everyone = in_chunks(EVERYONE, np.asarray(CLIENTS.local_steps), 1, ranks=2)
    for rank, ids in enumerate([[2, 1, 3], [0, 4]]):
        runner = RoundEngine(toys.means(), CLIENTS, EXAMPLES, 1, toys.OneOf(rank, 2))
        own, (found,) = runner.run(jnp.zeros(()), everyone, KEY)
        alone = engine(toys.means(), 1)
        wanted, (metrics,) = alone.run(jnp.zeros(()), cohort(1, np.array(ids)), KEY)
        assert float(own) == float(wanted)
        assert found["value"][: len(ids)].tolist() == metrics["value"].tolist()
    # The server is given the sums over all ranks, and the weights too.
    doubles = toys.OneOf(0, 1)
    doubles.total = lambda tree: jax.tree.map(lambda x: 2 * x, tree)
    both = Phase(tells_facts().phases[0].client_update, lambda s, sums, weights, f: (sums, weights))
    runner = RoundEngine(Algorithm(None, [both], None), CLIENTS, EXAMPLES, 1, doubles)
    sums, weights = runner.run((jnp.int32(0), jnp.int32(0)), cohort(1), KEY)[0]
    assert (int(sums), int(weights)) == (2 * len(EVERYONE), 2 * len(EVERYONE))
