"""FedNAS: every client improves a supernet's weights and alphas; the server averages both.

He, Annavaram, Avestimehr: FedNAS: Federated Deep Learning via Neural Architecture Search, CVPR 2020
Workshop on NAS, arXiv:2004.08546. Local search: Eq. 4; aggregation: Eq. 5; both: Algorithm 1.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fednas_jax.algorithms.fednas.milenas import SearchOptions, SearchState, local_step, start
from fednas_jax.data.task import Scores, Task, prepared
from fednas_jax.federated import batches, recalibration
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
from fednas_jax.federated.local_loop import local_loop
from fednas_jax.federated.rate_schedules import cosine
from fednas_jax.spaces.darts.supernet import Supernet

Tree = Any


class ServerState(NamedTuple):
    """The server state, all of which is sent to every client."""

    params: Tree
    """Weights w of the supernet."""
    arch: Tree
    """Alphas: {"normal", "reduce"}, [14, 8] each."""
    batch_stats: Tree
    """Running moments of its BatchNorms."""


class FedNASOptions(NamedTuple):
    """Hyperparameters; see `fednas_jax.config` for each."""

    local_epochs: int
    batch_size: int
    learning_rate: float
    learning_rate_min: float
    search: SearchOptions
    batch_stats: str = "recalibrated"
    """How the server gets BatchNorm statistics: `averaged` or `recalibrated`."""
    recalibration_fraction: float = 1.0
    """Share of an epoch's batches from which they are recalibrated; above 0."""


class _Sums(NamedTuple):
    """Sums over the local steps of a client, for its metrics."""

    train_loss: jax.Array
    train_correct: jax.Array
    valid_loss: jax.Array
    valid_correct: jax.Array
    steps: jax.Array


def build(supernet: Supernet, task: Task, options: FedNASOptions) -> Algorithm:
    """FedNAS as an `Algorithm` of the round engine.

    Args:
      supernet: the network to search in.
      task: the data set's task.
      options: hyperparameters.
    """
    search = _Search(supernet, task, options)
    phases = [Phase(search.search, _collect)]
    if options.batch_stats == "recalibrated":
        phases.append(
            recalibration.phase(search.observe, options.batch_size, options.recalibration_fraction)
        )
    return Algorithm(search.init, phases, search.evaluate, large=True)


class _Search(NamedTuple):
    """Constants of a run; the methods are the algorithm's pure functions."""

    supernet: Supernet
    task: Task
    options: FedNASOptions

    def init(self, key: jax.Array) -> ServerState:
        """The server's first state."""
        variables = self.supernet.lazy_init(key, prepared(self.task), train=False)
        return ServerState(variables["params"], variables["arch"], variables["batch_stats"])

    def search(
        self,
        state: ServerState,
        client: Clients,
        facts: ChunkFacts,
        examples: Examples,
        key: jax.Array,
    ) -> ClientUpdate:
        """ClientLocalSearch of Algorithm 1: local epochs of local steps."""

        def begin(number: jax.Array) -> _Epoch:
            return _start_epoch(jax.random.fold_in(key, number), number, client, self.options)

        def step(number: jax.Array, epoch: _Epoch, now: Clients, carry: Any) -> Any:
            local, sums = carry
            local, added = self._step(local, number, epoch, now, examples)
            return local, jax.tree.map(jnp.add, sums, added)

        local = start(state.params, state.arch, state.batch_stats, self.options.search)
        local, sums = local_loop(
            (local, _Sums(*(jnp.zeros(()) for _ in _Sums._fields))),
            client,
            facts,
            local_epochs=self.options.local_epochs,
            batch_size=self.options.batch_size,
            begin=begin,
            step=step,
        )
        return _search_update(local, sums, client)

    def evaluate(self, state: ServerState, inputs: Tree, targets: Tree) -> Scores:
        """Scores of the supernet, with its running moments."""
        logits = self.supernet.apply(state._asdict(), self.task.prepare(inputs), train=False)
        return self.task.score(logits, targets)

    def _step(
        self,
        local: SearchState,
        number: jax.Array,
        epoch: "_Epoch",
        client: Clients,
        examples: Examples,
    ) -> tuple[SearchState, _Sums]:
        size = self.options.batch_size
        keys = jax.random.split(jax.random.fold_in(epoch.key, number))
        train = batches.batch(epoch.train, client.num_train, number, size)
        valid = batches.batch(epoch.valid, client.num_valid, number, size)
        train_batch, valid_batch = (
            self._batch(key, examples.take(indices))
            for key, indices in zip(keys, (train, valid), strict=True)
        )
        local, ((train_loss, train_correct), (valid_loss, valid_correct)) = local_step(
            self._loss, self.options.search, local, train_batch, valid_batch, epoch.learning_rate
        )
        one = jnp.float32(1)
        return local, _Sums(train_loss, train_correct, valid_loss, valid_correct, one)

    def _batch(self, key: jax.Array, examples: Examples) -> tuple[Tree, Tree]:
        return self.task.augment(key, examples.inputs), examples.targets

    def _loss(
        self,
        params: Tree,
        arch: Tree,
        batch_stats: Tree,
        batch: Any,
        needs_weight_gradients: jax.Array,
    ) -> Any:
        inputs, targets = batch
        variables = {"params": params, "arch": arch, "batch_stats": batch_stats}
        logits, changed = self.supernet.apply(
            variables,
            inputs,
            train=True,
            needs_weight_gradients=needs_weight_gradients,
            mutable=["batch_stats"],
        )
        scores = self.task.score(logits, targets)
        units = scores.units.sum()
        loss, accuracy = scores.loss.sum() / units, scores.correct.sum() / units
        return loss, (changed["batch_stats"], (loss, accuracy))

    def observe(self, state: ServerState, inputs: Tree) -> Tree:
        """BatchNorm statistics of a batch, with inputs as in evaluation."""
        observer = self.supernet.clone(momentum=0.0)
        inputs = self.task.prepare(inputs)
        _, seen = observer.apply(state._asdict(), inputs, train=True, mutable=["batch_stats"])
        return seen["batch_stats"]


def _collect(state: ServerState, sums: Tree, weights: Tree, facts: ServerFacts) -> ServerState:
    del facts
    return weighted_mean(sums, weights, state)


class _Epoch(NamedTuple):
    """What the steps of a local epoch share."""

    key: jax.Array
    train: jax.Array
    valid: jax.Array
    learning_rate: jax.Array


def _start_epoch(
    key: jax.Array, number: jax.Array, client: Clients, options: FedNASOptions
) -> _Epoch:
    """Shuffles both parts for an epoch.

    An epoch is one pass over the train part. The validation part is read at the same time, and from
    its start again if it is shorter.
    """
    step_key, train_key, valid_key = jax.random.split(key, 3)
    return _Epoch(
        step_key,
        batches.shuffled(train_key, client.train, client.num_train),
        batches.shuffled(valid_key, client.valid, client.num_valid),
        cosine(number, options.local_epochs, options.learning_rate, options.learning_rate_min),
    )


def _search_update(local: SearchState, sums: _Sums, client: Clients) -> ClientUpdate:
    """w, alpha and statistics times N_k (Eq. 5), and means of metrics over the local steps."""
    steps = jnp.maximum(sums.steps, 1.0)
    return weighted_update(
        ServerState(local.params, local.arch, local.batch_stats),
        client,
        loss=(sums.train_loss, sums.valid_loss),
        train_loss=sums.train_loss / steps,
        train_accuracy=sums.train_correct / steps,
        valid_loss=sums.valid_loss / steps,
        valid_accuracy=sums.valid_correct / steps,
        local_steps=sums.steps,
    )
