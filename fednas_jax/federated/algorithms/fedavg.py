"""FedAvg: every client trains the server's network on its own examples; the server averages.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas: Communication-Efficient Learning of Deep Networks
from Decentralized Data, AISTATS 2017, arXiv:1602.05629, Algorithm 1.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from fednas_jax.data.augment import Augmentation, augment, normalize
from fednas_jax.federated import batches
from fednas_jax.federated.clients import Clients, Examples
from fednas_jax.federated.round import Algorithm, ChunkFacts, ClientUpdate, Phase, weighted_mean
from fednas_jax.federated.scoring import score

Tree = Any


class ServerState(NamedTuple):
    """What the server holds and sends to every client."""

    params: Tree
    """Weights w of the network."""


class FedAvgOptions(NamedTuple):
    """Hyperparameters; see `fednas_jax.config` for each."""

    local_epochs: int
    batch_size: int
    learning_rate: float


class _Sums(NamedTuple):
    """Sums over the examples that a client has learnt from, for its metrics."""

    loss: jax.Array
    correct: jax.Array
    examples: jax.Array


def build(
    network: nn.Module,
    image_shape: tuple[int, int, int],
    augmentation: Augmentation,
    options: FedAvgOptions,
) -> Algorithm:
    """FedAvg as the round engine runs it.

    Clients need `local_steps` that count a last, smaller batch: `clients.build` with
    `last_batch=True`.

    Args:
      network: images [B, H, W, C] -> logits; may draw from the key `dropout` in training.
      image_shape: H, W, C.
      augmentation: of the images that clients learn from.
      options: hyperparameters.
    """
    task = _Task(network, image_shape, augmentation, options)
    return Algorithm(task.init, [Phase(task.client_update, _server_update)], task.evaluate)


class _Task(NamedTuple):
    """What is fixed during a run; its methods are the algorithm's pure functions."""

    network: nn.Module
    image_shape: tuple[int, int, int]
    augmentation: Augmentation
    options: FedAvgOptions

    def init(self, key: jax.Array) -> ServerState:
        """The server's first state."""
        images = jax.ShapeDtypeStruct((1, *self.image_shape), jnp.float32)
        return ServerState(self.network.lazy_init(key, images, train=False)["params"])

    def client_update(
        self,
        state: ServerState,
        client: Clients,
        facts: ChunkFacts,
        examples: Examples,
        key: jax.Array,
    ) -> ClientUpdate:
        """ClientUpdate of Algorithm 1: local epochs over all examples in batches, plain SGD."""

        def epoch(number: jax.Array, carry: Any) -> Any:
            order_key, step_key = jax.random.split(jax.random.fold_in(key, number))
            order = batches.shuffled(order_key, client.train, client.num_train)

            def step(i: jax.Array, carry: Any) -> Any:
                params, sums = carry
                batch = self._batch(order, i, client, examples, jax.random.fold_in(step_key, i))
                gradient, now = jax.grad(self._loss, has_aux=True)(params, *batch)
                rate = self.options.learning_rate
                params = jax.tree.map(lambda w, g: w - rate * g, params, gradient)
                return params, jax.tree.map(jnp.add, sums, now)

            return lax.fori_loop(0, facts.local_steps, step, carry)

        sums = _Sums(*(jnp.zeros(()) for _ in _Sums._fields))
        params, sums = lax.fori_loop(0, self.options.local_epochs, epoch, (state.params, sums))
        return _client_update(ServerState(params), sums, client)

    def evaluate(
        self, state: ServerState, images: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Losses and correctness of the network."""
        images = normalize(images, self.augmentation.mean, self.augmentation.std)
        logits: Any = self.network.apply({"params": state.params}, images, train=False)
        return score(logits, labels)

    def _batch(
        self,
        order: jax.Array,
        step: jax.Array,
        client: Clients,
        examples: Examples,
        key: jax.Array,
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Images, labels, which of them count, and a key for the network.

        The last batch of an epoch is filled up with examples that do not count, and so is all of a
        step that a client makes only because its chunk's longest does: its gradient is zero.
        """
        size = self.options.batch_size
        at = batches.batch(order, client.num_train, step, size)
        counts = step * size + jnp.arange(size) < client.num_train
        augment_key, dropout_key = jax.random.split(key)
        images = augment(augment_key, examples.images[at], self.augmentation)
        return images, examples.labels[at], counts.astype(jnp.float32), dropout_key

    def _loss(
        self,
        params: Tree,
        images: jax.Array,
        labels: jax.Array,
        counts: jax.Array,
        key: jax.Array,
    ) -> tuple[jax.Array, _Sums]:
        rngs = {"dropout": key}
        logits: Any = self.network.apply({"params": params}, images, train=True, rngs=rngs)
        losses, correct = score(logits, labels)
        total, examples = counts @ losses, counts.sum()
        return total / jnp.maximum(examples, 1), _Sums(total, counts @ correct, examples)


def _client_update(result: ServerState, sums: _Sums, client: Clients) -> ClientUpdate:
    """w times n_k, and means over what the client has learnt from."""
    weight = client.num_examples.astype(jnp.float32)
    seen = jnp.maximum(sums.examples, 1)
    leaves = jax.tree.leaves((result, sums.loss))
    metrics = {
        "train_loss": sums.loss / seen,
        "train_accuracy": sums.correct / seen,
        "local_steps": client.local_steps.astype(jnp.float32),
        "weight": weight,
        "finite": jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all(),
    }
    return ClientUpdate(jax.tree.map(lambda w: weight * w, result), weight, metrics)


def _server_update(state: ServerState, sums: Tree, weights: Tree) -> ServerState:
    return weighted_mean(sums, weights, state)
