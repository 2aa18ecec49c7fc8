"""FedAvg of a network as those of genotypes are: BatchNorm, an auxiliary head, drop path."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from fednas_jax.algorithms.fedavg import algorithm as fedavg
from fednas_jax.data import vision
from fednas_jax.data.augment import Augmentation
from fednas_jax.federated import batches, round
from fednas_jax.federated.algorithm import Algorithm
from fednas_jax.federated.clients import Clients, Examples, build, divide
from fednas_jax.federated.cohort import in_chunks
from fednas_jax.federated.rate_schedules import LearningRate, Ramp
from fednas_jax.federated.round import RoundEngine
from fednas_jax.nn.layers import Norm, Style
from tests.quick import quick_jit

CLASSES, BATCH, EPOCHS, RATE = 3, 4, 2, 0.3
MEAN, STD = (0.5,), (0.25,)
SIZES = (10, 3, 8)  # 3, 1 and 2 steps an epoch, of which the first two end with a smaller batch
ROUND, ROUNDS = 2, 3
KEY = jax.random.key(4)
RNG = np.random.RandomState(1)
LABELS = RNG.randint(0, CLASSES, sum(SIZES)).astype(np.int32)
IMAGES = RNG.random_sample((sum(SIZES), 2, 2, 1)).astype(np.float32)
EXAMPLES = jax.device_put(Examples(IMAGES, LABELS))
PIXELS = (IMAGES.reshape(-1, 4) - MEAN) / STD


@pytest.fixture(scope="module", autouse=True)
def _compiled_fast() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(round, "jit", quick_jit)
        yield


class SmallNetwork(nn.Module):
    """Normalised pixels and a linear layer; another on the pixels' tanh is the auxiliary head.

    Drop path shifts the logits by as much as the rate and the key say.
    """

    auxiliary: bool = False
    momentum: float = 0.9

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        *,
        train: bool,
        drop_path_rate: jax.Array | float = 0.0,
        key: jax.Array | None = None,
    ) -> Any:
        x = images.reshape(len(images), -1)
        style = Style(len(x), momentum=self.momentum)
        # Each pixel is a channel: maps [C, H, W * B].
        y = Norm(style, name="norm")(x.T[:, None], train=train)[:, 0].T
        logits = nn.Dense(CLASSES, name="classifier")(y)
        if self.auxiliary and (train or self.is_initializing()):
            other = nn.Dense(CLASSES, name="auxiliary_head")(jnp.tanh(x))
            if train:
                return logits, other
        if train and key is not None:
            logits += drop_path_rate * jax.random.normal(key, (CLASSES,))
        return logits


def clients() -> Clients:
    parts = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])
    return build([divide(part, 0.0, 1.0) for part in parts], BATCH, last_batch=True)


CLIENTS = clients()


def algorithm(network: nn.Module, **options: Any) -> Algorithm:
    everything = fedavg.FedAvgOptions(EPOCHS, BATCH, LearningRate(RATE), momentum=0.5, **options)
    task = vision.task(IMAGES[0], Augmentation(0, False, 0, MEAN, STD))
    return fedavg.build(network, task, everything)


@functools.cache  # one compilation each takes most of this file's time
def engine(
    network: nn.Module, clients_per_chunk: int, batch_stats: str, **options: Any
) -> RoundEngine:
    task = algorithm(network, batch_stats=batch_stats, **options)
    return RoundEngine(task, CLIENTS, EXAMPLES, clients_per_chunk)


def after_a_round(
    network: nn.Module,
    clients_per_chunk: int = 3,
    *,
    state: fedavg.ServerState | None = None,
    ids: Any = (0, 1, 2),
    epochs: Any = None,
    batch_stats: str = "recalibrated",
    **options: Any,
) -> fedavg.ServerState:
    order = in_chunks(
        np.array(ids, int),
        np.asarray(CLIENTS.local_steps),
        clients_per_chunk,
        ROUND,
        facts={} if epochs is None else {"local_epochs": np.array(epochs, np.int32)},
        places=3,
    )
    state = first_state(network) if state is None else state
    running = engine(network, clients_per_chunk, batch_stats, **options)
    return running.run(state, order, KEY)[0]


@functools.cache
def first_state(network: nn.Module) -> fedavg.ServerState:
    return quick_jit(algorithm(network).init)(jax.random.key(0))


@functools.partial(quick_jit, static_argnames="network")
@functools.partial(jax.grad, has_aux=True)
def plain_gradient(
    params: Any, running: Any, network: nn.Module, at: Any, counts: Any, path: Any, weight: float
) -> Any:
    """Of the mean loss of those of a batch that count, all of which BatchNorm sees; statistics."""
    output, changed = network.apply(
        {"params": params, "batch_stats": running},
        jnp.asarray(PIXELS, jnp.float32)[at].reshape(-1, 2, 2, 1),
        train=True,
        mutable=["batch_stats"],
        **path,
    )
    heads = output if isinstance(output, tuple) else (output,)
    labels = jnp.asarray(LABELS)[at]
    losses = [
        counts @ optax.softmax_cross_entropy_with_integer_labels(logits, labels) / counts.sum()
        for logits in heads
    ]
    total = losses[0] + (weight * losses[1] if len(losses) > 1 else 0.0)
    return total, changed["batch_stats"]


def walk(
    network: nn.Module,
    client: int,
    drop_path: float = 0.0,
    weight: float = 0.0,
    epochs: int = EPOCHS,
) -> fedavg.ServerState:
    """A client's epochs by a plain loop, batch by batch; the loss is of what is not filled up."""
    state = first_state(network)
    key = jax.random.fold_in(jax.random.fold_in(KEY, 0), client)
    count = int(CLIENTS.num_train[client])
    params, running = state.params, state.batch_stats
    velocity = jax.tree.map(jnp.zeros_like, params)
    for epoch in range(epochs):
        order_key, step_key = jax.random.split(jax.random.fold_in(key, epoch))
        order = np.asarray(batches.shuffled(order_key, jnp.asarray(CLIENTS.train[client]), count))
        order = order[:count]
        for number in range(int(CLIENTS.local_steps[client])):
            at = np.resize(order, number * BATCH + BATCH)[number * BATCH :]
            counts = np.arange(BATCH) < count - number * BATCH
            _, network_key = jax.random.split(jax.random.fold_in(step_key, number))
            path = {"drop_path_rate": drop_path, "key": jax.random.fold_in(network_key, 1)}

            gradient, running = plain_gradient(
                params, running, network, at, counts * 1.0, path if drop_path else {}, weight
            )
            velocity = jax.tree.map(lambda v, g: 0.5 * v + g, velocity, gradient)
            params = jax.tree.map(lambda w, v: w - RATE * v, params, velocity)
    return fedavg.ServerState(params, running)


