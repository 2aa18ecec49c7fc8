"""FedNAS on the smallest supernet there is: what the stand-in cannot show."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.algorithms.fednas import algorithm as fednas
from fednas_jax.algorithms.fednas.algorithm import FedNASOptions, ServerState
from fednas_jax.algorithms.fednas.milenas import SearchOptions
from fednas_jax.data import vision
from fednas_jax.data.augment import Augmentation
from fednas_jax.federated import evaluation, round
from fednas_jax.federated.clients import Examples, build, divide
from fednas_jax.federated.cohort import NOBODY, Cohort, in_chunks
from fednas_jax.federated.evaluation import Evaluator
from fednas_jax.federated.round import RoundEngine
from fednas_jax.runtime.compilation import jit_once
from fednas_jax.spaces.darts.supernet import Supernet
from tests.federated.toys import cohort_of
from tests.quick import quick_jit

CLASSES, BATCH, SIDE = 3, 4, 8
MEAN, STD = (0.4,), (0.3,)
SIZES = (17, 30, 5)  # 8, 15 and 2 are trained on: 2, 3 and 1 steps an epoch
UNSEEN = 60
KEY = jax.random.key(3)


def examples() -> Examples:
    """Noise [N, 8, 8, 1] with a bright band for each class, 0..1."""
    rng = np.random.RandomState(0)
    count = sum(SIZES) + UNSEEN
    labels = rng.randint(0, CLASSES, count).astype(np.int32)
    images = 0.5 * rng.random_sample((count, SIDE, SIDE, 1)).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        image[2 * label + 1 : 2 * label + 3] += 0.5
    return jax.device_put(Examples(images, labels))


EXAMPLES = examples()
CLIENTS = build(
    [divide(part, 0.0, 0.5) for part in np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])],
    BATCH,
)
ALGORITHM = fednas.build(
    Supernet(CLASSES, init_channels=2, layers=3, scan_sources=True),
    vision.task(EXAMPLES.inputs[0], Augmentation(1, False, 2, MEAN, STD)),
    FedNASOptions(2, BATCH, 0.1, 0.01, SearchOptions()),
)


def cohort(clients_per_chunk: int) -> Cohort:
    return in_chunks(np.arange(3), np.asarray(CLIENTS.local_steps), clients_per_chunk)


@pytest.fixture(scope="module", autouse=True)
def _compiled_fast() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (round, evaluation):
            patch.setattr(module, "jit", quick_jit)
        yield


@pytest.fixture(scope="module")
def state() -> ServerState:
    return jit_once(ALGORITHM.init)(jax.random.key(0))


@pytest.fixture(scope="module")
def engines() -> dict[int, RoundEngine]:
    """By clients a chunk. One compilation each takes most of this file's time."""
    return {size: RoundEngine(ALGORITHM, CLIENTS, EXAMPLES, size) for size in (1, 3)}


@pytest.fixture(scope="module")
def after(engines, state) -> ServerState:
    return engines[1].run(state, cohort(1), KEY)[0]


def test_round_changes_weights_alphas_and_statistics(state, after):
    names = jax.tree_util.tree_flatten_with_path(state)[0]
    for (path, old), new in zip(names, jax.tree.leaves(after), strict=True):
        assert old.shape == new.shape
        assert old.dtype == new.dtype == jnp.float32
        assert np.isfinite(new).all(), path
        assert (np.asarray(old) != np.asarray(new)).mean() > 0.2, path


def test_recalibrated_stem_has_the_moments_of_all_train_batches(after):
    # The stem's convolution written out; the batches in the clients' order, the last one wrapped.
    kernel = np.asarray(after.params["stem"]["kernel"], np.float64).reshape(-1, 3, 3)
    inputs = (np.asarray(EXAMPLES.inputs[..., 0], np.float64) - MEAN) / STD
    padded = np.pad(inputs, ((0, 0), (1, 1), (1, 1)))
    maps = sum(
        kernel[:, i, j, None, None] * padded[:, None, i : i + SIDE, j : j + SIDE]
        for i in range(3)
        for j in range(3)
    )
    batches = [
        [np.resize(row[:count], 4 * steps)[4 * s : 4 * s + 4] for s in range(steps)]
        for row, count, steps in zip(
            CLIENTS.train, CLIENTS.num_train, CLIENTS.local_steps, strict=True
        )
    ]
    seen = np.stack([maps[at] for client in batches for at in client])  # [6, 4, C, 8, 8]
    assert len(seen) == 6
    pixels = seen.swapaxes(1, 2).reshape(6, seen.shape[2], -1)
    # The last client has two examples: its wrapped batch counts as two.
    weights, means = [4, 4, 4, 4, 4, 2], pixels.mean(axis=2)
    expected_mean = np.average(means, axis=0, weights=weights)
    between = np.average((means - expected_mean) ** 2, axis=0, weights=weights)
    within = np.average(pixels.var(axis=2, ddof=1), axis=0, weights=weights)
    expected_var = within + between
    moments = after.batch_stats["stem"]["batch_norm"]
    np.testing.assert_allclose(moments["mean"], expected_mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(moments["var"], expected_var, rtol=1e-4)


def test_chunk_sizes_1_and_K_agree(engines, state, after):
    # Float32 in another order (products of a batch of clients), carried through six steps of
    # training, in which a ReLU or a maximum near its kink may fall on the other side: up to 1e-4
    # seen. A wrong weight or batch would show in the first digit.
    together, _ = engines[3].run(state, cohort(3), KEY)
    for one, two in zip(jax.tree.leaves(after), jax.tree.leaves(together), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-3)


def test_a_client_alone_equals_the_same_client_beside_larger_ones(engines, state):
    # To the bit, as far as its losses tell: each depends on all weights of the step before.
    _, (alone, _) = engines[3].run(state, cohort_of([[2, NOBODY, NOBODY]], CLIENTS), KEY)
    _, (beside, _) = engines[3].run(state, cohort_of([[0, 2, 1]], CLIENTS), KEY)
    for name in alone:
        assert alone[name][0, 0] == beside[name][0, 1], name


def test_same_seed_same_bits_other_seed_other_bits(engines, state, after):
    again, _ = engines[1].run(state, cohort(1), jax.random.key(3))
    jax.tree.map(np.testing.assert_array_equal, again, after)
    other, _ = engines[1].run(state, cohort(1), jax.random.key(4))
    assert (np.asarray(other.arch["normal"]) != np.asarray(after.arch["normal"])).any()


def test_search_learns(engines, state):
    test = np.arange(sum(SIZES), sum(SIZES) + UNSEEN)
    score = Evaluator(ALGORITHM, EXAMPLES, [test], UNSEEN)
    before = score(state)[0]
    for number in range(12):
        state, (metrics, _) = engines[1].run(state, cohort(1), jax.random.fold_in(KEY, number))
        assert np.asarray(metrics["finite"]).all()
    after = score(state)[0]
    assert after.accuracy > 0.8
    assert after.loss < before.loss
