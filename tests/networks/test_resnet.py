"""Residual networks: golden counts, and values and gradients against operations of `lax`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fednas_jax.networks import registry as networks
from fednas_jax.networks.resnet import ResNet
from fednas_jax.nn import layers
from tests.plain.agreement import assert_trains_as
from tests.quick import quick_jit

CIFAR = (32, 32, 3)


@pytest.mark.parametrize(
    ("blocks", "bottleneck", "classes", "parameters"),
    [
        (3, False, 10, 269_722),
        (5, False, 10, 464_154),
        (9, False, 10, 853_018),
        (9, False, 100, 858_868),
        (6, True, 10, 591_322),
    ],
)
def test_golden_parameter_counts(blocks, bottleneck, classes, parameters):
    network = ResNet(classes, blocks, bottleneck)
    assert networks.parameter_count(network, CIFAR) == parameters
    group = network.clone(normalization="group")
    assert networks.parameter_count(group, CIFAR) == parameters


def test_multiply_adds_of_resnet20():
    # The stem; then 6 convolutions a stage, all of 9 * 16 * 16 * 32 * 32 but the two that halve.
    expected = 27 * 16 * 1024 + (18 - 1) * 9 * 256 * 1024 + 64 * 10
    half = 9 * 256 * 1024 // 2  # half of the input channels of the others
    assert networks.multiply_adds(ResNet(10, 3), CIFAR) == expected + 2 * half - 9 * 256 * 1024


def plain_conv(x, kernel, stride=1):
    pad = len(kernel) // 2
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), [(pad, pad)] * 2, dimension_numbers=dimensions
    )


def plain_norm(x, params, kind):
    if kind == "batch":
        y = (x - x.mean((0, 1, 2))) / jnp.sqrt(x.var((0, 1, 2)) + 1e-5)
    else:
        groups = x.reshape(*x.shape[:3], -1, 16)
        mean = groups.mean((1, 2, 4), keepdims=True)
        variance = groups.var((1, 2, 4), keepdims=True)
        y = ((groups - mean) / jnp.sqrt(variance + 1e-5)).reshape(x.shape)
    return y * params["scale"] + params["bias"]


def plain(params, images, network):
    """The papers' networks, block by block, channels last."""
    kind = network.normalization

    def conv_norm(x, layer, stride=1):
        return plain_norm(plain_conv(x, layer["conv"]["kernel"], stride), layer["norm"], kind)

    def block(x, layer, stride):
        strides = (1, stride, 1) if network.bottleneck else (stride, 1)
        y = x
        for number, step in enumerate(strides):
            y = conv_norm(y, layer[f"layer{number}"], step)
            y = jax.nn.relu(y) if number < len(strides) - 1 else y
        if "shortcut" in layer:
            x = conv_norm(x, layer["shortcut"], stride)
        elif y.shape != x.shape:
            side = (y.shape[3] - x.shape[3]) // 2
            x = jnp.pad(x[:, ::stride, ::stride], ((0, 0),) * 3 + ((side, side),))
        return jax.nn.relu(x + y)

    x = jax.nn.relu(conv_norm(images, params["stem"]))
    for number in range(3):
        stage = params[f"stage{number}"]
        x = block(x, stage["first"], 2 if number else 1)
        for i in range(network.blocks - 1):
            x = block(x, jax.tree.map(lambda leaf, i=i: leaf[i], stage["blocks"]), 1)
    return x.mean((1, 2)) @ params["classifier"]["kernel"] + params["classifier"]["bias"]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("bottleneck", "normalization", "size"),
    [(False, "batch", (8, 8)), (True, "batch", (9, 7)), (False, "group", (7, 8))],
)
def test_values_and_gradients_are_those_of_plain_operations(bottleneck, normalization, size):
    network = ResNet(3, 2, bottleneck, normalization)
    rng = np.random.RandomState(0)
    images = jnp.asarray(rng.normal(size=(3, *size, 2)))
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), images, train=False))
    # Away from where a start has all scales 1 and all biases 0.
    draw = lambda leaf: jnp.asarray(0.1 + 0.2 * rng.normal(size=leaf.shape))  # noqa: E731
    params = jax.tree.map(draw, shapes["params"])
    others = {k: jax.tree.map(jnp.zeros_like, v) for k, v in shapes.items() if k != "params"}
    assert ("batch_stats" in others) == (normalization == "batch")
    assert_trains_as(network, plain, params, others, images, jnp.array([0, 2, 1]))


