"""Algorithms small enough to compile in a second and to be worked out by hand."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fednas_jax.data.task import Scores
from fednas_jax.federated import batches
from fednas_jax.federated.algorithm import Algorithm, ChunkFacts, ClientUpdate, Phase, weighted_mean
from fednas_jax.federated.clients import Clients, Division, Examples, build
from fednas_jax.federated.cohort import NOBODY, Cohort
from fednas_jax.federated.ranks.communicator import Local
from fednas_jax.federated.reducers import buffered

FEATURES = 4
BATCH = 2
EPOCHS = 2
STEPS = (3, 1, 5, 0, 2)
"""Local steps an epoch of the clients of `population`; the one with none has no example."""


class OneOf(Local):
    """One of several ranks that hears nothing from the others: its sums are its own part alone.

    So the parts of all ranks, added up, have to be what one process comes to.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


class Linear(NamedTuple):
    """State of `local_sgd`: a linear model."""

    weight: jax.Array  # [FEATURES]
    bias: jax.Array  # []


def local_sgd(traces: list[str] | None = None) -> Algorithm:
    """Local epochs of SGD on a linear model, from shuffled batches, with noise from the key.

    Args:
      traces: gets an entry whenever a client's update is traced.
    """

    def init(key: jax.Array) -> Linear:
        return Linear(jax.random.normal(key, (FEATURES,)), jnp.zeros(()))

    def client_update(
        state: Linear, client: Clients, facts: ChunkFacts, examples: Examples, key: jax.Array
    ) -> ClientUpdate:
        if traces is not None:
            traces.append("client_update")

        def epoch(number: jax.Array, carry: Any) -> Any:
            epoch_key = jax.random.fold_in(key, number)
            order = batches.shuffled(epoch_key, client.train, client.num_train)

            def step(i: jax.Array, carry: Any) -> Any:
                model, losses = carry
                at = batches.batch(order, client.num_train, i, BATCH)
                loss, gradient = jax.value_and_grad(squared_error)(
                    model, examples.inputs[at], examples.targets[at]
                )
                noise = 0.1 * jax.random.normal(jax.random.fold_in(epoch_key, i), (FEATURES,))
                moved = jax.tree.map(lambda x, g: x - 0.05 * g, model, gradient)
                return moved._replace(weight=moved.weight + noise), losses + loss

            def padded_step(i: jax.Array, carry: Any) -> Any:
                return lax.cond(i < client.local_steps, lambda c: step(i, c), lambda c: c, carry)

            return lax.fori_loop(0, facts.local_steps, padded_step, carry)

        model, losses = lax.fori_loop(0, EPOCHS, epoch, (state, jnp.zeros(())))
        count = client.num_examples.astype(jnp.float32)
        metrics = {"loss": losses, "id": client.id, "draw": jax.random.uniform(key)}
        return ClientUpdate(jax.tree.map(lambda x: count * x, model), count, metrics)

    def server_update(state: Linear, sums: Linear, weights: jax.Array, facts: Any) -> Linear:
        return weighted_mean(sums, weights, state)

    return Algorithm(init, [Phase(client_update, server_update)], evaluate_linear)


