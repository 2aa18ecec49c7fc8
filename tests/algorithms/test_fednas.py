"""FedNAS on a stand-in supernet, against the plain local step and sums in numpy."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fednas_jax.algorithms.fednas import algorithm as fednas
from fednas_jax.algorithms.fednas import milenas
from fednas_jax.algorithms.fednas.algorithm import FedNASOptions, ServerState
from fednas_jax.algorithms.fednas.milenas import SearchOptions
from fednas_jax.data import vision
from fednas_jax.data.augment import Augmentation, augment
from fednas_jax.federated import batches
from fednas_jax.federated.algorithm import Algorithm
from fednas_jax.federated.clients import Clients, Examples, build, divide
from fednas_jax.federated.cohort import NOBODY, Cohort, in_chunks
from fednas_jax.federated.round import RoundEngine
from tests.algorithms.small import EPSILON, SmallSupernet
from tests.federated.toys import cohort_of
from tests.plain import local_step as plain

CLASSES, BATCH, EPOCHS = 3, 4, 2
RATE, RATE_MIN = 0.5, 0.1
ARCH_RATE = 0.05  # far above a real one, so that the orders differ visibly
LAMBDAS = {"lambda_train": 0.75, "lambda_valid": 1.5}
MEAN, STD = (0.5,), (0.25,)
PLAIN_IMAGES = Augmentation(0, False, 0, MEAN, STD)
AUGMENTED = Augmentation(1, True, 1, MEAN, STD)
NETWORK = SmallSupernet(CLASSES)
KEY = jax.random.key(9)
# Half of each is trained on: 10, 3, 1, 8 and no examples, so 2, 1, 1, 2 and no steps an epoch.
SIZES = (21, 6, 1, 16, 0)
EVERYONE = np.arange(len(SIZES))


def examples_of(count: int, seed: int = 0) -> Examples:
    """Noise [N, 3, 3, 1] that is brighter in the row of its class, 0..1."""
    rng = np.random.RandomState(seed)
    labels = rng.randint(0, CLASSES, count).astype(np.int32)
    images = 0.6 * rng.random_sample((count, 3, 3, 1)).astype(np.float32)
    images[np.arange(count), labels] += 0.4
    return jax.device_put(Examples(images, labels))


def clients_of(sizes: tuple[int, ...]) -> Clients:
    parts = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    return build([divide(part, 0.0, 0.5) for part in parts], BATCH)


EXAMPLES = examples_of(sum(SIZES))
CLIENTS = clients_of(SIZES)


def algorithm(
    batch_stats: str = "averaged",
    augmentation: Augmentation = PLAIN_IMAGES,
    recalibration_fraction: float = 1.0,
    **search: Any,
) -> Algorithm:
    searching = SearchOptions(arch_learning_rate=ARCH_RATE, **LAMBDAS, **search)
    options = FedNASOptions(
        EPOCHS, BATCH, RATE, RATE_MIN, searching, batch_stats, recalibration_fraction
    )
    return fednas.build(NETWORK, vision.task(EXAMPLES.inputs[0], augmentation), options)


def everyone(clients_per_chunk: int) -> Cohort:
    return in_chunks(EVERYONE, np.asarray(CLIENTS.local_steps), clients_per_chunk)


@pytest.fixture(scope="module")
def state() -> ServerState:
    return jax.jit(algorithm().init)(jax.random.key(0))


@pytest.fixture(scope="module")
def averaged() -> dict[int, RoundEngine]:
    return {n: RoundEngine(algorithm(), CLIENTS, EXAMPLES, n) for n in (1, 3, len(SIZES))}


@pytest.fixture(scope="module")
def recalibrated() -> dict[int, RoundEngine]:
    algorithms = {n: algorithm("recalibrated") for n in (1, 3)}
    return {n: RoundEngine(a, CLIENTS, EXAMPLES, n) for n, a in algorithms.items()}


def assert_close(one: Any, two: Any, tolerance: float) -> None:
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), one, two
    )


def test_initial_state(state):
    again = algorithm().init(jax.random.key(0))
    other = algorithm().init(jax.random.key(1))
    assert_close(again, state, 1e-7)
    assert (np.asarray(other.params["kernel"]) != np.asarray(state.params["kernel"])).all()
    assert (np.asarray(other.arch["normal"]) != np.asarray(state.arch["normal"])).all()
    np.testing.assert_array_equal(state.batch_stats["norm"]["mean"], np.zeros(9))
    np.testing.assert_array_equal(state.batch_stats["norm"]["var"], np.ones(9))


# --- One client's round by hand ---


class Walk(NamedTuple):
    """What a client has come to, worked out without the engine."""

    state: ServerState
    metrics: dict[str, float]
    train_orders: list[np.ndarray]
    valid_orders: list[np.ndarray]


def loss(params: Any, arch: Any, batch: Any) -> jax.Array:
    return score(params, arch, batch)[0]


def score(params: Any, arch: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
    images, labels = batch
    variables = {"params": params, "arch": arch}
    logits, _ = NETWORK.apply(variables, images, train=True, mutable=["batch_stats"])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean(), (logits.argmax(axis=-1) == labels).mean()


def moved(batch_stats: Any, images: jax.Array) -> Any:
    """PyTorch's running moments: a tenth of the new, with the unbiased variance."""
    x = np.asarray(images).reshape(len(images), -1)
    old = batch_stats["norm"]
    mean = 0.9 * old["mean"] + 0.1 * x.mean(axis=0)
    return {"norm": {"mean": mean, "var": 0.9 * old["var"] + 0.1 * x.var(axis=0, ddof=1)}}


