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
from jax.typing import ArrayLike

from fednas_jax.data.task import Scores, Task, prepared
from fednas_jax.federated import batches, recalibration, server_optimizer
from fednas_jax.federated.algorithm import (
    Algorithm,
    ChunkFacts,
    ClientUpdate,
    Phase,
    ServerFacts,
    weighted_mean,
    weighted_update,
)
from fednas_jax.federated.clients import Clients, Examples
from fednas_jax.federated.local_loop import local_loop, steps_made
from fednas_jax.federated.local_optimizer import sgd
from fednas_jax.federated.rate_schedules import LearningRate, Ramp

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

    inputs: Tree
    """As the network reads them."""
    targets: Tree
    counts: jax.Array
    """1.0, or 0.0 of an example that only fills the batch."""
    key: jax.Array
    """For what the network draws."""


class _Epoch(NamedTuple):
    """What the steps of a local epoch share."""

    order: jax.Array
    key: jax.Array
    learning_rate: ArrayLike


class _Sums(NamedTuple):
    """Sums over what a client has learnt from, for its metrics."""

    loss: jax.Array
    correct: jax.Array
    units: jax.Array
    """Examples, or their tokens."""


def build(network: nn.Module, task: Task, options: FedAvgOptions) -> Algorithm:
    """FedAvg as the round engine runs it.

    Clients need `local_steps` that count a last, smaller batch: `clients.build` with
    `last_batch=True`.

    Args:
      network: prepared inputs [B, ...] -> outputs, or in training (outputs, auxiliary outputs);
        may draw from the key `dropout` in training, and keep statistics in `batch_stats`.
      task: what the data set asks for.
      options: hyperparameters.
    """
    leaves, tree = jax.tree.flatten(prepared(task))
    with_statistics = "batch_stats" in _shapes(network, tree, tuple(leaves))
    recalibrates = with_statistics and options.batch_stats == "recalibrated"
    training = _Training(network, task, options, with_statistics and not recalibrates)
    phases = [Phase(training.client_update, training.server_update)]
    if recalibrates:
        phases.append(
            recalibration.phase(
                training.observe, options.batch_size, options.recalibration_fraction
            )
        )
    return Algorithm(training.init, phases, training.evaluate, broadcast=_broadcast)


@functools.lru_cache(maxsize=8)  # tracing a large network takes seconds, and it is built twice
def _shapes(network: nn.Module, tree: Any, leaves: tuple[jax.ShapeDtypeStruct, ...]) -> Any:
    """The network's variables, as shapes, of inputs as shapes."""
    inputs = jax.tree.unflatten(tree, leaves)
    return jax.eval_shape(lambda: network.lazy_init(jax.random.key(0), inputs, train=False))


def _variables_of(params: Tree, batch_stats: Tree) -> dict[str, Tree]:
    return {"params": params} | ({"batch_stats": batch_stats} if batch_stats else {})


class _Training(NamedTuple):
    """What is fixed during a run; its methods are the algorithm's pure functions."""

    network: nn.Module
    task: Task
    options: FedAvgOptions
    averages_statistics: bool
    """Whether clients keep and send BatchNorm statistics."""

    def init(self, key: jax.Array) -> ServerState:
        """The server's first state."""
        variables = self.network.lazy_init(key, prepared(self.task), train=False)
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

        def begin(number: jax.Array) -> _Epoch:
            order_key, step_key = jax.random.split(jax.random.fold_in(key, number))
            order = batches.shuffled(order_key, client.train, client.num_train)
            return _Epoch(order, step_key, self.options.learning_rate(number, facts.round))

        def step(i: jax.Array, epoch: _Epoch, now: Clients, carry: Any) -> Any:
            local, sums = carry
            step_key = jax.random.fold_in(epoch.key, i)
            batch = self._batch(epoch.order, i, now, examples, step_key)
            local, added = self._step(local, state, batch, epoch.learning_rate, facts.round)
            return local, jax.tree.map(jnp.add, sums, added)

        statistics = state.batch_stats if self.averages_statistics else {}
        local = _Local(state.params, statistics, self._optimizer.init(state.params))
        local, sums = local_loop(
            (local, _Sums(*(jnp.zeros(()) for _ in _Sums._fields))),
            client,
            facts,
            local_epochs=self.options.local_epochs,
            batch_size=self._batch_size(client),
            begin=begin,
            step=step,
            waits=self._moves_without_gradient,
        )
        sent = {"params": local.params, "batch_stats": local.batch_stats}
        sent = {name: tree for name, tree in sent.items() if tree}
        return _client_update(sent, sums, client, steps_made(client, self.options.local_epochs))

    def server_update(
        self, state: ServerState, sums: dict[str, Tree], weights: jax.Array, facts: ServerFacts
    ) -> ServerState:
        """The means of what the clients have sent, or a step of the server's optimiser."""
        del facts
        before = {name: getattr(state, name) for name in sums}
        mean = weighted_mean(sums, weights, before)
        if self.options.server is not None:
            mean["params"], mean["optimizer"] = server_optimizer.step(
                self.options.server, state.optimizer, state.params, mean["params"], weights > 0
            )
        return state._replace(**mean)

    def evaluate(self, state: ServerState, inputs: Tree, targets: Tree) -> Scores:
        """Scores of the network."""
        variables = _variables_of(state.params, state.batch_stats)
        outputs = self.network.apply(variables, self.task.prepare(inputs), train=False)
        return self.task.score(outputs, targets)

    def observe(self, state: ServerState, inputs: Tree) -> Tree:
        """BatchNorm statistics of a batch, as inputs are when evaluated."""
        inputs = self.task.prepare(inputs)

        def moved(running: Tree) -> Tree:
            variables = {"params": state.params, "batch_stats": running}
            _, changed = self.network.apply(variables, inputs, train=True, mutable=["batch_stats"])
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

    def _batch_size(self, client: Clients) -> int:
        return self.options.batch_size or client.train.shape[0]

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
        size = self._batch_size(client)
        at = batches.batch(order, client.num_train, step, size)
        counts = step * size + jnp.arange(size) < client.num_train
        augment_key, network_key = jax.random.split(key)
        raw = examples.take(at)
        inputs = self.task.augment(augment_key, raw.inputs)
        return _Batch(inputs, raw.targets, counts.astype(jnp.float32), network_key)

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
            variables, batch.inputs, train=True, mutable=["batch_stats"], **drawing
        )
        outputs, *auxiliary = output if isinstance(output, tuple) else (output,)
        scores = self.task.score(outputs, batch.targets)
        total, units = batch.counts @ scores.loss, (batch.counts * scores.units).sum()
        sums = _Sums(total, batch.counts @ scores.correct, units)
        for other in auxiliary:
            loss = self.task.score(other, batch.targets).loss
            total += self.options.auxiliary_weight * (batch.counts @ loss)
        return total / jnp.maximum(units, 1), (changed.get("batch_stats", {}), sums)


def _client_update(
    result: dict[str, Tree], sums: _Sums, client: Clients, local_steps: jax.Array
) -> ClientUpdate:
    """w times n_k, and means over what the client has learnt from."""
    seen = jnp.maximum(sums.units, 1)
    return weighted_update(
        result,
        client,
        loss=sums.loss,
        train_loss=sums.loss / seen,
        train_accuracy=sums.correct / seen,
        local_steps=local_steps.astype(jnp.float32),
    )


def _broadcast(state: ServerState) -> ServerState:
    return state._replace(optimizer=())