def assert_close(one: Any, two: Any, tolerance: float = 1e-5) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance), one, two)


def mean_of(states: list[Any]) -> Any:
    return jax.tree.map(lambda *x: np.average(np.stack(x), axis=0, weights=SIZES), *states)


@pytest.mark.parametrize("clients_per_chunk", [1, 3])
@pytest.mark.parametrize(
    ("network", "options", "drop_path", "weight"),
    [
        (SmallNetwork(), {}, 0.0, 0.0),
        (SmallNetwork(auxiliary=True), {"auxiliary_weight": 0.4}, 0.0, 0.4),
        # In the second round of three the ramp is half way up.
        (SmallNetwork(), {"drop_path": Ramp(0.6, ROUNDS)}, 0.3, 0.0),
    ],
)
def test_weights_and_averaged_statistics_are_those_of_plain_loops(
    network: nn.Module, options: Any, drop_path: float, weight: float, clients_per_chunk: int
) -> None:
    found = after_a_round(network, clients_per_chunk, batch_stats="averaged", **options)
    expected = mean_of([walk(network, k, drop_path, weight) for k in range(3)])
    assert_close(found, expected)
    before = first_state(network).params["classifier"]["kernel"]
    assert np.abs(found.params["classifier"]["kernel"] - before).max()


def test_the_heads_weight_and_the_ramp_make_a_difference() -> None:
    # So that the test above can tell.
    for network, options in (
        (SmallNetwork(auxiliary=True), {"auxiliary_weight": 0.4}),
        (SmallNetwork(), {"drop_path": Ramp(0.6, ROUNDS)}),
    ):
        plain, other = (
            after_a_round(network, batch_stats="averaged", **more).params for more in ({}, options)
        )
        changes = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), plain, other)
        assert max(jax.tree.leaves(changes)) > 1e-3


