"""FedAvg against plain loops, on clients of unequal size whose last batches are small."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.data.augment import Augmentation
from fednas_jax.federated import batches
from fednas_jax.federated import clients as client_data
from fednas_jax.federated.algorithms import fedavg
from fednas_jax.federated.clients import Examples
from fednas_jax.federated.cohort import Cohort, in_chunks
from fednas_jax.federated.round import ClientUpdate, RoundEngine
from fednas_jax.nn.mlp import MLP
from fednas_jax.nn.pfl_cnn import PFLCNN

SIZES = (7, 4, 0, 3)  # steps an epoch at B = 3: 3, 2, 0, 1
EPOCHS, BATCH, RATE = 2, 3, 0.5
AUGMENTATION = Augmentation(0, False, 0, (0.5,), (0.25,))
RNG = np.random.RandomState(0)
IMAGES = RNG.randint(0, 256, (sum(SIZES), 2, 3, 1)).astype(np.uint8)
LABELS = RNG.randint(0, 3, sum(SIZES)).astype(np.int32)
EXAMPLES = Examples(IMAGES, LABELS)
KEY = jax.random.key(3)
NETWORK = MLP(3, hidden=(5,))
ROUNDING = 2e-6


def population() -> client_data.Clients:
    parts = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])
    divisions = [client_data.divide(part, 0.0, 1.0) for part in parts]
    return client_data.build(divisions, BATCH, last_batch=True)


CLIENTS = population()


def algorithm(batch_size: int = BATCH, epochs: int = EPOCHS):
    options = fedavg.FedAvgOptions(epochs, batch_size, RATE)
    return fedavg.build(NETWORK, (2, 3, 1), AUGMENTATION, options)


def cohort(ids: list[int], clients_per_chunk: int) -> Cohort:
    return in_chunks(np.array(ids, np.int32), CLIENTS.local_steps, clients_per_chunk)


def run(state, ids, clients_per_chunk):
    engine = RoundEngine(algorithm(), CLIENTS, jax.device_put(EXAMPLES), clients_per_chunk)
    return engine.run(state, cohort(ids, clients_per_chunk), KEY)


@pytest.fixture(scope="module")
def state() -> fedavg.ServerState:
    return jax.jit(algorithm().init)(jax.random.key(0))


def plain_gradient(params, images, labels):
    """Mean cross-entropy of the MLP and its gradients, by hand, in float64."""
    x = ((images / 255 - 0.5) / 0.25).reshape(len(images), -1)
    hidden = x @ params["dense0"]["kernel"] + params["dense0"]["bias"]
    active = np.maximum(hidden, 0)
    logits = active @ params["dense1"]["kernel"] + params["dense1"]["bias"]
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    losses = -np.log(chances[np.arange(len(x)), labels])
    of_logits = (chances - np.eye(3)[labels]) / len(x)
    of_hidden = of_logits @ params["dense1"]["kernel"].T * (hidden > 0)
    gradient = {
        "dense0": {"kernel": x.T @ of_hidden, "bias": of_hidden.sum(0)},
        "dense1": {"kernel": active.T @ of_logits, "bias": of_logits.sum(0)},
    }
    return losses, gradient


def plain_client(params, order_of_epoch):
    """All epochs of a client: every example once an epoch, the last batch as small as it is."""
    seen = []
    for order in order_of_epoch:
        for start in range(0, len(order), BATCH):
            at = order[start : start + BATCH]
            losses, gradient = plain_gradient(params, IMAGES[at].astype(np.float64), LABELS[at])
            params = jax.tree.map(lambda w, g: w - RATE * g, params, gradient)
            seen += list(losses)
    return params, np.mean(seen)


def orders(client: int) -> list[np.ndarray]:
    """The orders in which the engine shuffles a client's examples."""
    key = jax.random.fold_in(jax.random.fold_in(KEY, 0), client)  # of the phase, of the client
    found = []
    for number in range(EPOCHS):
        order_key, _ = jax.random.split(jax.random.fold_in(key, number))
        count = CLIENTS.num_train[client]
        shuffled = batches.shuffled(order_key, CLIENTS.train[client], count)
        found.append(np.asarray(shuffled)[:count])
        assert sorted(found[-1]) == sorted(CLIENTS.train[client][:count])
    return found