def squared_error(model: Linear, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Half the mean squared error."""
    error = images.reshape(len(labels), -1) @ model.weight + model.bias - labels
    return 0.5 * (error**2).mean()


def evaluate_linear(state: Linear, images: jax.Array, labels: jax.Array) -> Scores:
    """Squared errors, and whether they are below one."""
    errors = (images.reshape(len(labels), -1) @ state.weight + state.bias - labels) ** 2
    return Scores(errors, (errors < 1).astype(jnp.float32), jnp.ones(labels.shape, jnp.int32))


def apart(algorithm: Algorithm, num_clients: int) -> Algorithm:
    """The same local work, but nothing is averaged: row k of the next state is client k's result.

    A row is the client's value times one plus zeros, so it holds the value's very bits.
    """
    client_update = algorithm.phases[0].client_update

    def one_row(
        state: Any, client: Clients, facts: ChunkFacts, examples: Examples, key: jax.Array
    ) -> ClientUpdate:
        sent = client_update(state, client, facts, examples, key)
        mine = jax.nn.one_hot(client.id, num_clients)  # all zeros for nobody
        sums = jax.tree.map(lambda x: jnp.tensordot(mine, x, axes=0), sent.sums)
        return ClientUpdate(sums, jnp.ones(()), sent.metrics)

    return algorithm._replace(phases=[Phase(one_row, lambda state, sums, weights, facts: sums)])


def means(labels_of: float = 1.0) -> Algorithm:
    """Each client sends `labels_of` times the mean of its train labels, and nothing is random."""

    def client_update(
        state: jax.Array, client: Clients, facts: ChunkFacts, examples: Examples, key: jax.Array
    ) -> ClientUpdate:
        counted = jnp.arange(client.train.shape[0]) < client.num_train
        total = jnp.where(counted, examples.targets[client.train], 0).sum()
        value = labels_of * total / jnp.maximum(client.num_train, 1)
        count = client.num_examples.astype(jnp.float32)
        return ClientUpdate(count * value, count, {"value": value})

    def server_update(
        state: jax.Array, sums: jax.Array, weights: jax.Array, facts: Any
    ) -> jax.Array:
        return weighted_mean(sums, weights, state)

    return Algorithm(lambda key: jnp.zeros(()), [Phase(client_update, server_update)], _no_score)


def _no_score(state: Any, images: jax.Array, labels: jax.Array) -> Scores:
    zeros = jnp.zeros(labels.shape)
    return Scores(zeros, zeros, jnp.ones(labels.shape, jnp.int32))


def population(steps: tuple[int, ...] = STEPS, batch_size: int = BATCH) -> Clients:
    """Clients with the given steps an epoch and one example more than a multiple of a batch."""
    sizes = [batch_size * s + 1 if s else 0 for s in steps]
    return clients_of_sizes(sizes, batch_size)


def clients_of_sizes(sizes: list[int], batch_size: int = BATCH) -> Clients:
    """Clients that hold the examples 0, 1, 2, ... in order, and validate on what they train on."""
    parts = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    return build([Division(part, part, part[:0]) for part in parts], batch_size)


def random_examples(count: int = 40, seed: int = 0) -> Examples:
    """Float images [N, 2, 2, 1] and labels 0..9."""
    rng = np.random.RandomState(seed)
    images = rng.standard_normal((count, 2, 2, 1)).astype(np.float32)
    return jax.device_put(Examples(images, rng.randint(0, 10, count).astype(np.int32)))


def cohort_of(rows: list[list[int]], clients: Clients) -> Cohort:
    """A cohort whose chunks are the given ids; `NOBODY` leaves a place empty."""
    ids = np.array(rows, np.int32)
    steps = np.where(ids == NOBODY, 0, np.asarray(clients.local_steps)[ids])
    return Cohort(ids, steps.max(axis=1).astype(np.int32))


class CountState(NamedTuple):
    """State of `ids_plus`."""

    mean: jax.Array


def ids_plus(personal: bool = False, bad: int = -2, value: float = np.nan) -> Algorithm:
    """Clients send 10 + id; with `personal` they also count their rounds and add the count."""

    def client_update(state, client, facts, examples, key):
        count = client.num_examples.astype(jnp.float32)
        sent = 10.0 + client.id + (client.personal["rounds"] if personal else 0)
        sent = jnp.where(client.id == bad, value, sent)
        kept = {"rounds": client.personal["rounds"] + 1} if personal else ()
        return ClientUpdate({"mean": count * sent}, count, {"sent": sent}, kept)

    def server_update(state, sums, weights, facts):
        return CountState(weighted_mean(sums, weights, {"mean": state.mean})["mean"])

    return Algorithm(
        lambda key: CountState(jnp.zeros(())),
        [Phase(client_update, server_update)],
        evaluate_linear,
        personal=(lambda state: {"rounds": jnp.float32(0)}) if personal else None,
    )


def median(sent: Any, present: jax.Array) -> Any:
    sums, weights = sent
    values = jax.tree.map(lambda x: x / jnp.maximum(weights, 1), sums)
    inside = jax.tree.map(lambda x: jnp.where(present, x, jnp.nan), values)
    return jax.tree.map(lambda x: jnp.nanmedian(x, axis=0), inside), jnp.float32(1)


MEDIAN = buffered("median", median)
