"""FedNAS: every client improves a supernet's weights and alphas; the server averages both.

He, Annavaram, Avestimehr: FedNAS: Federated Deep Learning via Neural Architecture Search, CVPR 2020
Workshop on NAS, arXiv:2004.08546. Local search: Eq. 4; aggregation: Eq. 5; both: Algorithm 1.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from fednas_jax.data.augment import Augmentation, augment, normalize
from fednas_jax.federated import batches
from fednas_jax.federated.clients import Clients, Examples
from fednas_jax.federated.round import (
    Algorithm,
    ChunkFacts,
    ClientUpdate,
    Phase,
    weighted_mean,
)
from fednas_jax.nn.supernet import Supernet
from fednas_jax.search.milenas import (
    SearchOptions,
    SearchState,
    cosine_learning_rate,
    local_step,
    start,
)

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

    def init(key: jax.Array) -> ServerState:
        images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        variables = supernet.lazy_init(key, images, train=False)
        return ServerState(variables["params"], variables["arch"], variables["batch_stats"])

    def loss_function(params: Tree, arch: Tree, batch_stats: Tree, batch: Any) -> Any:
        images, labels = batch
        variables = {"params": params, "arch": arch, "batch_stats": batch_stats}
        logits, changed = supernet.apply(variables, images, train=True, mutable=["batch_stats"])
        losses, correct = _score(logits, labels)
        return losses.mean(), (changed["batch_stats"], (losses.mean(), correct.mean()))

    def search(
        state: ServerState, client: Clients, facts: ChunkFacts, examples: Examples, key: jax.Array
    ) -> ClientUpdate:
        def load(key: jax.Array, indices: jax.Array) -> tuple[jax.Array, jax.Array]:
            return augment(key, examples.images[indices], augmentation), examples.labels[indices]

        def step(number: jax.Array, carry: Any, epoch: _Epoch) -> Any:
            local, sums = carry
            train_key, valid_key = jax.random.split(jax.random.fold_in(epoch.key, number))
            train = batches.batch(epoch.train, client.num_train, number, options.batch_size)
            valid = batches.batch(epoch.valid, client.num_valid, number, options.batch_size)
            local, metrics = local_step(
                loss_function,
                options.search,
                local,
                load(train_key, train),
                load(valid_key, valid),
                epoch.learning_rate,
            )
            (train_loss, train_correct), (valid_loss, valid_correct) = metrics
            now = _Sums(train_loss, train_correct, valid_loss, valid_correct, jnp.float32(1))
            return local, jax.tree.map(jnp.add, sums, now)

        def epoch(number: jax.Array, carry: Any) -> Any:
            facts_of_epoch = _start_epoch(jax.random.fold_in(key, number), number, client, options)

            def padded_step(i: jax.Array, carry: Any) -> Any:
                # A client that has walked through its epoch waits for the longest of its chunk.
                return lax.cond(
                    i < client.local_steps,
                    lambda c: step(i, c, facts_of_epoch),
                    lambda c: c,
                    carry,
                )

            return lax.fori_loop(0, facts.local_steps, padded_step, carry)

        local = start(state.params, state.arch, state.batch_stats, options.search)
        sums = _Sums(*(jnp.zeros(()) for _ in _Sums._fields))
        local, sums = lax.fori_loop(0, options.local_epochs, epoch, (local, sums))
        return _search_update(local, sums, client)

    def collect(state: ServerState, sums: Tree, weights: Tree) -> ServerState:
        return weighted_mean(sums, weights, state)

    def measure(
        state: ServerState, client: Clients, facts: ChunkFacts, examples: Examples, key: jax.Array
    ) -> ClientUpdate:
        del key
        observer = supernet.clone(momentum=0.0)
        variables = state._asdict()

        def step(number: jax.Array, sums: Tree) -> Tree:
            indices = batches.batch(client.train, client.num_train, number, options.batch_size)
            images = normalize(examples.images[indices], augmentation.mean, augmentation.std)
            _, seen = observer.apply(variables, images, train=True, mutable=["batch_stats"])
            present = (number < client.local_steps).astype(jnp.float32)
            return jax.tree.map(lambda s, x: s + present * x, sums, _raw(seen["batch_stats"]))

        zeros = jax.tree.map(jnp.zeros_like, _raw(state.batch_stats))
        sums = lax.fori_loop(0, facts.local_steps, step, zeros)
        # Batches count equally: all have the same number of examples.
        return ClientUpdate(sums, client.local_steps.astype(jnp.float32), {})

    def recalibrate(state: ServerState, sums: Tree, weights: Tree) -> ServerState:
        moments = weighted_mean(sums, weights, _raw(state.batch_stats))
        return state._replace(batch_stats=_moments(moments))

    def evaluate(
        state: ServerState, images: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        inputs = normalize(images, augmentation.mean, augmentation.std)
        logits: Any = supernet.apply(state._asdict(), inputs, train=False)
        return _score(logits, labels)

    phases = [Phase(search, collect)]
    if options.batch_stats == "recalibrated":
        phases.append(Phase(measure, recalibrate))
    return Algorithm(init, phases, evaluate)


class _Epoch(NamedTuple):
    """What the steps of a local epoch share."""

    key: jax.Array
    train: jax.Array
    valid: jax.Array
    learning_rate: jax.Array


def _start_epoch(
    key: jax.Array, number: jax.Array, client: Clients, options: FedNASOptions
) -> _Epoch:
    """Shuffles both parts anew: every epoch is a pass over each."""
    step_key, train_key, valid_key = jax.random.split(key, 3)
    return _Epoch(
        step_key,
        batches.shuffled(train_key, client.train, client.num_train),
        batches.shuffled(valid_key, client.valid, client.num_valid),
        cosine_learning_rate(
            number, options.local_epochs, options.learning_rate, options.learning_rate_min
        ),
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


def _score(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy and correctness of each example, [B] each."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses, (logits.argmax(axis=-1) == labels).astype(jnp.float32)


def _is_moments(tree: Tree) -> bool:
    return isinstance(tree, dict) and set(tree) == {"mean", "var"}


def _raw(batch_stats: Tree) -> Tree:
    """What adds up over batches: the mean, its square, and the variance inside the batch."""
    return jax.tree.map(
        lambda m: {"mean": m["mean"], "square": m["mean"] ** 2, "var": m["var"]},
        batch_stats,
        is_leaf=_is_moments,
    )


def _moments(raw: Tree) -> Tree:
    """Mean and variance of all examples: the variance inside batches plus that of their means."""

    def join(m: Tree) -> Tree:
        between = jnp.maximum(m["square"] - m["mean"] ** 2, 0.0)
        return {"mean": m["mean"], "var": m["var"] + between}

    return jax.tree.map(join, raw, is_leaf=lambda t: isinstance(t, dict) and "square" in t)