def walk_by_hand(
    state: ServerState, client: int, order: str, augmentation: Augmentation, most: int = 99
) -> Walk:
    """Both epochs of a client with the plain local step; keys from (round, phase, client, step).

    Or the first steps of them, where there are more than `most`.
    """
    key = jax.random.fold_in(jax.random.fold_in(KEY, 0), client)
    counts = int(CLIENTS.num_train[client]), int(CLIENTS.num_valid[client])
    tables = jnp.asarray(CLIENTS.train[client]), jnp.asarray(CLIENTS.valid[client])
    w, alpha, batch_stats = state
    zeros = jax.tree.map(jnp.zeros_like, (w, alpha, alpha))
    local = plain.LocalState(w, alpha, *zeros, 0)
    orders: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    seen: list[list[float]] = []
    for epoch in range(EPOCHS):
        step_key, *part_keys = jax.random.split(jax.random.fold_in(key, epoch), 3)
        for part in (0, 1):
            shuffled = batches.shuffled(part_keys[part], tables[part], counts[part])
            orders[part].append(np.asarray(shuffled)[: counts[part]])
        # Cosine over two epochs: the whole rate, then the middle between the two rates.
        rate = [RATE, (RATE + RATE_MIN) / 2][epoch]
        for number in range(min(int(CLIENTS.local_steps[client]), most - len(seen))):
            keys = jax.random.split(jax.random.fold_in(step_key, number))
            train, valid = (
                load(keys[part], orders[part][epoch], number, augmentation) for part in (0, 1)
            )
            before = local
            local = plain.local_step(
                order,
                loss,
                *before,
                train,
                valid,
                learning_rate=rate,
                momentum=0.9,
                weight_decay=3e-4,
                clip_norm=5.0,
                arch_learning_rate=ARCH_RATE,
                beta1=0.5,
                beta2=0.999,
                arch_weight_decay=1e-3,
                **LAMBDAS,
            )
            valid_weights = local.w if order == "weights_first" else before.w
            seen.append(
                [
                    *map(float, score(before.w, before.alpha, train)),
                    *map(float, score(valid_weights, before.alpha, valid)),
                ]
            )
            for batch in {
                "joint": (train, valid),
                "weights_first": (train, train, valid),
                "alpha_first": (train, valid, train),
            }[order]:
                batch_stats = moved(batch_stats, batch[0])
    names = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
    metrics = dict(zip(names, np.mean(seen, axis=0), strict=True)) | {"local_steps": len(seen)}
    return Walk(ServerState(local.w, local.alpha, batch_stats), metrics, *orders)


def load(key: jax.Array, order: np.ndarray, number: int, augmentation: Augmentation) -> Any:
    """A batch: the next four of the order, from the start again behind its end."""
    at = np.resize(order, (number + 1) * BATCH + len(order))[number * BATCH :][:BATCH]
    return augment(key, EXAMPLES.inputs[at], augmentation), EXAMPLES.targets[at]


