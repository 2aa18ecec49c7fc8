"""A client that brings what is not finite is as if it were not there, in all phases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.federated import transforms
from fednas_jax.federated.algorithm import Algorithm, ChunkFacts, ClientUpdate, Phase, weighted_mean
from fednas_jax.federated.cohort import in_chunks
from fednas_jax.federated.only_finite import ONLY_FINITE
from fednas_jax.federated.round import RoundEngine
from tests.federated import toys

EXAMPLES = toys.random_examples()
CLIENTS = toys.clients_of_sizes([3, 4, 5])
KEY = jax.random.key(0)
BAD = 1


def ids_sent(bad: float) -> Algorithm:
    """Two phases: the clients' mean of 10 + id, then their sum of ids; client 1 sends `bad`."""

    def first(state, client, facts, examples, key):
        value = jnp.where(client.id == BAD, bad, 10.0 + client.id)
        count = client.num_examples.astype(jnp.float32)
        return ClientUpdate(count * value, count, {"value": value})

    def second(state, client, facts, examples, key):
        count = (client.num_examples > 0).astype(jnp.float32)
        return ClientUpdate(count * client.id, count, {})

    def collect(state, sums, weights, facts):
        return state | {"mean": weighted_mean(sums, weights, state["mean"])}

    def add_up(state, sums, weights, facts):
        return state | {"ids": sums}

    def init(key):
        return {"mean": jnp.zeros(()), "ids": jnp.zeros(())}

    return Algorithm(init, [Phase(first, collect), Phase(second, add_up)], toys.evaluate_linear)


@pytest.mark.parametrize("clients_per_chunk", [1, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_others_count_as_if_it_were_not_there(bad: float, clients_per_chunk: int) -> None:
    task = ids_sent(bad)
    careful = transforms.chained(task, [ONLY_FINITE], len(CLIENTS.id))
    engine = RoundEngine(careful, CLIENTS, EXAMPLES, clients_per_chunk)
    cohort = in_chunks(np.arange(3), np.asarray(CLIENTS.local_steps), clients_per_chunk)
    state, metrics = engine.run(task.init(KEY), cohort, KEY)
    # Clients 0 and 2 with 3 and 5 examples.
    assert float(state["mean"]) == (3 * 10 + 5 * 12) / 8
    assert float(state["ids"]) == 2
    present = cohort.ids >= 0
    np.testing.assert_array_equal(
        np.asarray(metrics[0]["finite"])[present], cohort.ids[present] != BAD
    )
    assert np.asarray(metrics[1]["finite"]).all()


def test_bits_are_those_of_the_plain_engine_where_all_is_finite() -> None:
    task = toys.local_sgd()
    clients = toys.population()
    cohort = in_chunks(np.arange(5), np.asarray(clients.local_steps), 2)
    state = task.init(KEY)
    plain, _ = RoundEngine(task, clients, EXAMPLES, 2).run(state, cohort, KEY)
    chained = transforms.chained(task, [ONLY_FINITE], len(clients.id))
    careful, _ = RoundEngine(chained, clients, EXAMPLES, 2).run(state, cohort, KEY)
    jax.tree.map(np.testing.assert_array_equal, plain, careful)


def test_its_own_word_counts_too() -> None:
    update = ClientUpdate({"w": jnp.ones(2)}, jnp.float32(4), {"finite": jnp.bool_(False)})
    at = transforms.OnClient((), (), (), CLIENTS, ChunkFacts(jnp.int32(1)), KEY)
    found = ONLY_FINITE.client(update, at).update
    np.testing.assert_array_equal(found.sums["w"], [0, 0])
    assert (float(found.weights), bool(found.metrics["finite"])) == (0, False)
