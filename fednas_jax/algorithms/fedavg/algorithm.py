"""FedAvg: every client trains the server's network on its own examples; the server averages.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas: Communication-Efficient Learning of Deep Networks
from Decentralized Data, AISTATS 2017, arXiv:1602.05629, Algorithm 1. With momentum, decay, clipped
gradients and a learning rate that falls it is how FedNAS trains the networks it finds.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax
from jax.typing import ArrayLike

from fednas_jax.data.augment import Augmentation, augment, normalize
from fednas_jax.federated import batches, recalibration, server_optimizer
from fednas_jax.federated.algorithm import Algorithm, ChunkFacts, ClientUpdate, Phase, weighted_mean
from fednas_jax.federated.clients import Clients, Examples
from fednas_jax.federated.scoring import score
from fednas_jax.optimizers import sgd
from fednas_jax.schedules import LearningRate, Ramp

Tree = Any


class ServerState(NamedTuple):
    """What the server holds and sends to every client."""

    params: Tree
    """Weights w of the network."""
    batch_stats: Tree
    """Running moments of its BatchNorms; empty where it has none."""
    optimizer: Tree = ()
    """Of the server's optimiser, which it keeps to itself; empty where it has none."""


class FedAvgOptions(NamedTuple):
    """Hyperparameters; see `fednas_jax.config` for each. Defaults: as McMahan et al. train."""

    local_epochs: int
    batch_size: int
    """B; 0 for all of a client's examples at once."""
    learning_rate: LearningRate
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    auxiliary_weight: float = 0.0
    """Of the loss of an auxiliary head's logits, where the network has such a head."""
    drop_path: Ramp | None = None
    """Rate at which examples lose paths, of a network that takes `drop_path_rate` and `key`."""
    batch_stats: str = "recalibrated"
    """How the server comes to BatchNorm statistics: `averaged` or `recalibrated`."""
    recalibration_fraction: float = 1.0
    """Part of an epoch's batches that these are taken from; above 0."""
    fedprox_mu: float = 0.0
    """Of FedProx's term (Li et al., MLSys 2020, arXiv:1812.06127, Eq. 2): mu / 2 times the squared
    distance from the server's weights, added to the loss."""
    server: optax.GradientTransformation | None = None
    """The server's optimiser, of `server_optimizer.build`; None for plain averaging."""


class _Local(NamedTuple):
    """What a client changes while it trains."""

    params: Tree
    batch_stats: Tree
    """Empty where nobody will ask for them."""
    optimizer: optax.OptState


class _Batch(NamedTuple):
    """What a local step learns from, [B, ...] each but the key."""

    images: jax.Array
    labels: jax.Array
    counts: jax.Array
    """1.0, or 0.0 of an example that only fills the batch."""
    key: jax.Array
    """For what the network draws."""


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
      network: images [B, H, W, C] -> logits, or in training (logits, auxiliary logits); may draw
        from the key `dropout` in training, and keep statistics in `batch_stats`.
      image_shape: H, W, C.
      augmentation: of the images that clients learn from.
      options: hyperparameters.
    """
    with_statistics = "batch_stats" in _shapes(network, image_shape)
    recalibrates = with_statistics and options.batch_stats == "recalibrated"
    task = _Task(network, image_shape, augmentation, options, with_statistics and not recalibrates)
    phases = [Phase(task.client_update, task.server_update)]
    if recalibrates:
        phases.append(
            recalibration.phase(task.observe, options.batch_size, options.recalibration_fraction)
        )
    return Algorithm(task.init, phases, task.evaluate, broadcast=_broadcast)


@functools.lru_cache(maxsize=8)  # tracing a large network takes seconds, and it is built twice
def _shapes(network: nn.Module, image_shape: tuple[int, int, int]) -> Any:
    """The network's variables, as shapes."""
    return jax.eval_shape(lambda: _variables(network, image_shape, jax.random.key(0)))


def _variables(network: nn.Module, image_shape: tuple[int, int, int], key: jax.Array) -> Any:
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return network.lazy_init(key, images, train=False)


def _variables_of(params: Tree, batch_stats: Tree) -> dict[str, Tree]:
    return {"params": params} | ({"batch_stats": batch_stats} if batch_stats else {})


