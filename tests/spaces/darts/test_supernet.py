"""The supernet: golden counts, first values, and one whole network against the plain one."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.spaces.darts.space import EDGES
from fednas_jax.spaces.darts.supernet import Stem, Supernet
from tests.plain import supernet as plain
from tests.plain.conversion import batch_stats_from_plain, params_from_plain
from tests.plain.layout import random_like
from tests.plain.parameters import weight_shapes
from tests.quick import quick_jit

# Shapes, without computing ----------------------------------------------------------------------


@functools.cache
def shapes(channels, layers, classes, image=(32, 32, 3), batch=2):
    """Shapes of all variables, and of the logits in training."""
    network = Supernet(classes, channels, layers, scan_sources=True)  # traced faster
    images = jax.ShapeDtypeStruct((batch, *image), jnp.float32)
    return jax.eval_shape(
        lambda key, images: network.init_with_output(key, images, train=True)[::-1],
        jax.random.key(0),
        images,
    )


def size(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("channels", "layers", "classes", "count"),
    [(16, 8, 10, 1_930_618), (8, 3, 10, 209_442), (8, 5, 10, 394_210), (16, 8, 100, 1_953_748)],
)
def test_golden_parameter_counts(channels, layers, classes, count):
    variables, _ = shapes(channels, layers, classes)
    assert size(variables["params"]) == count
    assert {kind: alphas.shape for kind, alphas in variables["arch"].items()} == {
        "normal": (14, 8),
        "reduce": (14, 8),
    }


def test_golden_batch_norm_counts():
    # Edges that leave one source share the moments of its pools here: PyTorch keeps them 14 times.
    norms = channels = 0
    for module, entries in shapes(16, 8, 10)[0]["batch_stats"].items():
        for name, entry in entries.items():
            *rows, width = entry["mean"].shape
            assert entry["var"].shape == entry["mean"].shape
            number = len(EDGES) if "pool" in name else math.prod(rows)
            assert rows == ([5] if "pool" in name else rows), (module, name)
            norms, channels = norms + number, channels + number * width
    assert (norms, channels) == (929, 37_296)


@pytest.mark.parametrize(
    ("image", "classes", "batch"),
    [((8, 8, 1), 3, 1), ((9, 13, 3), 10, 2), ((33, 8, 5), 2, 4)],
)
def test_any_image_size_channels_and_classes(image, classes, batch):
    variables, logits = shapes(4, 3, classes, image, batch)
    assert logits.shape == (batch, classes)
    assert variables["params"]["stem"]["kernel"].shape == (12, 9 * image[-1])


# First values -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first_values():
    network = Supernet(10, 16, 3, scan_sources=True)
    images = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    return quick_jit(lambda key: network.lazy_init(key, images, train=False))(jax.random.key(0))


def test_weights_start_as_pytorchs(first_values):
    # PyTorch draws from U(+-1/sqrt(fan_in)): of variance 1 / (3 fan_in).
    params = first_values["params"]
    cell = params["cell_2"]
    fans = {"depthwise": {3: 9, 5: 25}, "pointwise": 64}
    checked = [
        (params["stem"]["kernel"], 3 * 9),
        (params["classifier"]["kernel"], 256),
        (cell["preprocess0"], 64),  # halves the output of cell 0, 4 x 16 channels
        (cell["preprocess1"], 128),
        (cell["skip_connect"], 64),
    ]
    for name, leaf in cell.items():
        primitive, _, part = name.rpartition("_")
        if part.startswith("depthwise"):
            checked.append((leaf, fans["depthwise"][int(primitive[-1])]))
        elif part.startswith("pointwise"):
            checked.append((leaf, fans["pointwise"]))
    assert len(checked) == 5 + 12
    for leaf, fan_in in checked:
        bound = 1 / math.sqrt(fan_in)
        assert leaf.dtype == jnp.float32
        assert 0.97 * bound < float(jnp.abs(leaf).max()) <= bound
        assert abs(float(leaf.mean())) < 5 * bound / math.sqrt(3 * leaf.size)
        assert float(leaf.var()) == pytest.approx(bound**2 / 3, rel=0.1)
    bias = params["classifier"]["bias"]
    assert 0.5 / 16 < float(jnp.abs(bias).max()) <= 1 / 16
    np.testing.assert_array_equal(params["stem"]["scale"], 1.0)
    np.testing.assert_array_equal(params["stem"]["bias"], 0.0)


def test_no_two_leaves_start_alike(first_values):
    leaves = [leaf.ravel()[:8] for leaf in jax.tree.leaves(first_values["params"]) if leaf.ndim > 1]
    assert len(np.unique(np.stack(leaves), axis=0)) == len(leaves)


def test_alphas_start_small_and_normal(first_values):
    normal, reduce = first_values["arch"]["normal"], first_values["arch"]["reduce"]
    both = np.stack([normal, reduce])
    assert both.std() == pytest.approx(1e-3, rel=0.15)
    assert abs(both.mean()) < 4e-3 / math.sqrt(both.size)
    assert not np.array_equal(normal, reduce)


def test_running_moments_start_at_zero_and_one(first_values):
    for path, leaf in jax.tree.leaves_with_path(first_values["batch_stats"]):
        np.testing.assert_array_equal(leaf, 1.0 if "var" in jax.tree_util.keystr(path) else 0.0)


# The stem alone: running moments ----------------------------------------------------------------


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_running_moments_take_in_the_unbiased_variance(momentum):
    stem = Stem(2, momentum)
    images = jnp.asarray(np.random.RandomState(0).normal(size=(3, 2, 4, 1)))
    # The first channel is the image itself, the second twice as large and shifted by the bias.
    kernel = jnp.zeros((2, 9)).at[:, 4].set(jnp.array([1.0, 2.0]))
    old = {"mean": jnp.array([5.0, -1.0]), "var": jnp.array([2.0, 3.0])}
    params = {"kernel": kernel, "scale": jnp.ones(2), "bias": jnp.array([0.0, 0.5])}
    variables = {"params": params, "batch_stats": {"batch_norm": old}}
    y, changed = stem.apply(variables, images, train=True, mutable=["batch_stats"])
    new, x = changed["batch_stats"]["batch_norm"], np.asarray(images)
    mean, variance = np.array([1, 2]) * x.mean(), np.array([1, 4]) * x.var(ddof=1)
    for found, before, batch in (
        (new["mean"], old["mean"], mean),
        (new["var"], old["var"], variance),
    ):
        np.testing.assert_allclose(found, momentum * before + (1 - momentum) * batch, rtol=1e-12)
    # The biased variance normalises; the bias comes last.
    np.testing.assert_allclose(y.var(axis=(1, 2)), 1.0, rtol=1e-4)
    np.testing.assert_allclose(y.mean(axis=(1, 2)), [0.0, 0.5], atol=1e-12)
    # In evaluation the running moments do, and stay.
    y = stem.apply(changed | {"params": params}, images, train=False)
    expected = (x[..., 0] - np.asarray(new["mean"])[0]) / np.sqrt(np.asarray(new["var"])[0] + 1e-5)
    np.testing.assert_allclose(y[0].reshape(2, 4, 3), np.moveaxis(expected, 0, -1), rtol=1e-12)


# One whole network, forth and back, in float64 --------------------------------------------------

CHANNELS, LAYERS, CLASSES = 2, 3, 5
# Odd and even sides: 10 x 11 becomes 5 x 6, then 3 x 3. The runs in test_stack.py have these shapes
# too, so that the plain operations are compiled once.
IMAGES = (3, 10, 11, 2)
MOMENTUM = 0.9


class Outcome(NamedTuple):
    """What a training step's forward and backward pass yield, in the package's trees."""

    loss: Any
    batch_stats: Any
    params_gradient: Any
    arch_gradient: Any


class Whole:
    """The same network in both implementations; ours compiled once for all tests here."""

    def __init__(self):
        sizes = {"init_channels": CHANNELS, "layers": LAYERS}
        weights = weight_shapes(in_channels=IMAGES[-1], num_classes=CLASSES, **sizes)
        self.plain_params = jax.tree.map(jnp.asarray, random_like(weights, 0, 0.5))
        self.plain_stats = plain.init_batch_stats(**sizes, dtype=jnp.float64)
        self.params = params_from_plain(self.plain_params)
        self.batch_stats = batch_stats_from_plain(self.plain_stats)
        self.arch = random_like({"normal": (14, 8), "reduce": (14, 8)}, 1)
        self.images = random_like(IMAGES, 2)
        self.labels = np.array([0, 4, 4])
        # Edges of equal shapes share one compilation; a cell as one program would take minutes.
        self._mixed_operation = jax.jit(plain.mixed_operation, static_argnums=(4, 5))
        arguments = (self.params, self.arch, self.batch_stats, MOMENTUM)
        step = jax.value_and_grad(self._our_loss, (0, 1), has_aux=True)
        self._step = quick_jit(step).lower(*arguments).compile()

    def _loss(self, logits):
        return -jax.nn.log_softmax(logits)[jnp.arange(len(self.labels)), self.labels].mean()

    def _our_loss(self, params, arch, batch_stats, momentum):
        network = Supernet(CLASSES, CHANNELS, LAYERS, scan_sources=True, momentum=momentum)
        variables = {"params": params, "arch": arch, "batch_stats": batch_stats}
        logits, changed = network.apply(variables, self.images, train=True, mutable=["batch_stats"])
        return self._loss(logits), changed["batch_stats"]

    def ours(self, arch=None, momentum=MOMENTUM):
        arguments = (self.params, arch or self.arch, self.batch_stats, momentum)
        (loss, batch_stats), gradients = self._step(*arguments)
        return Outcome(loss, batch_stats, *gradients)

    @functools.cached_property
    def plain(self):
        def loss(params, arch):
            logits, stats = self.plain_logits(params, arch, self.plain_stats, train=True)
            return self._loss(logits), stats

        step = jax.value_and_grad(loss, (0, 1), has_aux=True)
        (value, stats), (of_params, of_arch) = step(self.plain_params, self.arch)
        self.plain_stats_after = stats
        stats, of_params = batch_stats_from_plain(stats), params_from_plain(of_params)
        return Outcome(value, stats, of_params, of_arch)

    def plain_logits(self, params, arch, stats, *, train):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plain, "mixed_operation", self._mixed_operation)
            return plain.apply(params, arch, stats, self.images, train=train)


@pytest.fixture(scope="module")
def whole():
    with jax.enable_x64(True):
        yield Whole()


def assert_trees_close(found, expected, rtol):
    """Each leaf's error against the largest entry of its leaf."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, ours), theirs in zip(
        jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        assert ours.dtype == jnp.float64
        atol = rtol * max(float(jnp.abs(theirs).max()), 1e-6)
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol, err_msg=name)


