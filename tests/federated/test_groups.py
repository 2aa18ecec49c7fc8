"""Chunks that do not mix groups of clients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.federated.algorithm import Algorithm, ClientUpdate, Phase
from fednas_jax.federated.cohort import in_chunks
from fednas_jax.federated.round import RoundEngine
from tests.federated import toys

KEY = jax.random.key(0)
STEPS = np.array([3, 1, 5, 2, 4, 2, 1])
TIERS = np.array([7, 7, 9, 7, 9, 8, 7], np.int32)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("ranks", [1, 2])
def test_the_clients_of_a_chunk_are_of_one_group(size: int, ranks: int) -> None:
    shapes = set()
    for ids in ([0, 1, 2, 3, 4, 5, 6], [2, 4, 5], [0, 1, 3, 6], [5]):
        found = in_chunks(np.array(ids), STEPS, size, places=7, ranks=ranks, groups=TIERS)
        shapes.add(found.ids.shape)
        present = found.ids >= 0
        assert sorted(found.ids[present].tolist()) == ids
        assert found.groups is not None
        for chunk, group, steps in zip(found.ids, found.groups, found.steps, strict=True):
            there = chunk[chunk >= 0]
            assert set(TIERS[there].tolist()) <= {int(group)}
            assert steps == max(STEPS[there], default=0)
    assert len(shapes) == 1, "rounds of one shape need one program"


def test_a_group_draws_the_same_whatever_the_size_of_chunks() -> None:
    """What a group shares follows from the round and the group, and differs between them."""

    def client_update(state, client, facts, examples, key):
        metrics = {"draw": jax.random.uniform(facts.key), "group": facts.group}
        return ClientUpdate(jnp.zeros(()), jnp.ones(()), {**metrics, "tier": client.facts["tier"]})

    def server_update(state, sums, weights, facts):
        return jax.random.uniform(facts.key)

    algorithm = Algorithm(None, [Phase(client_update, server_update)], None, group_by="tier")
    clients = toys.population(tuple(STEPS))._replace(facts={"tier": TIERS})
    draws, servers = [], []
    for size in (1, 3):
        engine = RoundEngine(algorithm, clients, toys.random_examples(60), size)
        cohort = in_chunks(np.arange(7), STEPS, size, groups=TIERS)
        server, (metrics,) = engine.run(jnp.zeros(()), cohort, KEY)
        present = cohort.ids >= 0
        assert (metrics["group"] == metrics["tier"])[present].all()
        pairs = zip(metrics["tier"][present], metrics["draw"][present], strict=True)
        draws.append({(int(tier), float(draw)) for tier, draw in pairs})
        servers.append(float(server))
    assert draws[0] == draws[1]
    assert len(draws[0]) == len({draw for _, draw in draws[0]}) == 3
    assert servers[0] == servers[1]
    assert servers[0] not in {draw for _, draw in draws[0]}
