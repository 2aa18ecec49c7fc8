"""FedAvg of real networks, with all that the train stage adds: one round of each."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fednas_jax.algorithms.fedavg import algorithm as fedavg
from fednas_jax.data import vision
from fednas_jax.data.augment import Augmentation, normalize
from fednas_jax.federated import round
from fednas_jax.federated.algorithm import Algorithm
from fednas_jax.federated.clients import Examples, build, divide
from fednas_jax.federated.cohort import in_chunks
from fednas_jax.federated.rate_schedules import LearningRate, Ramp
from fednas_jax.federated.round import RoundEngine
from fednas_jax.networks.densenet import DenseNet
from fednas_jax.networks.resnet import ResNet
from fednas_jax.spaces.darts.genotype import Genotype
from fednas_jax.spaces.darts.network import Network
from tests.quick import quick_jit

CLASSES, BATCH, CLIENTS, ROUNDS, SIDE = 3, 8, 2, 3, 8
MEAN, STD = (0.5,), (0.25,)
KEY = jax.random.key(4)
RNG = np.random.RandomState(1)
IMAGES = RNG.random_sample((CLIENTS * BATCH, SIDE, SIDE, 1)).astype(np.float32)
LABELS = RNG.randint(0, CLASSES, len(IMAGES)).astype(np.int32)
EXAMPLES = jax.device_put(Examples(IMAGES, LABELS))
PARTS = np.split(np.arange(len(IMAGES)), CLIENTS)
POPULATION = build([divide(part, 0.0, 1.0) for part in PARTS], BATCH, last_batch=True)

GENOTYPE = Genotype(  # quick to compile
    (("dil_conv_3x3", 0), ("skip_connect", 1), ("max_pool_3x3", 2), *(("skip_connect", 0),) * 5),
    (2, 3, 4, 5),
    (("max_pool_3x3", 0), ("skip_connect", 1), *(("skip_connect", 2),) * 6),
    (2, 3, 4, 5),
)
DERIVED = Network(GENOTYPE, CLASSES, init_channels=2, layers=6, auxiliary=True)  # with a loop
TRAIN_STAGE: dict[str, Any] = {"drop_path": Ramp(0.5, ROUNDS), "auxiliary_weight": 0.4}


@pytest.fixture(scope="module", autouse=True)
def _compiled_fast() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(round, "jit", quick_jit)
        yield


def some_state(task: Algorithm) -> fedavg.ServerState:
    """Weights by numpy: to compile their first draws would take a quarter of the time."""
    rng = np.random.RandomState(2)
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    params = jax.tree.map(lambda x: (0.3 * rng.normal(size=x.shape)).astype(x.dtype), shapes.params)
    moments = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes.batch_stats)
    return jax.device_put(fedavg.ServerState(params, moments))


def moments_of_batches(network: nn.Module, state: fedavg.ServerState) -> Any:
    """Mean and variance of all examples, from passes over one client's images after another."""
    zeros = jax.tree.map(jnp.zeros_like, state.batch_stats)

    @quick_jit
    def seen(images: jax.Array) -> Any:
        variables = {"params": state.params, "batch_stats": zeros}
        images = normalize(images, MEAN, STD)
        _, changed = network.apply(variables, images, train=True, mutable=["batch_stats"])
        # A tenth of what was seen, and nine tenths of nothing.
        return jax.tree.map(lambda x: x / 0.1, changed["batch_stats"])

    def join(one: Any, two: Any) -> Any:
        if set(one) != {"mean", "var"}:
            return {name: join(one[name], two[name]) for name in one}
        mean = (one["mean"] + two["mean"]) / 2
        between = ((one["mean"] - mean) ** 2 + (two["mean"] - mean) ** 2) / 2
        return {"mean": mean, "var": (one["var"] + two["var"]) / 2 + between}

    return join(*(seen(IMAGES[part]) for part in PARTS))


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (DERIVED, TRAIN_STAGE),
        (DERIVED.clone(normalization="group", auxiliary=False), {}),
        (ResNet(CLASSES, blocks=2), {}),
        (DenseNet(CLASSES, (2, 2), 4, False), {}),
    ],
    ids=["derived", "derived, group", "resnet", "densenet"],
)
def test_a_round_moves_all_weights_and_takes_statistics_anew(
    network: nn.Module, options: dict[str, Any]
) -> None:
    settings = fedavg.FedAvgOptions(2, BATCH, LearningRate(0.1), momentum=0.9, **options)
    augmentation = Augmentation(1, True, 2, MEAN, STD)
    task = fedavg.build(network, vision.task(IMAGES[0], augmentation), settings)
    state = some_state(task)
    engine = RoundEngine(task, POPULATION, EXAMPLES, 1)

    def after(number: int) -> fedavg.ServerState:
        order = in_chunks(np.arange(CLIENTS), np.asarray(POPULATION.local_steps), 1, number)
        return engine.run(state, order, KEY)[0]

    found = after(2)
    for path, leaf in jax.tree_util.tree_leaves_with_path(found):
        assert np.isfinite(leaf).all(), path

    def moved(one: Any, two: Any) -> list[float]:
        return jax.tree.leaves(jax.tree.map(lambda a, b: float(np.abs(a - b).max()), one, two))

    assert min(moved(found.params, state.params)) > 0
    if options:
        assert min(moved(*(s.params["auxiliary_head"] for s in (found, state)))) > 1e-4
        # In the first round no path is dropped yet.
        assert max(moved(found.params, after(1).params)) > 1e-3
    if getattr(network, "normalization", "batch") == "group":
        assert found.batch_stats == {}
        return
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        found.batch_stats,
        moments_of_batches(network, found),
    )
