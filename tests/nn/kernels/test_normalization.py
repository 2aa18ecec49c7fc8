"""BatchNorm and the mixed sum: values and hand-written gradients against autodiff in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.nn.kernels.normalization import (
    Moments,
    batch_norm,
    mixed_sum,
    mixed_sum_by,
    moments,
    normalize,
)
from tests.quick import quick_jit


def plain_norm(x):
    mean = x.mean(axis=(-2, -1), keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=(-2, -1), keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-5)


def value_and_gradients(function, arguments, cotangents):
    def run(arguments, cotangents):
        y, back = jax.vjp(function, *arguments)
        return y, back(cotangents)

    return quick_jit(run)(arguments, cotangents)


def assert_close(found, expected, atol=1e-12):
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


@pytest.mark.usefixtures("x64")
def test_batch_norm_and_its_gradient():
    rng = np.random.RandomState(0)
    x, dy = 3 + rng.normal(size=(2, 3, 4, 10)), rng.normal(size=(2, 3, 4, 10))
    found = value_and_gradients(lambda x: batch_norm(x)[0], (x,), dy)
    assert_close(found, value_and_gradients(plain_norm, (x,), dy))
    statistics = batch_norm(jnp.asarray(x))[1]
    np.testing.assert_allclose(statistics.mean, x.mean((-2, -1)), rtol=1e-12)
    np.testing.assert_allclose(statistics.variance, x.var((-2, -1)), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_no_gradient_flows_through_moments():
    x = jnp.asarray(np.random.RandomState(1).normal(size=(3, 4, 5)))
    gradient = jax.grad(lambda x: sum(m.sum() for m in batch_norm(x)[1]))(x)
    np.testing.assert_array_equal(gradient, 0.0)


def test_normalize_by_given_moments():
    # (7 - 3) / sqrt(4 + 1e-5)
    y = normalize(jnp.full((1, 2, 2), 7.0), Moments(jnp.array([3.0]), jnp.array([4.0])))
    np.testing.assert_allclose(y, 4 / np.sqrt(4 + 1e-5), rtol=1e-6)


def test_moments_in_float32():
    # One pass multiplies rounding errors by (mean / deviation)^2, here 100.
    x = np.random.RandomState(2).normal(10.0, 1.0, size=(3, 32, 512)).astype(np.float32)
    found = moments(jnp.asarray(x))
    np.testing.assert_allclose(found.mean, x.mean((-2, -1), dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(found.variance, x.var((-2, -1), dtype=np.float64), rtol=2e-3)


def test_moments_of_a_constant_map_are_not_negative():
    found = moments(jnp.full((2, 7, 7), 0.1))
    assert float(found.variance.min()) >= 0
    y, _ = batch_norm(jnp.zeros((2, 1, 1)))
    np.testing.assert_array_equal(y, 0.0)


# The mixed sum: S sources, M nodes; some maps belong to an edge, some to all edges of a source.

SOURCES, NODES, CHANNELS, HEIGHT, WIDTH = 2, 3, 2, 3, 8
MAP = (CHANNELS, HEIGHT, WIDTH)


def draw_mixture(identity):
    rng = np.random.RandomState(3)
    maps = tuple(2 + rng.normal(size=(SOURCES, m, *MAP)) for m in (NODES, 1, NODES, 1))
    weights = rng.uniform(0.1, 1.0, size=(len(maps), SOURCES, NODES))
    rest = (None, None)
    if identity:
        rest = (rng.normal(size=(SOURCES, 1, *MAP)), rng.uniform(size=(SOURCES, NODES)))
    return (maps, weights, *rest), rng.normal(size=(NODES, *MAP))


def plain_mixed_sum(maps, weights, identity, identity_weight, norm=plain_norm):
    """[M, C, H, W * B], with every map normalised and kept."""
    total = sum(w[..., None, None, None] * norm(z) for z, w in zip(maps, weights, strict=True))
    if identity is not None:
        total = total + identity_weight[..., None, None, None] * identity
    return total.sum(axis=0)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("identity", [False, True])
def test_mixed_sum_and_its_gradients_with_shared_maps(identity):
    arguments, dy = draw_mixture(identity)

    def ours(*arguments):
        return jnp.stack(mixed_sum(*arguments)[0])

    y, gradients = value_and_gradients(ours, arguments, dy)
    expected, expected_gradients = value_and_gradients(plain_mixed_sum, arguments, dy)
    assert_close(y, expected)
    for found, plain in zip(gradients, expected_gradients, strict=True):
        assert_close(found, plain)
    _, statistics = mixed_sum(*jax.tree.map(jnp.asarray, arguments))
    for *used, z in zip(*statistics, arguments[0], strict=True):
        wide = np.broadcast_to(z, (SOURCES, NODES, *MAP))
        np.testing.assert_allclose(used[0], wide.mean((-2, -1)), rtol=1e-12)
        np.testing.assert_allclose(used[1], wide.var((-2, -1)), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_identity_weight_gradient_by_hand():
    # One source, one node: the gradient of its share is the sum of dy x, whatever else is mixed in.
    (maps, weights, *_), dy = draw_mixture(False)
    x = np.random.RandomState(4).normal(size=(1, 1, *MAP))

    def total(share):
        mixture = (tuple(z[:1, :1] for z in maps), weights[:, :1, :1], x, share)
        return (mixed_sum(*jax.tree.map(jnp.asarray, mixture))[0][0] * dy[0]).sum()

    gradient = jax.grad(total)(jnp.array([[0.25]]))
    np.testing.assert_allclose(gradient, [[(dy[0] * x[0, 0]).sum()]], rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_mixed_sum_by_given_moments():
    arguments, _ = draw_mixture(True)
    rng = np.random.RandomState(5)
    shape = (len(arguments[0]), SOURCES, NODES, CHANNELS)
    running = Moments(rng.normal(size=shape), rng.uniform(0.5, 2, size=shape))
    found = mixed_sum_by(*jax.tree.map(jnp.asarray, (*arguments, running)))
    known = (Moments(*pair) for pair in zip(*running, strict=True))
    expected = plain_mixed_sum(*arguments, norm=lambda z: normalize(z, next(known)))
    assert_close(jnp.stack(found), expected)