@pytest.mark.parametrize("clients_per_chunk", [1, 2])
def test_a_round_is_that_of_a_plain_loop(state, clients_per_chunk):
    found, (metrics,) = run(state, [0, 1, 2], clients_per_chunk)
    start = jax.tree.map(lambda w: np.asarray(w, np.float64), state.params)
    results = {client: plain_client(start, orders(client)) for client in (0, 1)}
    wanted = jax.tree.map(lambda a, b: (7 * a + 4 * b) / 11, results[0][0], results[1][0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-6), found.params, wanted)
    losses = {
        int(np.asarray(w)): np.asarray(v)
        for w, v in zip(np.ravel(metrics["weight"]), np.ravel(metrics["train_loss"]), strict=True)
    }
    assert losses[7] == pytest.approx(results[0][1], abs=1e-5)
    assert losses[4] == pytest.approx(results[1][1], abs=1e-5)
    assert np.max(np.abs(found.params["dense1"]["bias"] - start["dense1"]["bias"])) > 0.01


def test_clients_side_by_side_and_one_by_one_agree(state):
    ids = [0, 1, 2, 3]
    results = [run(state, ids, size)[0] for size in (1, 2, 3, 4)]
    for result in results[1:]:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=ROUNDING, atol=ROUNDING),
            result,
            results[0],
        )


def test_a_padded_step_changes_nothing(state):
    update = jax.jit(
        lambda client, steps: (
            algorithm()
            .phases[0]
            .client_update(state, client, fedavg.ChunkFacts(steps), jax.device_put(EXAMPLES), KEY)
        )
    )
    client = jax.tree.map(lambda x: x[1], CLIENTS)
    alone, beside_others = update(client, 2), update(client, 9)
    jax.tree.map(np.testing.assert_array_equal, alone, beside_others)
    assert isinstance(alone, ClientUpdate)
    assert alone.metrics["local_steps"] == 2
    assert bool(alone.metrics["finite"])


def test_a_client_without_examples_sends_nothing(state):
    update = (
        algorithm()
        .phases[0]
        .client_update(
            state,
            jax.tree.map(lambda x: jnp.asarray(x[2]), CLIENTS),
            fedavg.ChunkFacts(jnp.int32(2)),
            jax.device_put(EXAMPLES),
            KEY,
        )
    )
    assert update.weights == 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(update.sums))


def test_evaluation_is_of_the_servers_network(state):
    losses, correct = jax.jit(algorithm().evaluate)(state, IMAGES[:6], LABELS[:6])
    params = jax.tree.map(lambda w: np.asarray(w, np.float64), state.params)
    wanted, _ = plain_gradient(params, IMAGES[:6].astype(np.float64), LABELS[:6])
    np.testing.assert_allclose(losses, wanted, atol=1e-5)
    assert set(np.asarray(correct)) <= {0.0, 1.0}


def test_a_network_that_draws_gets_a_key_for_each_step():
    images = np.zeros((6, 8, 8, 3), np.uint8) + np.arange(6, dtype=np.uint8)[:, None, None, None]
    task = fedavg.build(
        PFLCNN(3),
        (8, 8, 3),
        Augmentation(0, False, 0, (0.5,) * 3, (0.25,) * 3),
        fedavg.FedAvgOptions(1, 3, 0.1),
    )
    divisions = [client_data.divide(np.arange(6), 0.0, 1.0)]
    clients = jax.device_put(client_data.build(divisions, 3, last_batch=True))
    client = jax.tree.map(lambda x: x[0], clients)
    examples = jax.device_put(Examples(images, np.zeros(6, np.int32)))
    update = jax.jit(
        lambda key: task.phases[0].client_update(
            task.init(jax.random.key(0)), client, fedavg.ChunkFacts(jnp.int32(2)), examples, key
        )
    )
    one, again, other = (update(jax.random.key(seed)) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert one.metrics["train_loss"] != other.metrics["train_loss"]


def test_steps_count_a_smaller_last_batch():
    assert CLIENTS.local_steps.tolist() == [3, 2, 0, 1]
    parts = [client_data.divide(np.arange(n), 0.0, 1.0) for n in SIZES]
    assert client_data.build(parts, BATCH).local_steps.tolist() == [2, 1, 0, 1]
