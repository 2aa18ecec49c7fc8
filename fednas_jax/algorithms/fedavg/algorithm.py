"""FedAvg: every client trains the server's network on its own examples; the server averages.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas: Communication-Efficient Learning of Deep Networks
from Decentralized Data, AISTATS 2017, arXiv:1602.05629, Algorithm 1. FedNAS trains the networks
that it finds in this way, with momentum, decay, clipped gradients and a falling learning rate.
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
    """The server state. `params` and `batch_stats` are sent to every client."""

    params: Tree
    """Weights w of the network."""
    batch_stats: Tree
    """Running moments of its BatchNorms; empty if it has none."""
    optimizer: Tree = ()
    """State of the server's optimiser, which is not sent to clients; empty if there is none."""


class FedAvgOptions(NamedTuple):
    """Hyperparameters; see `fednas_jax.config` for each. Defaults are those of McMahan et al."""

    local_epochs: int
    batch_size: int
    """B; 0 for all of a client's examples at once."""
    learning_rate: LearningRate
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    auxiliary_weight: float = 0.0
    """Weight of the loss of an auxiliary head's logits, if the network has such a head."""
    drop_path: Ramp | None = None
    """Probability of drop path; only for a network that takes `drop_path_rate` and `key`."""
    batch_stats: str = "recalibrated"
    """How the server gets BatchNorm statistics: `averaged` or `recalibrated`."""
    recalibration_fraction: float = 1.0
    """Share of an epoch's batches from which they are recalibrated; above 0."""
    fedprox_mu: float = 0.0
    """mu of FedProx (Li et al., MLSys 2020, arXiv:1812.06127, Eq. 2): mu / 2 times the squared
    distance from the server's weights is added to the loss."""
    server: optax.GradientTransformation | None = None
    """The server's optimiser, as `server_optimizer.build` returns it; None for plain averaging."""


class _Local(NamedTuple):
    """The variables and optimiser state of a client while it trains."""

    params: Tree
    batch_stats: Tree
    """Empty if they are not sent."""
    optimizer: optax.OptState


class _Batch(NamedTuple):
    """The batch of a local step, [B, ...] each except the key."""

    inputs: Tree
    """Inputs as the network reads them."""
    targets: Tree
    counts: jax.Array
    """1.0; 0.0 for an example that only fills the batch."""
    key: jax.Array
    """For the network's random draws."""


class _Epoch(NamedTuple):
    """What the steps of a local epoch share."""

    order: jax.Array
    key: jax.Array
    learning_rate: ArrayLike


class _Sums(NamedTuple):
    """Sums over the examples of a client's local steps, for its metrics."""

    loss: jax.Array
    correct: jax.Array
    units: jax.Array
    """Number of examples, or of their tokens."""


def build(network: nn.Module, task: Task, options: FedAvgOptions) -> Algorithm:
    """FedAvg as an `Algorithm` of the round engine.

    `local_steps` of clients has to count a last, smaller batch, as `clients.build` does with
    `last_batch=True`.

    Args:
      network: prepared inputs [B, ...] -> outputs, or in training (outputs, auxiliary outputs). In
        training it may draw from the key `dropout`; it may have statistics in `batch_stats`.
      task: the data set's task.
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
    """The shapes of the network's variables, from those of its inputs."""
    inputs = jax.tree.unflatten(tree, leaves)
    return jax.eval_shape(lambda: network.lazy_init(jax.random.key(0), inputs, train=False))


def _variables_of(params: Tree, batch_stats: Tree) -> dict[str, Tree]:
    return {"params": params} | ({"batch_stats": batch_stats} if batch_stats else {})


class _Training(NamedTuple):
    """Constants of a run; the methods are the algorithm's pure functions."""

    network: nn.Module
    task: Task
    options: FedAvgOptions
    averages_statistics: bool
    """Whether clients update and send BatchNorm statistics."""

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
        """Takes the means of the clients' values, or makes a step of the server's optimiser."""
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
        """BatchNorm statistics of a batch, with inputs as in evaluation."""
        inputs = self.task.prepare(inputs)

        def moved(running: Tree) -> Tree:
            variables = {"params": state.params, "batch_stats": running}
            _, changed = self.network.apply(variables, inputs, train=True, mutable=["batch_stats"])
            return changed["batch_stats"]

        # A pass changes running statistics to k * running + (1 - k) * batch, with an unknown k in
        # each layer. The derivative with respect to running is k.
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
        """The batch of a local step.

        The last batch of an epoch is filled up with examples that do not count. In a step that a
        client makes only because its chunk's longest client does, no example counts, so the
        gradient is zero. All are the client's own examples, so that BatchNorm gets a full batch.
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
        """The mean loss of the examples that count; and (new statistics, sums for metrics)."""
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
    """w times n_k, and means of metrics over the examples of the local steps."""
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