@pytest.mark.parametrize(
    ("order", "augmentation"),
    [
        ("joint", PLAIN_IMAGES),
        ("joint", AUGMENTED),
        ("weights_first", PLAIN_IMAGES),
        ("alpha_first", PLAIN_IMAGES),
    ],
)
@pytest.mark.parametrize("client", [0, 1])
def test_round_of_one_client_equals_local_steps_by_hand(state, order, augmentation, client):
    # Four steps in float32, of which each is compiled otherwise here and there.
    runner = RoundEngine(algorithm(augmentation=augmentation, order=order), CLIENTS, EXAMPLES, 1)
    after, (metrics,) = runner.run(state, cohort_of([[client]], CLIENTS), KEY)
    expected = walk_by_hand(state, client, order, augmentation)
    assert_close(after, expected.state, 1e-5)
    assert np.abs(after.params["kernel"] - state.params["kernel"]).max() > 0.01
    assert np.abs(after.arch["normal"] - state.arch["normal"]).max() > 1e-3
    for name, value in expected.metrics.items():
        assert metrics[name].item() == pytest.approx(value, abs=1e-5), name
    assert metrics["weight"].item() == CLIENTS.num_examples[client]
    assert metrics["finite"].item()


@pytest.mark.parametrize(("limit", "epochs"), [(1, 1), (3, 2), (4, 2)])
def test_work_that_is_cut_short_is_its_first_steps(averaged, state, limit, epochs):
    whole = cohort_of([[0]], CLIENTS)
    facts = {"local_epochs": np.array([[epochs]]), "step_limit": np.array([[limit]])}
    cut = whole._replace(facts=facts)
    after, (metrics,) = averaged[1].run(state, cut, KEY)
    expected = walk_by_hand(state, 0, "joint", PLAIN_IMAGES, limit)
    assert_close(after, expected.state, 1e-5)
    assert metrics["local_steps"].item() == limit
    assert metrics["train_loss"].item() == pytest.approx(expected.metrics["train_loss"], abs=1e-5)


@pytest.mark.parametrize("limits", [[3, 2], [4, 1], [1, 2]])
def test_clients_side_by_side_are_cut_short_each_at_its_own_limit(averaged, state, limits):
    # Of 2 and 1 steps an epoch: the longer one's are those that the chunk walks through.
    beside = cohort_of([[0, 1, NOBODY]], CLIENTS)
    facts = {"local_epochs": [[2, 2, 0]], "step_limit": [[*limits, 0]]}
    cut = beside._replace(facts={name: np.array(x, np.int32) for name, x in facts.items()})
    after, (metrics,) = averaged[3].run(state, cut, KEY)
    walks = [walk_by_hand(state, k, "joint", PLAIN_IMAGES, limits[k]) for k in (0, 1)]
    assert metrics["local_steps"].ravel().tolist() == [*limits, 0]
    expected = jax.tree.map(
        lambda a, b: (SIZES[0] * a + SIZES[1] * b) / sum(SIZES[:2]), *(w.state for w in walks)
    )
    assert_close(after, expected, 1e-5)


def test_orders_differ(state):
    # So the test above can tell them apart.
    walks = [walk_by_hand(state, 0, order, PLAIN_IMAGES).state for order in plain.ORDERS]
    for one, two in itertools.combinations(walks, 2):
        assert np.abs(one.arch["normal"] - two.arch["normal"]).max() > 1e-3
        assert np.abs(one.params["kernel"] - two.params["kernel"]).max() > 1e-3


def test_epochs_pass_over_both_parts_in_new_orders(state):
    walk = walk_by_hand(state, 0, "joint", PLAIN_IMAGES)
    for orders, part in (
        (walk.train_orders, CLIENTS.train[0][:10]),
        (walk.valid_orders, CLIENTS.valid[0][:11]),
    ):
        for order in orders:
            np.testing.assert_array_equal(np.sort(order), np.sort(part))
        assert (orders[0] != orders[1]).any()


# --- What the server makes of it ---


def test_averaged_is_the_weighted_mean_of_the_clients(averaged, state):
    # Eq. 5 for w, alpha and statistics alike: N_k / N with N = 21 + 6 + 1 + 16.
    results = [
        averaged[1].run(state, cohort_of([[k], *[[NOBODY]] * 4], CLIENTS), KEY)[0] for k in EVERYONE
    ]
    expected = jax.tree.map(
        lambda *leaves: np.average(np.stack(leaves), axis=0, weights=SIZES), *results
    )
    together, (metrics,) = averaged[1].run(state, everyone(1), KEY)
    assert_close(together, expected, 1e-6)
    weights = dict(zip(everyone(1).ids.ravel(), np.ravel(metrics["weight"]), strict=True))
    assert [weights[k] for k in EVERYONE] == list(SIZES)