@pytest.mark.usefixtures("x64")
def test_whole_supernet_loss_and_gradients_against_the_plain_one(whole):
    found, expected = whole.ours(), whole.plain
    assert float(found.loss) == pytest.approx(float(expected.loss), rel=1e-13)
    assert_trees_close(found.params_gradient, expected.params_gradient, rtol=1e-10)
    assert_trees_close(found.arch_gradient, expected.arch_gradient, rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_whole_supernet_batch_stats_after_a_step(whole):
    assert_trees_close(whole.ours().batch_stats, whole.plain.batch_stats, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_momentum_zero_gives_the_moments_of_the_batch(whole):
    def of_batch(old, new):
        return (new - MOMENTUM * old) / (1 - MOMENTUM)

    expected = jax.tree.map(of_batch, whole.batch_stats, whole.plain.batch_stats)
    assert_trees_close(whole.ours(momentum=0.0).batch_stats, expected, rtol=1e-11)


@pytest.mark.usefixtures("x64")
def test_whole_supernet_logits_in_evaluation(whole):
    batch_stats = whole.plain.batch_stats
    network = Supernet(CLASSES, CHANNELS, LAYERS, scan_sources=True)

    def evaluate(params, arch, batch_stats):
        variables = {"params": params, "arch": arch, "batch_stats": batch_stats}
        return network.apply(variables, whole.images, train=False)

    found = quick_jit(evaluate)(whole.params, whole.arch, batch_stats)
    expected, _ = whole.plain_logits(
        whole.plain_params, whole.arch, whole.plain_stats_after, train=False
    )
    np.testing.assert_allclose(found, expected, rtol=1e-11)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", ["normal", "reduce"])
def test_alpha_gradients_against_finite_differences(whole, kind):
    gradient = np.asarray(whole.ours().arch_gradient[kind])
    # ReLUs and maxima have kinks: with 1e-5 some of them lie between the two points.
    step = 1e-7

    def slope(direction):
        losses = [
            whole.ours(whole.arch | {kind: whole.arch[kind] + sign * step * direction}).loss
            for sign in (1, -1)
        ]
        return float(losses[0] - losses[1]) / (2 * step)

    rng = np.random.RandomState(3)
    directions = [rng.normal(size=(14, 8)) for _ in range(2)]
    # Single alphas: every edge and every primitive.
    for edge in range(14):
        directions.append(np.zeros((14, 8)))
        directions[-1][edge, edge % 8] = 1
    for direction in directions:
        expected = float((gradient * direction).sum())
        assert slope(direction) == pytest.approx(expected, rel=0, abs=1e-6)


@pytest.mark.usefixtures("x64")
def test_equal_shifts_of_an_edge_change_nothing(whole):
    # Softmax: gradients of an edge's alphas add up to zero.
    for gradient in whole.ours().arch_gradient.values():
        np.testing.assert_allclose(gradient.sum(axis=1), 0.0, atol=1e-13)


@pytest.mark.usefixtures("x64")  # as the other tests: JAX keeps softmax's derivative between them
def test_bfloat16_keeps_weights_statistics_and_gradients_in_float32():
    images = jax.random.normal(jax.random.key(1), (4, 8, 8, 1), jnp.float32)
    init = quick_jit(functools.partial(Supernet(CLASSES, CHANNELS, LAYERS).init, train=False))
    state = jax.tree.map(lambda x: x.astype(jnp.float32), init(jax.random.key(0), images[:1]))
    found = {}
    for dtype in ("float32", "bfloat16"):
        network = Supernet(CLASSES, CHANNELS, LAYERS, dtype=dtype)

        def loss(params, arch, network=network):
            trees = {"params": params, "arch": arch, "batch_stats": state["batch_stats"]}
            logits, new = network.apply(trees, images, train=True, mutable=["batch_stats"])
            return (logits**2).sum(), (logits, new)

        compiled = quick_jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
        found[dtype] = compiled(state["params"], state["arch"])
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found["bfloat16"]))
    exact, rounded = (found[dtype][0][1][0] for dtype in ("float32", "bfloat16"))
    # Eight bits of mantissa, through three cells; and rounded at all, or the field did nothing.
    assert 1e-5 < float(jnp.abs(exact - rounded).max()) < 0.1 * float(jnp.abs(exact).max()) + 0.1
