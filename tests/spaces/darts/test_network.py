"""The network of a genotype: golden counts, operations against numpy, drop path, odd sizes."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.networks import registry as networks
from fednas_jax.nn.layers import Style
from fednas_jax.spaces.darts import genotype as gt
from fednas_jax.spaces.darts import operations
from fednas_jax.spaces.darts.network import Cell, Network
from fednas_jax.spaces.darts.operations import Operation
from tests.plain import network as plain_network
from tests.plain.layout import to_images, to_maps
from tests.quick import quick_jit

SIZES = ((16, 8), (36, 20), (16, 20), (36, 8))  # init_channels, layers
GOLDEN = {
    "FedNAS_V1": (337_626, 4_279_870, 943_770, 1_525_006),
    "DARTS_V1": (232_890, 3_169_414, 671_034, 1_094_950),
    "DARTS_V2": (246_106, 3_349_342, 710_682, 1_154_926),
}


def count(name, channels, cells, **rest):
    network = Network(gt.load(name), 10, channels, cells, **rest)
    return networks.parameter_count(network, (32, 32, 3))


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_parameter_counts(name):
    assert tuple(count(name, *size) for size in SIZES) == GOLDEN[name]


@pytest.mark.parametrize(("channels", "extra"), [(16, 435_466), (36, 476_426)])
def test_golden_parameter_counts_of_the_auxiliary_head(channels, extra):
    plain = count("DARTS_V2", channels, 8)
    assert count("DARTS_V2", channels, 8, auxiliary=True) - plain == extra


def test_how_much_of_a_count_is_the_auxiliary_head():
    """3.3 million in the paper of DARTS, 3.83 million with the head."""
    shape = (32, 32, 3)
    network = Network(gt.load("DARTS_V2"), 10, 36, 20)
    assert networks.auxiliary_count(network, shape) == 0
    network = network.clone(auxiliary=True)
    assert networks.parameter_count(network, shape) == 3_825_768
    assert networks.auxiliary_count(network, shape) == 3_825_768 - 3_349_342


def test_multiply_adds_are_those_reported_for_darts():
    network = Network(gt.load("DARTS_V2"), 10, init_channels=36, layers=20)
    found = networks.multiply_adds(network, (32, 32, 3))
    assert round(found / 1e6) == 528


# Operations against plain numpy ------------------------------------------------------------------


def windows(x, kernel, stride, dilation, fill):
    """The pixels that each output pixel of a same-size window sees: [B, H', W', k * k, C]."""
    pad = dilation * (kernel - 1) // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=fill)
    height, width = x.shape[1:3]
    taps = [
        padded[:, i * dilation :, j * dilation :][:, :height:stride, :width:stride]
        for i, j in itertools.product(range(kernel), repeat=2)
    ]
    return np.stack(taps, axis=3)


def normalized(x):
    return (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)


def separable(x, params, kernel, stride, dilation, repeats):
    for i in range(repeats):
        depthwise = np.asarray(params[f"depthwise{i}"]["kernel"])[:, :, 0].reshape(kernel**2, -1)
        seen = windows(np.maximum(x, 0), kernel, stride if i == 0 else 1, dilation, 0.0)
        x = (seen * depthwise).sum(3) @ np.asarray(params[f"pointwise{i}"]["kernel"])[0, 0]
        x = normalized(x)
    return x


def reduced(x, params):
    x = np.maximum(x, 0)
    grids = [x[:, ::2, ::2], np.zeros_like(x[:, ::2, ::2])]
    shifted = x[:, 1::2, 1::2]
    grids[1][:, : shifted.shape[1], : shifted.shape[2]] = shifted
    kernels = [np.asarray(params[f"conv{i}"]["kernel"])[0, 0] for i in (0, 1)]
    return normalized(np.concatenate([g @ k for g, k in zip(grids, kernels, strict=True)], -1))


def plain(name, x, params, stride):
    if name == "max_pool_3x3":
        return windows(x, 3, stride, 1, -np.inf).max(3)
    if name == "avg_pool_3x3":
        return np.nanmean(windows(x, 3, stride, 1, np.nan), axis=3)
    if name == "skip_connect":
        return x if stride == 1 else reduced(x, params["reduce"])
    dilation, repeats = (1, 2) if name.startswith("sep") else (2, 1)
    return separable(x, params["conv"], int(name[-1]), stride, dilation, repeats)


@pytest.mark.parametrize(("stride", "size"), [(1, (5, 7)), (2, (6, 4)), (2, (5, 7))])
@pytest.mark.parametrize("name", gt.PRIMITIVES[1:])
def test_each_operation_is_that_of_plain_numpy(name, stride, size):
    x = np.random.RandomState(0).normal(size=(2, *size, 4)).astype(np.float32)
    maps = to_maps(x.transpose(0, 3, 1, 2))
    operation = Operation(Style(2), name, stride)
    variables = operation.init(jax.random.key(1), maps, train=False)
    found, _ = operation.apply(variables, maps, train=True, mutable=["batch_stats"])
    expected = plain(name, x, variables.get("params", {}), stride)
    found = to_images(found, 2).transpose(0, 2, 3, 1)
    assert found.shape == (2, -(-size[0] // stride), -(-size[1] // stride), 4)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_weights_start_as_in_pytorch():
    operation = Operation(Style(1), "sep_conv_5x5", 1)
    x = jnp.zeros((64, 8, 8))
    params = operation.init(jax.random.key(0), x, train=False)["params"]["conv"]
    for name, fan_in in (("depthwise0", 25), ("pointwise1", 64)):
        kernel = np.asarray(params[name]["kernel"])
        bound = 1 / np.sqrt(fan_in)
        assert 0.97 * bound < np.abs(kernel).max() <= bound
        assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.05)


# The whole network -------------------------------------------------------------------------------


@functools.cache
def tiny():
    """Variables of a small network, images, and its compiled forward in training."""
    network = Network(gt.load("FedNAS_V1"), 10, init_channels=4, layers=3)
    images = jax.random.normal(jax.random.key(1), (3, 8, 8, 1))
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), images, train=False))
    rng = np.random.RandomState(0)  # compiling a draw a weight takes ten times the forward's time
    variables = {
        "params": jax.tree.map(lambda leaf: 0.3 * rng.normal(size=leaf.shape), shapes["params"]),
        "batch_stats": jax.tree.map(lambda leaf: np.ones(leaf.shape), shapes["batch_stats"]),
    }
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), variables)

    @jax.jit
    def forward(rate, key):
        return network.apply(
            variables, images, train=True, drop_path_rate=rate, key=key, mutable=["batch_stats"]
        )

    return network, variables, images, forward


def test_forward_in_training_updates_the_running_statistics():
    _, variables, _, forward = tiny()
    assert set(variables) == {"params", "batch_stats"}
    logits, changed = forward(0.0, jax.random.key(0))
    assert logits.shape == (3, 10)
    assert np.isfinite(logits).all()
    before, after = (jax.tree.leaves(v["batch_stats"]) for v in (variables, changed))
    assert all((a != b).any() for a, b in zip(before, after, strict=True))


def test_forward_outside_training_is_each_images_own():
    network, variables, images, _ = tiny()
    forward = jax.jit(lambda x: network.apply(variables, x, train=False))
    logits = forward(images)
    changed = forward(images.at[1:].set(0.0))
    np.testing.assert_allclose(changed[0], logits[0], rtol=1e-5)
    assert not np.allclose(changed[1], logits[1], rtol=1e-2)


@pytest.mark.parametrize("image_shape", [(8, 8, 1), (9, 11, 3), (13, 8, 2), (40, 64, 3)])
def test_any_size_and_any_channels_with_auxiliary_head(image_shape):
    network = Network(gt.load("DARTS_V2"), 7, init_channels=4, layers=3, auxiliary=True)
    images = jnp.zeros((2, *image_shape))
    variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), images)

    def run(v, x, train):
        return network.apply(v, x, train=train, mutable=["batch_stats"])[0]

    shapes = jax.eval_shape(functools.partial(run, train=True), variables, images)
    assert [leaf.shape for leaf in shapes] == [(2, 7), (2, 7)]
    assert jax.eval_shape(functools.partial(run, train=False), variables, images).shape == (2, 7)


ALL_OPERATIONS = gt.Genotype(
    (
        ("sep_conv_3x3", 0),
        ("dil_conv_5x5", 1),
        ("sep_conv_5x5", 0),
        ("max_pool_3x3", 2),
        ("dil_conv_3x3", 3),
        ("skip_connect", 0),
        ("avg_pool_3x3", 4),
        ("sep_conv_3x3", 4),
    ),
    (2, 3, 5),
    (
        ("dil_conv_3x3", 0),
        ("skip_connect", 1),
        ("sep_conv_5x5", 1),
        ("max_pool_3x3", 0),
        ("avg_pool_3x3", 1),
        ("skip_connect", 3),
        ("sep_conv_3x3", 0),
        ("dil_conv_5x5", 4),
    ),
    (2, 3, 4, 5),
)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("size", "layers"), [((8, 8), 6), ((9, 11), 4)])  # a loop, and none
def test_values_gradients_and_statistics_are_those_of_the_plain_network(size, layers):
    sizes = {"num_classes": 3, "init_channels": 2, "layers": layers, "auxiliary": True}
    rng = np.random.RandomState(0)
    images = jnp.asarray(rng.normal(size=(3, *size, 2)))
    labels = jnp.array([0, 2, 1])
    ours, theirs = Network(ALL_OPERATIONS, **sizes), plain_network.Network(ALL_OPERATIONS, **sizes)
    init = functools.partial(ours.init, images=images, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), shapes["params"])
    stats = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes["batch_stats"])

    def loss(params, network):
        variables = {"params": params, "batch_stats": stats}
        outputs, changed = network.apply(variables, images, train=True, mutable=["batch_stats"])
        losses = [-jax.nn.log_softmax(x)[jnp.arange(3), labels].mean() for x in outputs]
        return losses[0] + 0.4 * losses[1], (changed, network.apply(variables, images, train=False))

    def run(network):
        gradient = jax.value_and_grad(loss, has_aux=True)
        return quick_jit(lambda params: gradient(params, network))(params)

    def close(found, wanted):
        np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-9)

    jax.tree.map(close, run(ours), run(theirs))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("concats", [((2, 3, 4, 5), (4, 5)), ((4, 5), (2, 3, 4, 5))])
def test_neighbouring_cells_are_one_loop_and_nothing_else_changes(concats):
    genotype = gt.Genotype(
        (("dil_conv_3x3", 0), ("skip_connect", 1), *(("skip_connect", 0), ("max_pool_3x3", 1)) * 3),
        concats[0],
        (("max_pool_3x3", 0), ("max_pool_3x3", 1)) * 4,  # quick to compile
        concats[1],
    )
    loop = Network(genotype, 3, init_channels=2, layers=10)
    assert loop._runs() == [[0, 1, 2], [3], [4, 5], [6], [7, 8, 9]]
    unrolled = loop.clone(scan_cells=False)
    images = jax.random.normal(jax.random.key(0), (4, 16, 16, 1))
    shapes = jax.eval_shape(lambda: loop.init(jax.random.key(1), images, train=False))
    rng = np.random.RandomState(0)
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(1 + 0.1 * rng.normal(size=leaf.shape)), shapes
    )

    def run(network):
        def loss(params, variables):
            logits, changed = network.apply(
                variables | {"params": params},
                images,
                train=True,
                mutable=["batch_stats"],
                drop_path_rate=0.3,
                key=jax.random.key(5),
            )
            return jax.nn.logsumexp(logits), (
                changed,
                network.apply(variables, images, train=False),
            )

        step = quick_jit(jax.value_and_grad(loss, has_aux=True))
        return step(variables["params"], variables)

    def close(found, wanted):
        np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-9)

    jax.tree.map(close, run(loop), run(unrolled))


def test_part_of_the_nodes_can_be_the_output():
    genotype = gt.load("DARTS_V2")._replace(normal_concat=(3, 5), reduce_concat=(2,))
    network = Network(genotype, 7, init_channels=4, layers=4)
    images = jnp.zeros((2, 8, 8, 3))
    out = jax.eval_shape(
        lambda x: network.init_with_output(jax.random.key(0), x, train=False)[0], images
    )
    assert out.shape == (2, 7)


# Drop path ---------------------------------------------------------------------------------------


def test_drop_path_drops_whole_examples_and_makes_up_for_it():
    x = jnp.ones((3, 2, 2 * 2000))
    y = to_images(operations.drop_path(jax.random.key(0), x, 0.2, 2000), 2000)
    kept = np.asarray(y[:, 0, 0, 0] > 0)
    assert kept.mean() == pytest.approx(0.8, abs=0.03)
    np.testing.assert_allclose(y[kept], 1.25)
    assert (y[~kept] == 0).all()
    np.testing.assert_array_equal(operations.drop_path(jax.random.key(0), x, 0.0, 2000), x)


def test_the_network_drops_paths_by_key():
    network, variables, images, forward = tiny()
    none, some, other = (
        np.asarray(forward(rate, jax.random.key(seed))[0])
        for rate, seed in ((0.0, 0), (0.5, 0), (0.5, 1))
    )
    assert not np.allclose(none, some, atol=1e-2)
    assert not np.allclose(other, some, atol=1e-2)
    np.testing.assert_array_equal(forward(0.5, jax.random.key(0))[0], some)
    np.testing.assert_array_equal(forward(0.0, jax.random.key(1))[0], none)
    with pytest.raises(ValueError, match="drop_path_rate: needs a random key"):
        network.apply(variables, images, train=True, drop_path_rate=0.2, mutable=["batch_stats"])


@pytest.mark.parametrize("operation", ["skip_connect", "max_pool_3x3"])
def test_identities_alone_are_never_dropped(operation):
    cell = Cell(((operation, 0), (operation, 1)) * 4, (2, 3, 4, 5), 2, False, False, Style(4))
    x = jax.random.normal(jax.random.key(0), (2, 4, 16))
    variables = cell.init(jax.random.key(0), x, x, 0.0, None, train=False)
    run = functools.partial(cell.apply, variables, x, x, 1 - 1e-6, train=False)
    kept, dropped = run(None), run(jax.random.key(1))
    expected = kept if operation == "skip_connect" else jnp.zeros_like(kept)
    np.testing.assert_array_equal(dropped, expected)
    assert (kept != 0).any()
