"""What a round averages, worked out by hand: weights of clients, of leaves and slices; phases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.federated.algorithm import Algorithm, ClientUpdate, Phase, weighted_mean
from fednas_jax.federated.clients import Clients
from fednas_jax.federated.cohort import Cohort, in_chunks
from fednas_jax.federated.round import RoundEngine
from tests.federated import toys

EXAMPLES = toys.random_examples()
KEY = jax.random.key(5)


def engine(algorithm: Algorithm, clients_per_chunk: int, clients: Clients) -> RoundEngine:
    return RoundEngine(algorithm, clients, EXAMPLES, clients_per_chunk)


@pytest.mark.parametrize("clients_per_chunk", [1, 2, 3])
def test_weighted_average_by_hand_with_unequal_clients(clients_per_chunk):
    # Eq. 5: labels 4 | 1, 2, 6 | 5, 5, 7, 7, so means 4, 3, 6 and N_k 1, 3, 4 of N = 8:
    # (1 * 4 + 3 * 3 + 4 * 6) / 8.
    labels = jnp.array([4, 1, 2, 6, 5, 5, 7, 7])
    clients = toys.clients_of_sizes([1, 3, 4])
    runner = RoundEngine(
        toys.means(), clients, EXAMPLES._replace(targets=labels), clients_per_chunk
    )
    order = in_chunks(np.arange(3), np.asarray(clients.local_steps), clients_per_chunk)
    state, (metrics,) = runner.run(jnp.zeros(()), order, KEY)
    assert float(state) == 37 / 8
    values = dict(zip(order.ids.ravel(), np.asarray(metrics["value"]).ravel(), strict=True))
    assert [values[k] for k in range(3)] == [4, 3, 6]


@pytest.mark.parametrize("clients_per_chunk", [1, 3])
def test_weights_of_each_leaf_and_slice(clients_per_chunk):
    # As FedorAS averages: each operation by the examples it saw. Client k sends k + 1 everywhere;
    # "all" weighs clients 1, 2, 3; row i of "rows" is seen by client i alone, but row 2 by clients
    # 1 and 2 with weights 1 and 3, and row 3 by nobody.
    def client_update(state, client, facts, examples, key):
        weights = {
            "all": (client.id + 1).astype(jnp.float32),
            "rows": jnp.array([[2, 0, 0, 0], [0, 5, 1, 0], [0, 0, 3, 0]], jnp.float32)[client.id][
                :, None
            ],
        }
        value = (client.id + 1).astype(jnp.float32)
        sums = {"all": weights["all"] * value, "rows": weights["rows"] * jnp.full((4, 2), value)}
        return ClientUpdate(sums, weights, {})

    def server_update(state, sums, weights, facts):
        return weighted_mean(sums, weights, state)

    start = {"all": jnp.zeros(()), "rows": jnp.full((4, 2), 9.0)}
    algorithm = Algorithm(lambda key: start, [Phase(client_update, server_update)], None)
    clients = toys.clients_of_sizes([1, 3, 4])
    runner = engine(algorithm, clients_per_chunk, clients)
    order = in_chunks(np.arange(3), np.asarray(clients.local_steps), clients_per_chunk)
    state, _ = runner.run(start, order, KEY)
    assert float(state["all"]) == pytest.approx((1 * 1 + 2 * 2 + 3 * 3) / 6)
    rows = [[1, 1], [2, 2], [(1 * 2 + 3 * 3) / 4] * 2, [9, 9]]
    np.testing.assert_allclose(state["rows"], rows, rtol=1e-6)


def test_weighted_mean_of_nothing_is_what_was_before():
    sums = {"a": jnp.zeros(2), "b": jnp.array([6.0, 0.0])}
    before = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([3.0, 4.0])}
    kept = weighted_mean(sums, jnp.zeros(()), before)
    jax.tree.map(np.testing.assert_array_equal, kept, before)
    partly = weighted_mean(sums, {"a": jnp.ones(()), "b": jnp.array([2, 0])}, before)
    np.testing.assert_array_equal(partly["a"], [0, 0])
    np.testing.assert_array_equal(partly["b"], [3, 4])


def test_weighted_mean_hides_no_nan():
    assert jnp.isnan(weighted_mean(jnp.ones(()), jnp.array(jnp.nan), jnp.zeros(())))
    assert jnp.isnan(weighted_mean(jnp.array(jnp.nan), jnp.ones(()), jnp.zeros(())))


def test_phases_follow_each_other_within_a_round():
    # The second phase sees what the first has averaged, and draws from a key of its own.
    def phase(factor):
        def client_update(state, client, facts, examples, key):
            sent = {"value": factor * state["value"] + client.id, "draw": jax.random.uniform(key)}
            return ClientUpdate(sent, jnp.ones(()), {f"times {factor}": sent["draw"]})

        return Phase(
            client_update, lambda state, sums, weights, facts: weighted_mean(sums, weights, state)
        )

    algorithm = Algorithm(None, [phase(2), phase(10)], None)
    runner = engine(algorithm, 1, toys.clients_of_sizes([1, 1]))
    chunks = Cohort(np.array([[0], [1]], np.int32), np.array([1, 1], np.int32))
    start = {"value": jnp.float32(3), "draw": jnp.float32(0)}
    state, (first, second) = runner.run(start, chunks, KEY)
    # (6 + 7) / 2, then (65 + 66) / 2.
    assert float(state["value"]) == 65.5
    assert set(first) == {"times 2"}
    assert set(second) == {"times 10"}
    assert not np.isin(first["times 2"], second["times 10"]).any()
