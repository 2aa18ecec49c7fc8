"""FedAvg against plain loops, on clients of unequal size whose last batches are small."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.algorithms.fedavg import algorithm as fedavg
from fednas_jax.data import vision
from fednas_jax.data.augment import Augmentation
from fednas_jax.federated import batches, server_optimizer
from fednas_jax.federated import clients as client_data
from fednas_jax.federated.algorithm import ClientUpdate
from fednas_jax.federated.clients import Examples
from fednas_jax.federated.cohort import in_chunks
from fednas_jax.federated.rate_schedules import LearningRate
from fednas_jax.federated.round import RoundEngine
from fednas_jax.networks.mlp import MLP
from fednas_jax.networks.pfl_cnn import PFLCNN

SIZES = (7, 4, 0, 3)  # steps an epoch at B = 3: 3, 2, 0, 1
EPOCHS, BATCH, RATE = 2, 3, 0.5
ROUND, ROUNDS, RATE_MIN = 3, 4, 0.1
AUGMENTATION = Augmentation(0, False, 0, (0.5,), (0.25,))
RNG = np.random.RandomState(0)
IMAGES = RNG.randint(0, 256, (sum(SIZES), 2, 3, 1)).astype(np.uint8)
LABELS = RNG.randint(0, 3, sum(SIZES)).astype(np.int32)
EXAMPLES = Examples(IMAGES, LABELS)
KEY = jax.random.key(3)
NETWORK = MLP(3, hidden=(5,))
ROUNDING = 2e-6


def population(batch_size: int = BATCH) -> client_data.Clients:
    parts = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])
    divisions = [client_data.divide(part, 0.0, 1.0) for part in parts]
    return client_data.build(divisions, batch_size, last_batch=True)


CLIENTS = population()


def algorithm(batch_size: int = BATCH, epochs: int = EPOCHS, schedule: str = "constant", **options):
    rate = LearningRate(RATE, RATE_MIN, schedule, epochs, ROUNDS)
    options = fedavg.FedAvgOptions(epochs, batch_size, rate, **options)
    return fedavg.build(
        NETWORK, vision.task(np.zeros((2, 3, 1), np.float32), AUGMENTATION), options
    )


def run(
    state, ids, clients_per_chunk, clients=CLIENTS, task_epochs=None, step_limits=None, **options
):
    task = algorithm(**options)
    engine = RoundEngine(task, clients, jax.device_put(EXAMPLES), clients_per_chunk)
    steps = np.asarray(clients.local_steps)
    facts = {"local_epochs": task_epochs, "step_limit": step_limits}
    facts = {name: values for name, values in facts.items() if values is not None}
    cohort = in_chunks(np.array(ids, np.int32), steps, clients_per_chunk, ROUND, facts=facts)
    return engine.run(state, cohort, KEY)


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


def scaled(factor, tree):
    return jax.tree.map(lambda x: factor * x, tree)


def added(one, two):
    return jax.tree.map(np.add, one, two)


def plain_client(
    params, order_of_epoch, rates=(RATE, RATE), momentum=0.0, decay=0.0, clip=0.0, mu=0.0
):
    """All epochs of a client: every example once an epoch, the last batch as small as it is.

    SGD as PyTorch has it: the norm is clipped, then decay added, then momentum gathered. FedProx's
    term is a part of the loss.
    """
    seen, first = [], params
    velocity = jax.tree.map(np.zeros_like, params)
    for rate, order in zip(rates, order_of_epoch, strict=True):
        for start in range(0, len(order), BATCH):
            at = order[start : start + BATCH]
            losses, gradient = plain_gradient(params, IMAGES[at].astype(np.float64), LABELS[at])
            gradient = added(gradient, scaled(mu, added(params, scaled(-1, first))))
            norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient)))
            shrink = min(1.0, clip / norm) if clip else 1.0
            gradient = added(scaled(shrink, gradient), scaled(decay, params))
            velocity = added(scaled(momentum, velocity), gradient)
            params = added(params, scaled(-rate, velocity))
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


MIDDLE = (RATE + RATE_MIN) / 2
"""Half way of a cosine: of two epochs in the second, of four rounds in the third."""

PLAIN: dict[str, Any] = {}
TRAIN_STAGE = {"momentum": 0.9, "weight_decay": 0.1, "clip_norm": 0.5, "schedule": "within_round"}


@pytest.mark.parametrize("clients_per_chunk", [1, 2])
@pytest.mark.parametrize(
    ("options", "rates"),
    [
        (PLAIN, (RATE, RATE)),
        (TRAIN_STAGE, (RATE, MIDDLE)),
        ({"schedule": "across_rounds"}, (MIDDLE, MIDDLE)),
        ({"schedule": "both", "momentum": 0.5}, (MIDDLE, (MIDDLE + RATE_MIN) / 2)),
        ({"weight_decay": 0.2}, (RATE, RATE)),
        ({"fedprox_mu": 0.7}, (RATE, RATE)),
        ({"fedprox_mu": 0.7, "clip_norm": 0.5}, (RATE, RATE)),
    ],
)
def test_a_round_is_that_of_a_plain_loop(state, clients_per_chunk, options, rates):
    found, (metrics,) = run(state, [0, 1, 2], clients_per_chunk, **options)
    start = jax.tree.map(lambda w: np.asarray(w, np.float64), state.params)
    names = ("momentum", "weight_decay", "clip_norm", "fedprox_mu")
    numbers = [options.get(name, 0.0) for name in names]
    results = {client: plain_client(start, orders(client), rates, *numbers) for client in (0, 1)}
    wanted = jax.tree.map(lambda a, b: (7 * a + 4 * b) / 11, results[0][0], results[1][0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found.params, wanted)
    losses = {
        int(np.asarray(w)): np.asarray(v)
        for w, v in zip(np.ravel(metrics["weight"]), np.ravel(metrics["train_loss"]), strict=True)
    }
    assert losses[7] == pytest.approx(results[0][1], abs=1e-5)
    assert losses[4] == pytest.approx(results[1][1], abs=1e-5)
    assert np.max(np.abs(found.params["dense1"]["bias"] - start["dense1"]["bias"])) > 0.01


def test_clipping_is_at_work_in_the_test_above(state):
    start = jax.tree.map(lambda w: np.asarray(w, np.float64), state.params)
    clipped, free = (plain_client(start, orders(0), clip=clip)[0] for clip in (0.5, 0.0))
    assert np.abs(clipped["dense1"]["kernel"] - free["dense1"]["kernel"]).max() > 0.01


def test_fedsgd_is_one_step_on_the_mean_gradient_of_all_examples(state):
    # E = 1 and B of infinity: clients of 7, 4, 0 and 3 examples, one step each, in one batch that
    # has room for the largest.
    clients = population(batch_size=0)
    assert clients.local_steps.tolist() == [1, 1, 0, 1]
    start = jax.tree.map(lambda w: np.asarray(w, np.float64), state.params)
    _, gradient = plain_gradient(start, IMAGES.astype(np.float64), LABELS)
    wanted = jax.tree.map(lambda w, g: w - RATE * g, start, gradient)
    for size in (1, 4):
        found, _ = run(state, [0, 1, 2, 3], size, clients, batch_size=0, epochs=1)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=ROUNDING), found.params, wanted
        )


@pytest.mark.parametrize("clients_per_chunk", [1, 2])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}])
def test_stragglers_make_the_first_of_their_epochs(state, clients_per_chunk, options):
    # Client 0 makes one of two epochs; both learn at the rates of the whole two.
    found, (metrics,) = run(
        state,
        [0, 1],
        clients_per_chunk,
        task_epochs=np.array([1, 2]),
        schedule="within_round",
        **options,
    )
    start = jax.tree.map(lambda w: np.asarray(w, np.float64), state.params)
    momentum = options.get("momentum", 0.0)
    slow, loss = plain_client(start, orders(0)[:1], (RATE,), momentum)
    fast, _ = plain_client(start, orders(1), (RATE, MIDDLE), momentum)
    wanted = jax.tree.map(lambda a, b: (7 * a + 4 * b) / 11, slow, fast)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found.params, wanted)
    by_weight = dict(
        zip(np.ravel(metrics["weight"]), np.ravel(metrics["local_steps"]), strict=True)
    )
    assert by_weight == {7: 3, 4: 4}
    losses = dict(zip(np.ravel(metrics["weight"]), np.ravel(metrics["train_loss"]), strict=True))
    assert losses[7] == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("clients_per_chunk", [1, 2])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}])
def test_work_that_is_cut_short_is_its_first_steps(state, clients_per_chunk, options):
    # Client 0 makes 5 steps, its second epoch's small last batch left away; client 1 makes one.
    limits = {"task_epochs": np.array([2, 1]), "step_limits": np.array([5, 1])}
    found, (metrics,) = run(state, [0, 1], clients_per_chunk, **limits, **options)
    start = jax.tree.map(lambda w: np.asarray(w, np.float64), state.params)
    momentum = options.get("momentum", 0.0)
    whole, half = orders(0)
    long, loss = plain_client(start, [whole, half[: 2 * BATCH]], (RATE, RATE), momentum)
    short, _ = plain_client(start, [orders(1)[0][:BATCH]], (RATE,), momentum)
    wanted = jax.tree.map(lambda a, b: (7 * a + 4 * b) / 11, long, short)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found.params, wanted)
    weights, steps = np.ravel(metrics["weight"]), np.ravel(metrics["local_steps"])
    assert dict(zip(weights, steps, strict=True)) == {7: 5, 4: 1}
    losses = dict(zip(weights, np.ravel(metrics["train_loss"]), strict=True))
    assert losses[7] == pytest.approx(loss, abs=1e-5)


def test_the_servers_optimiser_steps_from_round_to_round(state):
    # FedAvgM by hand: v = 0.9 v + delta, w = w + 0.5 v, twice; its memory is sent to nobody.
    server = server_optimizer.build("momentum", 0.5, momentum=0.9)
    task = algorithm(server=server)
    engine = RoundEngine(task, CLIENTS, jax.device_put(EXAMPLES), 2)
    plain = RoundEngine(algorithm(), CLIENTS, jax.device_put(EXAMPLES), 2)
    order = in_chunks(np.array([0, 1, 3], np.int32), CLIENTS.local_steps, 2)
    found = state._replace(optimizer=server.init(state.params))
    weights = state.params
    velocity = jax.tree.map(np.zeros_like, state.params)
    for number in range(2):
        key = jax.random.fold_in(KEY, number)
        mean = plain.run(state._replace(params=weights), order, key)[0].params
        velocity = added(scaled(0.9, velocity), added(mean, scaled(-1, weights)))
        weights = added(weights, scaled(0.5, velocity))
        found, _ = engine.run(found, order, key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found.params, weights)
    assert engine.traffic(found) == plain.traffic(state)
    # A round of nobody leaves weights and memory alone.
    nobody = in_chunks(np.zeros(0, np.int32), CLIENTS.local_steps, 2, places=3)
    jax.tree.map(np.testing.assert_array_equal, engine.run(found, nobody, KEY)[0], found)


def test_clients_side_by_side_and_one_by_one_agree(state):
    ids = [0, 1, 2, 3]
    results = [run(state, ids, size)[0] for size in (1, 2, 3, 4)]
    for result in results[1:]:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=ROUNDING, atol=ROUNDING),
            result,
            results[0],
        )


@pytest.mark.parametrize("options", [PLAIN, TRAIN_STAGE])
def test_a_padded_step_changes_nothing(state, options):
    update = jax.jit(
        lambda client, steps: (
            algorithm(**options)
            .phases[0]
            .client_update(state, client, fedavg.ChunkFacts(steps), jax.device_put(EXAMPLES), KEY)
        )
    )
    client = jax.tree.map(lambda x: x[1], CLIENTS)
    alone, beside_others = update(client, 2), update(client, 9)
    jax.tree.map(np.testing.assert_array_equal, alone, beside_others)
    assert isinstance(alone, ClientUpdate)
    assert alone.metrics["local_steps"] == 2 * EPOCHS
    assert bool(alone.metrics["finite"])


def test_finite_looks_at_all_that_a_client_sends():
    client = jax.tree.map(lambda x: x[0], CLIENTS)
    sent = {name: {"leaf": jnp.ones(2)} for name in ("params", "batch_stats")}
    sums = fedavg._Sums(*(jnp.float32(1) for _ in fedavg._Sums._fields))

    def finite(sent, sums):
        return fedavg._client_update(sent, sums, client, jnp.int32(1)).metrics["finite"].item()

    assert finite(sent, sums)
    for name in sent:
        assert not finite(sent | {name: {"leaf": jnp.array([1.0, jnp.inf])}}, sums), name
    assert not finite(sent, sums._replace(loss=jnp.float32(jnp.nan)))


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
    losses, correct, _ = jax.jit(algorithm().evaluate)(state, IMAGES[:6], LABELS[:6])
    params = jax.tree.map(lambda w: np.asarray(w, np.float64), state.params)
    wanted, _ = plain_gradient(params, IMAGES[:6].astype(np.float64), LABELS[:6])
    np.testing.assert_allclose(losses, wanted, atol=1e-5)
    assert set(np.asarray(correct)) <= {0.0, 1.0}


def test_a_network_that_draws_gets_a_key_for_each_step():
    images = np.zeros((6, 8, 8, 3), np.uint8) + np.arange(6, dtype=np.uint8)[:, None, None, None]
    task = fedavg.build(
        PFLCNN(3),
        vision.task(images[0], Augmentation(0, False, 0, (0.5,) * 3, (0.25,) * 3)),
        fedavg.FedAvgOptions(1, 3, LearningRate(0.1)),
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