def test_chunk_sizes_1_3_and_K_agree(averaged, state):
    # Rounding of batched products, in up to four steps, and of a sum in another order.
    results = {n: e.run(state, everyone(n), KEY) for n, e in averaged.items()}
    alone, (alone_metrics,) = results[1]
    for size, (after, (metrics,)) in results.items():
        assert_close(after, alone, 1e-5)
        for name, values in metrics.items():
            # In the order of the ids, both sort the clients alike.
            flat = np.ravel(values)[: len(SIZES)]
            expected = np.ravel(alone_metrics[name])
            np.testing.assert_allclose(
                flat, expected, rtol=1e-5, atol=1e-5, err_msg=f"{name} {size}"
            )


def test_recalibration_does_not_depend_on_the_chunks(recalibrated, state):
    assert_close(*(e.run(state, everyone(n), KEY)[0] for n, e in recalibrated.items()), 1e-5)


def test_a_client_alone_equals_the_same_client_beside_larger_ones(averaged, state):
    # To the bit: beside longer clients it goes through steps that change nothing.
    alone, (one,) = averaged[3].run(state, cohort_of([[1, NOBODY, NOBODY]], CLIENTS), KEY)
    with_empty, _ = averaged[3].run(state, cohort_of([[1, 4, NOBODY]], CLIENTS), KEY)
    _, (three,) = averaged[3].run(state, cohort_of([[0, 1, 3]], CLIENTS), KEY)
    jax.tree.map(np.testing.assert_array_equal, alone, with_empty)
    for name in one:
        assert one[name][0, 0] == three[name][0, 1], name


@pytest.mark.parametrize("clients_per_chunk", [1, 3])
def test_recalibrated_statistics_are_the_moments_of_all_clients(
    averaged, recalibrated, state, clients_per_chunk
):
    size = clients_per_chunk
    after, (_, nothing) = recalibrated[size].run(state, everyone(size), KEY)
    searched, _ = averaged[size].run(state, everyone(size), KEY)
    assert nothing == {}
    # The weights are those of the first phase, and only the statistics are measured anew.
    jax.tree.map(np.testing.assert_array_equal, after[:2], searched[:2])
    expected = moments_by_hand(np.asarray(EXAMPLES.inputs).reshape(sum(SIZES), -1))
    assert_close(after.batch_stats["norm"], expected, 1e-5)


@pytest.mark.parametrize(
    ("fraction", "batches"), [(0.5, [0, 2, 3, 4]), (0.4, [0, 2, 3, 4]), (0.51, range(6))]
)
def test_recalibrated_from_a_part_of_the_batches(state, fraction, batches):
    # Clients of two batches give one of them at a half; those of one batch give that.
    part = algorithm("recalibrated", recalibration_fraction=fraction)
    after, _ = RoundEngine(part, CLIENTS, EXAMPLES, 3).run(state, everyone(3), KEY)
    pixels = np.asarray(EXAMPLES.inputs).reshape(sum(SIZES), -1)
    assert_close(after.batch_stats["norm"], moments_by_hand(pixels, list(batches)), 1e-5)


def moments_by_hand(pixels: np.ndarray, chosen: Any = slice(None)) -> dict[str, np.ndarray]:
    """Of the batches of all clients, by their distinct examples, and the law of total variance."""
    inputs = (pixels.astype(np.float64) - MEAN) / STD
    # Whole batches of the first halves; three examples wrap around, one is taken four times.
    starts = np.cumsum([0, *SIZES])[:4]
    rows = [
        starts[0] + np.arange(4),
        starts[0] + np.arange(4, 8),
        starts[1] + np.array([0, 1, 2, 0]),
        starts[2] + np.zeros(4, int),
        starts[3] + np.arange(4),
        starts[3] + np.arange(4, 8),
    ]
    seen = np.stack([inputs[row] for row in rows])[chosen]
    weights = np.array([4, 4, 3, 1, 4, 4])[chosen]
    means = seen.mean(axis=1)
    mean = np.average(means, axis=0, weights=weights)
    within = np.average(seen.var(axis=1, ddof=1), axis=0, weights=weights)
    return {"mean": mean, "var": within + np.average((means - mean) ** 2, axis=0, weights=weights)}


def test_recalibration_after_a_round_without_examples_keeps_the_statistics(recalibrated, state):
    for size in (1, 3):
        nobody = in_chunks(np.array([4]), np.asarray(CLIENTS.local_steps), size)
        after, _ = recalibrated[size].run(state, nobody, KEY)
        assert_close(after, state, 1e-7)


