"""The networks of FedAvg's experiments: golden sizes, and the CNN against a plain one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from fednas_jax.networks.cnn import CNN
from fednas_jax.networks.mlp import MLP
from fednas_jax.networks.pfl_cnn import PFLCNN, dropout
from tests.quick import quick_jit

MNIST, CIFAR = (28, 28, 1), (32, 32, 3)
KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("network", "shape", "parameters"),
    [
        # McMahan et al. 2017, Section 3: "1,663,370 total parameters", "199,210 parameters".
        (CNN(10), MNIST, 1_663_370),
        (MLP(10), MNIST, 199_210),
        # 896 + 18,496 + 1,605,760 + 1,290, and as PyTorch counts pfl-research's own.
        (PFLCNN(10), CIFAR, 1_626_442),
    ],
)
def test_number_of_parameters(network: nn.Module, shape: tuple, parameters: int) -> None:
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    variables = jax.eval_shape(lambda x: network.init(KEY, x, train=False), images)
    assert set(variables) == {"params"}
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == parameters


def plain(params, images, paddings, pools):
    """Convolution, ReLU, pooling, in the papers' order and with operations of `lax`."""
    x = images
    for number, padding in enumerate(paddings):
        layer = params[f"conv{number}"]
        x = lax.conv_general_dilated(
            x,
            layer["kernel"].transpose(1, 2, 3, 0),
            (1, 1),
            [(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = jax.nn.relu(x + layer["bias"])
        if number in pools:
            x = nn.max_pool(x, (2, 2), (2, 2), ((pools[number],) * 2,) * 2)
    x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    x = jax.nn.relu(x @ params["dense0"]["kernel"] + params["dense0"]["bias"])
    return x @ params["dense1"]["kernel"] + params["dense1"]["bias"]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("network", "shape", "paddings", "pools"),
    [
        (CNN(3), (8, 8, 1), (2, 2), {0: 0, 1: 0}),
        (CNN(3, "flower"), (8, 12, 1), (1, 1), {0: 1, 1: 1}),
        (PFLCNN(3), (8, 8, 3), (0, 0), {1: 0}),
    ],
)
def test_cnns_are_those_of_the_papers(network, shape, paddings, pools):
    images = jnp.asarray(np.random.RandomState(0).normal(size=(2, *shape)))
    params = quick_jit(lambda: network.init(KEY, images, train=False)["params"])()
    params = jax.tree.map(lambda w: w.astype(jnp.float64), params)
    labels = jnp.array([0, 2])

    def loss(logits):
        return -jax.nn.log_softmax(logits)[jnp.arange(2), labels].mean()

    def both(params):
        ours = lambda p: loss(network.apply({"params": p}, images, train=False))  # noqa: E731
        theirs = lambda p: loss(plain(p, images, paddings, pools))  # noqa: E731
        return jax.value_and_grad(ours)(params), jax.value_and_grad(theirs)(params)

    found, wanted = quick_jit(both)(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-12), found, wanted)


def test_starts_are_those_of_the_originals() -> None:
    images = jnp.zeros((1, *MNIST))
    params = quick_jit(lambda: CNN(10).init(KEY, images, train=False)["params"])()
    for name, fan_in in (("conv0", 25), ("conv1", 800), ("dense0", 3136), ("dense1", 512)):
        for leaf in params[name].values():
            bound = 1 / np.sqrt(fan_in)  # PyTorch's default of weights and biases
            assert 0.8 * bound < np.abs(leaf).max() <= bound
    images = jnp.zeros((1, 8, 8, 3))
    params = quick_jit(lambda: PFLCNN(10).init(KEY, images, train=False)["params"])()
    for name, fan_in, fan_out in (("conv0", 27, 288), ("conv1", 288, 576), ("dense1", 128, 10)):
        kernel, bound = params[name]["kernel"], np.sqrt(6 / (fan_in + fan_out))
        assert 0.95 * bound < np.abs(kernel).max() <= bound
        assert 0 < np.abs(params[name]["bias"]).max() <= 1 / np.sqrt(fan_in)


@pytest.mark.parametrize("quarters", [1, 2])
def test_dropout_takes_its_share_and_keeps_the_mean(quarters: int) -> None:
    x = jnp.ones((70, 1001))
    found = np.asarray(dropout(KEY, x, quarters))
    assert set(np.unique(found)) == {0, np.float32(4 / (4 - quarters))}
    # Standard error of the mean of 70,070 draws: at most 0.004.
    assert abs(found.mean() - 1) < 0.016
    assert abs(found[:, :500].mean() - found[:, 500:].mean()) < 0.03


def test_dropout_is_for_training_alone() -> None:
    images = jnp.ones((2, 8, 8, 3))
    network = PFLCNN(10)
    params = quick_jit(lambda: network.init(KEY, images, train=False))()

    @quick_jit
    def logits(key):
        rngs = {"dropout": key}
        return (
            network.apply(params, images, train=True, rngs=rngs),
            network.apply(params, images, train=False),
        )

    (one, still), (two, still_again) = logits(KEY), logits(jax.random.key(1))
    assert np.abs(one - two).max() > 1e-3
    np.testing.assert_array_equal(still, still_again)
