"""FedNAS: every client improves a supernet's weights and alphas; the server averages both.

He, Annavaram, Avestimehr: FedNAS: Federated Deep Learning via Neural Architecture Search, CVPR 2020
Workshop on NAS, arXiv:2004.08546. Local search: Eq. 4; aggregation: Eq. 5; both: Algorithm 1.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fednas_jax.data.augment import Augmentation, augment, normalize
from fednas_jax.federated import batches, recalibration
from fednas_jax.federated.algorithm import Algorithm, ChunkFacts, ClientUpdate, Phase, weighted_mean
from fednas_jax.federated.clients import Clients, Examples
from fednas_jax.federated.scoring import score
from fednas_jax.nn.supernet import Supernet
from fednas_jax.schedules import cosine
from fednas_jax.search.milenas import SearchOptions, SearchState, local_step, start

Tree = Any


class ServerState(NamedTuple):
    """What the server holds and sends to every client."""

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
    """How the server comes to BatchNorm statistics: `averaged` or `recalibrated`."""
    recalibration_fraction: float = 1.0
    """Part of an epoch's batches that these are taken from; above 0."""


class _Sums(NamedTuple):
    """Sums over the local steps of a client, for its metrics."""

    train_loss: jax.Array
    train_correct: jax.Array
    valid_loss: jax.Array
    valid_correct: jax.Array
    steps: jax.Array


def build(
    supernet: Supernet,
    image_shape: tuple[int, int, int],
    augmentation: Augmentation,
    options: FedNASOptions,
) -> Algorithm:
    """FedNAS as the round engine runs it.

    Args:
      supernet: the network to search in.
      image_shape: H, W, C.
      augmentation: of the images that clients learn from.
      options: hyperparameters.
    """
    task = _Task(supernet, image_shape, augmentation, options)
    phases = [Phase(task.search, _collect)]
    if options.batch_stats == "recalibrated":
        phases.append(
            recalibration.phase(task.observe, options.batch_size, options.recalibration_fraction)
        )
    return Algorithm(task.init, phases, task.evaluate, large=True)


class _Task(NamedTuple):
    """What is fixed during a run; its methods are the algorithm's pure functions."""

    supernet: Supernet
    image_shape: tuple[int, int, int]
    augmentation: Augmentation
    options: FedNASOptions

    def init(self, key: jax.Array) -> ServerState:
        """The server's first state."""
        images = jax.ShapeDtypeStruct((1, *self.image_shape), jnp.float32)
        variables = self.supernet.lazy_init(key, images, train=False)
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

        def step(number: jax.Array, carry: Any, epoch: _Epoch) -> Any:
            local, sums = carry
            local, now = self._step(local, number, epoch, client, examples)
            return local, jax.tree.map(jnp.add, sums, now)

        def epoch(number: jax.Array, carry: Any) -> Any:
            facts_of_epoch = _start_epoch(
                jax.random.fold_in(key, number), number, client, self.options
            )

            own_steps = client.local_steps
            if "step_limit" in client.facts:
                own_steps = jnp.minimum(own_steps, client.facts["step_limit"] - number * own_steps)

            def padded_step(i: jax.Array, carry: Any) -> Any:
                # A client that has walked through its epoch waits for the longest of its chunk.
                return lax.cond(
                    i < own_steps,
                    lambda c: step(i, c, facts_of_epoch),
                    lambda c: c,
                    carry,
                )

            return lax.fori_loop(0, facts.local_steps, padded_step, carry)

        local = start(state.params, state.arch, state.batch_stats, self.options.search)
        sums = _Sums(*(jnp.zeros(()) for _ in _Sums._fields))
        most = self.options.local_epochs if facts.local_epochs is None else facts.local_epochs
        local, sums = lax.fori_loop(0, most, epoch, (local, sums))
        return _search_update(local, sums, client)

    def evaluate(
        self, state: ServerState, images: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Losses and correctness of the supernet, by its running moments."""
        logits: Any = self.supernet.apply(state._asdict(), self._normalize(images), train=False)
        return score(logits, labels)

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
            (augment(key, examples.images[i], self.augmentation), examples.labels[i])
            for key, i in zip(keys, (train, valid), strict=True)
        )
        local, ((train_loss, train_correct), (valid_loss, valid_correct)) = local_step(
            self._loss, self.options.search, local, train_batch, valid_batch, epoch.learning_rate
        )
        one = jnp.float32(1)
        return local, _Sums(train_loss, train_correct, valid_loss, valid_correct, one)

    def _loss(
        self, params: Tree, arch: Tree, batch_stats: Tree, batch: Any, weight_gradients: jax.Array
    ) -> Any:
        images, labels = batch
        variables = {"params": params, "arch": arch, "batch_stats": batch_stats}
        logits, changed = self.supernet.apply(
            variables,
            images,
            train=True,
            weight_gradients=weight_gradients,
            mutable=["batch_stats"],
        )
        losses, correct = score(logits, labels)
        return losses.mean(), (changed["batch_stats"], (losses.mean(), correct.mean()))

    def observe(self, state: ServerState, images: jax.Array) -> Tree:
        """The statistics of a batch, as images are when evaluated."""
        observer = self.supernet.clone(momentum=0.0)
        images = self._normalize(images)
        _, seen = observer.apply(state._asdict(), images, train=True, mutable=["batch_stats"])
        return seen["batch_stats"]

    def _normalize(self, images: jax.Array) -> jax.Array:
        return normalize(images, self.augmentation.mean, self.augmentation.std)


def _collect(state: ServerState, sums: Tree, weights: Tree) -> ServerState:
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
    """Shuffles both parts anew.

    An epoch is as long as the train part; the validation part is walked along with it, and around
    again where it is shorter.
    """
    step_key, train_key, valid_key = jax.random.split(key, 3)
    return _Epoch(
        step_key,
        batches.shuffled(train_key, client.train, client.num_train),
        batches.shuffled(valid_key, client.valid, client.num_valid),
        cosine(number, options.local_epochs, options.learning_rate, options.learning_rate_min),
    )


def _search_update(local: SearchState, sums: _Sums, client: Clients) -> ClientUpdate:
    """w, alpha and statistics times N_k (Eq. 5), and the means over the client's local steps."""
    weight = client.num_examples.astype(jnp.float32)
    result = ServerState(local.params, local.arch, local.batch_stats)
    steps = jnp.maximum(sums.steps, 1.0)
    leaves = jax.tree.leaves((result, sums.train_loss, sums.valid_loss))
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()
    metrics = {
        "train_loss": sums.train_loss / steps,
        "train_accuracy": sums.train_correct / steps,
        "valid_loss": sums.valid_loss / steps,
        "valid_accuracy": sums.valid_correct / steps,
        "local_steps": sums.steps,
        "weight": weight,
        "finite": finite,
    }
    return ClientUpdate(jax.tree.map(lambda x: weight * x, result), weight, metrics)