# --- Odd clients ---


@pytest.mark.parametrize("clients_per_chunk", [1, 3])
def test_finite_flags_the_client_with_nan_images(averaged, state, clients_per_chunk):
    for bad in (0, 1, 2):
        images = EXAMPLES.inputs.at[CLIENTS.train[bad, 0]].set(jnp.nan)
        runner = averaged[clients_per_chunk]
        original = runner._examples
        runner._examples = EXAMPLES._replace(inputs=images)
        try:
            _, (metrics,) = runner.run(state, everyone(clients_per_chunk), KEY)
        finally:
            runner._examples = original
        ids = everyone(clients_per_chunk).ids
        np.testing.assert_array_equal(metrics["finite"], ids != bad)
        np.testing.assert_array_equal(np.isnan(metrics["train_loss"]), ids == bad)


def test_finite_looks_at_all_that_a_client_sends(state):
    local = milenas.start(*state, SearchOptions())
    client = jax.tree.map(lambda x: x[0], CLIENTS)
    sums = fednas._Sums(*(jnp.float32(1) for _ in fednas._Sums._fields))
    assert fednas._search_update(local, sums, client).metrics["finite"]
    for name in ("params", "arch", "batch_stats"):
        bad = jax.tree.map(lambda x: x.at[(0,) * x.ndim].set(jnp.nan), getattr(local, name))
        update = fednas._search_update(local._replace(**{name: bad}), sums, client)
        assert not update.metrics["finite"], name
    for name in ("train_loss", "valid_loss"):
        bad_sums = sums._replace(**{name: jnp.float32(jnp.inf)})
        assert not fednas._search_update(local, bad_sums, client).metrics["finite"], name


def test_large_weights_are_finite(averaged, state):
    # Their squares are not, in float32.
    large = state._replace(params=jax.tree.map(lambda x: jnp.full_like(x, 1e30), state.params))
    _, (metrics,) = averaged[1].run(large, cohort_of([[4]], CLIENTS), KEY)
    assert metrics["finite"].item()
    infinite = state._replace(params=jax.tree.map(lambda x: x * jnp.inf, state.params))
    _, (metrics,) = averaged[1].run(infinite, cohort_of([[4]], CLIENTS), KEY)
    assert not metrics["finite"].item()


def test_clients_with_less_than_a_batch_take_part(averaged, state):
    _, (metrics,) = averaged[3].run(state, everyone(3), KEY)
    by_client = {
        name: dict(zip(everyone(3).ids.ravel(), np.ravel(values), strict=True))
        for name, values in metrics.items()
    }
    assert [by_client["local_steps"][k] for k in EVERYONE] == [4, 2, 2, 4, 0]
    for client in (1, 2):
        assert by_client["train_loss"][client] > 0
    for name in ("train_loss", "valid_loss", "train_accuracy", "valid_accuracy"):
        assert by_client[name][4] == 0  # without a step there is nothing to average


# --- Scores ---


def test_evaluation_normalises_by_the_running_moments(state):
    mean, var = np.linspace(-1, 1, 9), np.linspace(0.5, 2, 9)
    trained = state._replace(batch_stats={"norm": {"mean": mean, "var": var}})
    images, labels = EXAMPLES.inputs[:10], np.asarray(EXAMPLES.targets[:10])
    losses, correct, _ = algorithm(augmentation=AUGMENTED).evaluate(trained, images, labels)
    x = (np.asarray(images, np.float64).reshape(10, -1) - MEAN) / STD
    y = (x - mean) / np.sqrt(var + EPSILON)
    shares = np.exp(np.asarray(state.arch["normal"], np.float64))
    shares /= shares.sum()
    kernel = np.asarray(state.params["kernel"], np.float64)
    logits = shares[0] * y @ kernel[0] + shares[1] * np.tanh(y) @ kernel[1]
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(10), labels]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_array_equal(correct, logits.argmax(axis=1) == labels)


def test_statistics_option_decides_on_the_second_phase():
    assert len(algorithm("averaged").phases) == 1
    assert len(algorithm("recalibrated").phases) == 2


def test_search_learns(recalibrated, state):
    for number in range(8):
        state, _ = recalibrated[1].run(state, everyone(1), jax.random.fold_in(KEY, number))
    unseen = examples_of(200, seed=1)
    _, correct, _ = algorithm().evaluate(state, unseen.inputs, unseen.targets)
    assert correct.mean() > 0.8