def test_recalibrated_statistics_are_those_of_whole_batches() -> None:
    # Clients of 10, 3 and 8: two whole batches, one that wraps around, two whole ones.
    found = after_a_round(SmallNetwork())
    averaged = after_a_round(SmallNetwork(), batch_stats="averaged")
    assert_close(found.params, averaged.params)
    rows = [range(4), range(4, 8), [10, 11, 12, 10], range(13, 17), range(17, 21)]
    seen = np.stack([PIXELS[list(row)].astype(np.float64) for row in rows])
    weights = [4, 4, 3, 4, 4]
    mean = np.average(seen.mean(axis=1), axis=0, weights=weights)
    within = np.average(seen.var(axis=1, ddof=1), axis=0, weights=weights)
    between = np.average((seen.mean(axis=1) - mean) ** 2, axis=0, weights=weights)
    assert_close(found.batch_stats, {"norm": {"mean": mean, "var": within + between}})


@pytest.mark.parametrize("clients_per_chunk", [1, 3])
def test_the_epochs_that_a_straggler_does_not_make_move_nothing(clients_per_chunk: int) -> None:
    network, epochs = SmallNetwork(), (1, 2, 1)
    found = after_a_round(network, clients_per_chunk, epochs=epochs, batch_stats="averaged")
    assert_close(found, mean_of([walk(network, k, epochs=epochs[k]) for k in range(3)]))
    if clients_per_chunk == 3:
        # Statistics taken anew are of all the examples, whoever was slow: this network's are of
        # its input, and do not depend on the weights.
        recalibrated = after_a_round(network, epochs=epochs)
        assert_close(recalibrated.params, found.params)
        assert_close(recalibrated.batch_stats, after_a_round(network).batch_stats)


@pytest.mark.parametrize("kind", ["averaged", "recalibrated"])
def test_a_round_of_nobody_keeps_weights_and_statistics(kind: str) -> None:
    network = SmallNetwork()
    moments = {"mean": jnp.linspace(-0.7, 3.1, 4), "var": jnp.linspace(0.3, 9.0, 4)}
    state = first_state(network)._replace(batch_stats={"norm": moments})
    found = after_a_round(network, state=state, ids=(), batch_stats=kind)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, state)


@pytest.mark.parametrize("momentum", [0.9, 0.5, 0.0])
def test_observed_statistics_do_not_depend_on_the_layers_momentum(momentum: float) -> None:
    network = SmallNetwork(momentum=momentum)
    state = first_state(network)._replace(
        batch_stats={"norm": {"mean": jnp.full(4, 7.0), "var": jnp.full(4, 9.0)}}
    )
    task: Any = algorithm(network).phases[1].client_update
    found = task.__self__.observe(state, IMAGES[:5])
    expected = {"mean": PIXELS[:5].mean(axis=0), "var": PIXELS[:5].var(axis=0, ddof=1)}
    assert_close(found, {"norm": expected})


def test_clients_send_statistics_only_where_they_are_averaged() -> None:
    network = SmallNetwork()
    weights = 4 * (4 + 4 + 4 * CLASSES + CLASSES)  # scale, bias; kernel, bias
    sent = [
        engine(network, 1, kind).traffic(first_state(network))
        for kind in ("averaged", "recalibrated")
    ]
    # With the weights goes their n_k; means and variances of four pixels take 32 bytes, and with
    # the means' squares 48.
    assert sent[0]["bytes_up_per_client"] == weights + 32 + 4
    assert sent[1]["bytes_up_per_client"] == (weights + 4) + (48 + 4)
    assert sent[0]["bytes_down_per_client"] == weights + 32


def test_evaluation_normalises_by_the_running_moments() -> None:
    network = SmallNetwork(auxiliary=True)
    state = first_state(network)
    mean, var = np.linspace(-1, 1, 4), np.linspace(0.5, 2, 4)
    state = state._replace(batch_stats={"norm": {"mean": mean, "var": var}})
    losses, *_ = algorithm(network).evaluate(state, IMAGES[:6], LABELS[:6])
    kernel = np.asarray(state.params["classifier"]["kernel"], np.float64)
    logits = (PIXELS[:6] - mean) / np.sqrt(var + 1e-5) @ kernel
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(6), LABELS[:6]]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
