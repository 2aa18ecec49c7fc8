"""Densely connected networks against operations of `lax`, each layer normalising all it reads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from fednas_jax.networks.densenet import DenseNet
from fednas_jax.nn.layers import group_size
from tests.plain.agreement import assert_trains_as
from tests.quick import quick_jit


def conv(x, layer, stride=1):
    kernel = layer["kernel"]
    pad = len(kernel) // 2
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), [(pad, pad)] * 2, dimension_numbers=dimensions
    )


def norm_relu(x, params, kind):
    axes = (0, 1, 2) if kind == "batch" else (1, 2, 4)
    groups = x if kind == "batch" else x.reshape(*x.shape[:3], -1, group_size(x.shape[-1]))
    y = (groups - groups.mean(axes, keepdims=True)) / jnp.sqrt(
        groups.var(axes, keepdims=True) + 1e-5
    )
    return jax.nn.relu(y.reshape(x.shape) * params["scale"] + params["bias"])


def plain(params, images, network):
    kind = network.normalization
    x = conv(images, params["stem_conv"], 2 if network.large_images else 1)
    if network.large_images:
        x = norm_relu(x, params["stem_norm"], kind)
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    for block, layers in enumerate(network.blocks):
        if block:
            transition = params[f"transition{block - 1}"]
            x = conv(norm_relu(x, transition["norm"], kind), transition["conv"])
            x = nn.avg_pool(x, (2, 2), (2, 2))
        for i in range(layers):
            layer = params[f"block{block}_layer{i}"]
            y = conv(norm_relu(x, layer["norm0"], kind), layer["conv0"])
            y = conv(norm_relu(y, layer["norm1"], kind), layer["conv1"])
            x = jnp.concatenate([x, y], axis=-1)
    x = norm_relu(x, params["norm"], kind).mean((1, 2))
    return x @ params["classifier"]["kernel"] + params["classifier"]["bias"]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("growth", "large_images", "normalization", "size"),
    [(4, True, "batch", (16, 18)), (4, False, "batch", (6, 7)), (8, False, "group", (4, 4))],
)
def test_values_and_gradients_are_those_of_plain_operations(
    growth, large_images, normalization, size
):
    network = DenseNet(3, (2, 2), growth, large_images, normalization)
    rng = np.random.RandomState(0)
    images = jnp.asarray(rng.normal(size=(3, *size, 2)))
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), images, train=False))
    draw = lambda leaf: jnp.asarray(0.1 + 0.3 * rng.normal(size=leaf.shape))  # noqa: E731
    params = jax.tree.map(draw, shapes["params"])
    others = {k: jax.tree.map(jnp.ones_like, v) for k, v in shapes.items() if k != "params"}
    assert_trains_as(network, plain, params, others, images, jnp.array([0, 2, 1]))


def test_evaluation_by_what_training_has_seen_is_training():
    network = DenseNet(3, (2, 2), 4, large_images=False, momentum=0.0)
    images = jax.random.normal(jax.random.key(0), (8, 8, 8, 1))

    @quick_jit
    def run():
        variables = network.init(jax.random.key(1), images, train=False)
        trained, changed = network.apply(variables, images, train=True, mutable=["batch_stats"])
        return trained, network.apply(variables | changed, images, train=False)

    # Running variances are the unbiased ones: of 128 pixels at the least here.
    trained, evaluated = run()
    np.testing.assert_allclose(trained, evaluated, rtol=0.03, atol=0.03)