def test_kernels_start_as_the_papers_say():
    images = jnp.zeros((1, 8, 8, 3))
    for bottleneck, name, fan in ((False, "layer0", 9 * 64), (True, "layer2", 256)):
        network = ResNet(10, 3, bottleneck)
        init = quick_jit(lambda n=network: n.init(jax.random.key(0), images, train=False))
        kernel = init()["params"]["stage2"]["blocks"][name]["conv"]["kernel"]
        assert len(kernel) == 2
        for one in kernel:
            assert np.std(one) == pytest.approx(np.sqrt(2 / fan), rel=0.05)
        assert np.abs(kernel[0] - kernel[1]).max() > 0


# Layers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize(("stride", "shape"), [(1, (5, 6)), (2, (6, 8)), (2, (5, 7))])
def test_convolutions_of_each_size_and_stride(size, stride, shape):
    rng = np.random.RandomState(1)
    images = jnp.asarray(rng.normal(size=(2, *shape, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(size, size, 3, 4)), jnp.float32)
    layer = layers.Conv(4, size, batch=2, stride=stride)
    maps = images.transpose(3, 1, 2, 0).reshape(3, shape[0], -1)
    found = layer.apply({"params": {"kernel": kernel}}, maps)
    wanted = plain_conv(images, kernel, stride)
    assert layer.pixels(maps) == wanted.shape[1] * wanted.shape[2]
    wanted = wanted.transpose(3, 1, 2, 0).reshape(found.shape)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("channels", "size"), [(16, 16), (24, 12), (36, 12), (64, 16), (10, 10), (17, 1)]
)
def test_groups_are_of_equal_size(channels, size):
    assert layers.group_size(channels) == size


def test_running_statistics_move_in_training_alone():
    maps = jnp.array([1.0, 3.0, 5.0]).reshape(1, 1, 3)  # mean 3, unbiased variance 4
    norm = layers.Norm(layers.Style(3))
    variables = norm.init(jax.random.key(0), maps, train=True)
    assert variables["batch_stats"] == {"mean": 0.0, "var": 1.0}
    y, changed = norm.apply(variables, maps, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y[0, 0], np.array([-2, 0, 2]) / np.sqrt(8 / 3), rtol=1e-4)
    np.testing.assert_allclose(changed["batch_stats"]["mean"], 0.3, rtol=1e-6)
    np.testing.assert_allclose(changed["batch_stats"]["var"], 0.9 + 0.4, rtol=1e-6)
    still = norm.apply({**variables, **changed}, maps, train=False)
    np.testing.assert_allclose(still[0, 0], (maps[0, 0] - 0.3) / np.sqrt(1.3), rtol=1e-4)
    assert "batch_stats" not in layers.Norm(layers.Style(3, "group")).init(
        jax.random.key(0), maps, train=True
    )


def test_evaluation_is_each_images_own():
    network = ResNet(3, 2)
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))

    @quick_jit
    def run(images, others):
        variables = network.init(jax.random.key(1), images, train=False)
        return network.apply(variables, images, train=False), network.apply(
            variables, others, train=False
        )

    one, other = run(images, images.at[1].set(0.0))
    np.testing.assert_allclose(one[0], other[0], rtol=1e-5)
    assert np.abs(one[1] - other[1]).max() > 1e-3