class _Task(NamedTuple):
    """What is fixed during a run; its methods are the algorithm's pure functions."""

    network: nn.Module
    image_shape: tuple[int, int, int]
    augmentation: Augmentation
    options: FedAvgOptions
    averages_statistics: bool
    """Whether clients keep and send BatchNorm statistics."""

    def init(self, key: jax.Array) -> ServerState:
        """The server's first state."""
        variables = _variables(self.network, self.image_shape, key)
        params, server = variables["params"], self.options.server
        optimizer = () if server is None else server.init(params)
        return ServerState(params, variables.get("batch_stats", {}), optimizer)

    def client_update(
        self,
        state: ServerState,
        client: Clients,
        facts: ChunkFacts,
        examples: Examples,
        key: jax.Array,
    ) -> ClientUpdate:
        """ClientUpdate of Algorithm 1: local epochs over all examples in batches."""
        own_epochs = client.facts.get("local_epochs", self.options.local_epochs)
        limit = client.facts.get("step_limit")
        size = self.options.batch_size or client.train.shape[0]

        def epoch(number: jax.Array, carry: Any) -> Any:
            order_key, step_key = jax.random.split(jax.random.fold_in(key, number))
            order = batches.shuffled(order_key, client.train, client.num_train)
            rate = self.options.learning_rate(number, facts.round)
            now = client if facts.local_epochs is None else _while(number < own_epochs, client)
            if limit is not None:
                now = _up_to(limit - number * client.local_steps, now, size)

            def step(i: jax.Array, carry: Any) -> Any:
                local, sums = carry
                batch = self._batch(order, i, now, examples, jax.random.fold_in(step_key, i))
                local, added = self._step(local, state, batch, rate, facts.round)
                return local, jax.tree.map(jnp.add, sums, added)

            def own_step(i: jax.Array, carry: Any) -> Any:
                # A client that has walked through its epoch waits for the longest of its chunk.
                return lax.cond(i < now.local_steps, lambda c: step(i, c), lambda c: c, carry)

            moves = self._moves_without_gradient
            return lax.fori_loop(0, facts.local_steps, own_step if moves else step, carry)

        statistics = state.batch_stats if self.averages_statistics else {}
        local = _Local(state.params, statistics, self._optimizer.init(state.params))
        sums = _Sums(*(jnp.zeros(()) for _ in _Sums._fields))
        most = self.options.local_epochs if facts.local_epochs is None else facts.local_epochs
        local, sums = lax.fori_loop(0, most, epoch, (local, sums))
        sent = {"params": local.params, "batch_stats": local.batch_stats}
        sent = {name: tree for name, tree in sent.items() if tree}
        made = own_epochs * client.local_steps if limit is None else limit
        return _client_update(sent, sums, client, made)

    def server_update(
        self, state: ServerState, sums: dict[str, Tree], weights: jax.Array
    ) -> ServerState:
        """The means of what the clients have sent, or a step of the server's optimiser."""
        before = {name: getattr(state, name) for name in sums}
        mean = weighted_mean(sums, weights, before)
        if self.options.server is not None:
            mean["params"], mean["optimizer"] = server_optimizer.step(
                self.options.server, state.optimizer, state.params, mean["params"], weights > 0
            )
        return state._replace(**mean)

    def evaluate(
        self, state: ServerState, images: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Losses and correctness of the network."""
        variables = _variables_of(state.params, state.batch_stats)
        logits: Any = self.network.apply(variables, self._normalize(images), train=False)
        return score(logits, labels)

    def observe(self, state: ServerState, images: jax.Array) -> Tree:
        """BatchNorm statistics of a batch, as images are when evaluated."""
        images = self._normalize(images)

        def moved(running: Tree) -> Tree:
            variables = {"params": state.params, "batch_stats": running}
            _, changed = self.network.apply(variables, images, train=True, mutable=["batch_stats"])
            return changed["batch_stats"]

        # Running statistics become k times themselves and 1 - k times the batch's, whatever k the
        # network's layers have: that is the derivative.
        zeros, ones = (jax.tree.map(f, state.batch_stats) for f in (jnp.zeros_like, jnp.ones_like))
        from_zero, kept = jax.jvp(moved, (zeros,), (ones,))
        return jax.tree.map(lambda x, k: x / (1 - k), from_zero, kept)

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return sgd(self.options.momentum, self.options.weight_decay, self.options.clip_norm)

    @property
    def _moves_without_gradient(self) -> bool:
        """Whether a step whose gradient is zero changes anything."""
        options = self.options
        pulls = options.momentum or options.weight_decay or options.fedprox_mu
        return bool(pulls or self.averages_statistics)

    def _normalize(self, images: jax.Array) -> jax.Array:
        return normalize(images, self.augmentation.mean, self.augmentation.std)

    def _batch(
        self,
        order: jax.Array,
        step: jax.Array,
        client: Clients,
        examples: Examples,
        key: jax.Array,
    ) -> _Batch:
        """A step's batch.

        The last batch of an epoch is filled up with examples that do not count, and so is all of a
        step that a client makes only because its chunk's longest does: its gradient is zero. They
        are the client's own, so that BatchNorm sees a whole batch of these.
        """
        size = self.options.batch_size or client.train.shape[0]
        at = batches.batch(order, client.num_train, step, size)
        counts = step * size + jnp.arange(size) < client.num_train
        augment_key, network_key = jax.random.split(key)
        images = augment(augment_key, examples.images[at], self.augmentation)
        return _Batch(images, examples.labels[at], counts.astype(jnp.float32), network_key)

    def _step(
        self, local: _Local, state: ServerState, batch: _Batch, rate: ArrayLike, round: ArrayLike
    ) -> tuple[_Local, _Sums]:
        running = local.batch_stats if self.averages_statistics else state.batch_stats
        gradient, (moved, now) = jax.grad(self._loss, has_aux=True)(
            local.params, running, batch, round
        )
        if mu := self.options.fedprox_mu:
            gradient = jax.tree.map(
                lambda g, w, start: g + mu * (w - start), gradient, local.params, state.params
            )
        updates, optimizer = self._optimizer.update(gradient, local.optimizer, local.params)
        params = jax.tree.map(lambda w, u: w - rate * u, local.params, updates)
        statistics = moved if self.averages_statistics else {}
        return _Local(params, statistics, optimizer), now

    def _loss(
        self, params: Tree, batch_stats: Tree, batch: _Batch, round: ArrayLike
    ) -> tuple[jax.Array, tuple[Tree, _Sums]]:
        """Mean loss over what counts; the statistics after it, and sums of loss and correctness."""
        variables = _variables_of(params, batch_stats)
        drawing: dict[str, Any] = {"rngs": {"dropout": batch.key}}
        if self.options.drop_path is not None:
            drawing["drop_path_rate"] = self.options.drop_path(round)
            drawing["key"] = jax.random.fold_in(batch.key, 1)
        output, changed = self.network.apply(
            variables, batch.images, train=True, mutable=["batch_stats"], **drawing
        )
        logits, *auxiliary = output if isinstance(output, tuple) else (output,)
        losses, correct = score(logits, batch.labels)
        total, examples = batch.counts @ losses, batch.counts.sum()
        sums = _Sums(total, batch.counts @ correct, examples)
        for other in auxiliary:
            total += self.options.auxiliary_weight * (batch.counts @ score(other, batch.labels)[0])
        return total / jnp.maximum(examples, 1), (changed.get("batch_stats", {}), sums)


def _client_update(
    result: dict[str, Tree], sums: _Sums, client: Clients, local_steps: jax.Array
) -> ClientUpdate:
    """w times n_k, and means over what the client has learnt from."""
    weight = client.num_examples.astype(jnp.float32)
    seen = jnp.maximum(sums.examples, 1)
    leaves = jax.tree.leaves((result, sums.loss))
    metrics = {
        "train_loss": sums.loss / seen,
        "train_accuracy": sums.correct / seen,
        "local_steps": local_steps.astype(jnp.float32),
        "weight": weight,
        "finite": jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all(),
    }
    return ClientUpdate(jax.tree.map(lambda w: weight * w, result), weight, metrics)


def _while(active: jax.Array, client: Clients) -> Clients:
    """The client, or one without examples: a straggler after its last epoch."""
    return client._replace(
        num_train=jnp.where(active, client.num_train, 0),
        local_steps=jnp.where(active, client.local_steps, 0),
    )


def _up_to(steps: jax.Array, client: Clients, batch_size: int) -> Clients:
    """The client with the batches of its next `steps` local steps alone."""
    steps = jnp.clip(steps, 0, client.local_steps)
    return client._replace(
        num_train=jnp.minimum(client.num_train, steps * batch_size), local_steps=steps
    )


def _broadcast(state: ServerState) -> ServerState:
    return state._replace(optimizer=())
