"""ReLU, depthwise and pointwise convolution with the backward pass by hand, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.nn.kernels.separable import Kernels, relu_separable, separable_by
from fednas_jax.nn.kernels.window import Window
from tests.plain import supernet as plain
from tests.plain.layout import to_images, to_maps
from tests.quick import quick_jit

SOURCES, EDGES, CHANNELS, BATCH = 2, 3, 2, 2
LEAD = (SOURCES, EDGES, CHANNELS)


def windows(stride, size):
    """A 3 x 3 and a dilated 5 x 5, which share the padding of the wider one."""
    narrow = Window(3, stride, 1, *size, BATCH, margin=3)
    return narrow, Window(5, stride, 2, *size, BATCH)


def draw(shared, size, kernel_sizes=(3, 5)):
    rng = np.random.RandomState(0)
    x = rng.normal(size=(SOURCES, 1 if shared else EDGES, CHANNELS, size[0], size[1] * BATCH))
    kernels = tuple(
        Kernels(rng.normal(size=(*LEAD, k, k)), rng.normal(size=(*LEAD, CHANNELS)))
        for k in kernel_sizes
    )
    return x, kernels


def plainly(x, kernels, windows, normalized):
    """One `lax` convolution after another; autodiff."""
    if normalized:
        mean, variance = (f(x, axis=(-2, -1), keepdims=True) for f in (jnp.mean, jnp.var))
        x = (x - mean) / jnp.sqrt(variance + 1e-5)
    x = jnp.broadcast_to(jax.nn.relu(x), (*LEAD, *x.shape[-2:]))
    out = []
    for kernel, window in zip(kernels, windows, strict=True):
        weight = kernel.depthwise.reshape(-1, 1, window.kernel, window.kernel)
        y = plain.convolution(
            to_images(x, BATCH),
            weight,
            stride=window.stride,
            dilation=window.dilation,
            groups=len(weight),
        )
        out.append(jnp.einsum("smdc,smchw->smdhw", kernel.pointwise, to_maps(y, *LEAD)))
    return tuple(out)


def both_ways(function, x, kernels, cotangents):
    def run(x, kernels, cotangents):
        y, back = jax.vjp(function, x, kernels)
        return y, *back(cotangents)

    return quick_jit(run)(x, kernels, cotangents)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("shared", "normalized", "stride", "size"),
    [(True, False, 1, (4, 5)), (True, False, 2, (6, 5)), (False, True, 1, (5, 4))],
)
def test_values_and_gradients(shared, normalized, stride, size):
    x, kernels = draw(shared, size)
    both = windows(stride, size)
    rng = np.random.RandomState(1)
    out = (*LEAD, both[0].out_height, both[0].out_width * BATCH)
    cotangents = tuple(rng.normal(size=out) for _ in both)

    def ours(x, kernels):
        return relu_separable(x, kernels, jnp.array(True), both, normalized)[0]

    found = both_ways(ours, x, kernels, cotangents)
    expected = both_ways(
        lambda x, kernels: plainly(x, kernels, both, normalized), x, kernels, cotangents
    )
    for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-11)


@pytest.mark.usefixtures("x64")
def test_gradients_of_kernels_that_nobody_wants_are_zeros_and_those_of_the_map_are_as_ever():
    x, kernels = draw(True, (4, 4))
    both = windows(1, (4, 4))

    @quick_jit
    def gradients(x, kernels, needs_weight_gradients):
        def total(x, kernels):
            return sum(
                (z**2).sum()
                for z in relu_separable(x, kernels, needs_weight_gradients, both, False)[0]
            )

        return jax.grad(total, (0, 1))(x, kernels)

    dx, of_kernels = gradients(x, kernels, True)
    dx_alone, nothing = gradients(x, kernels, False)
    np.testing.assert_array_equal(dx, dx_alone)
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(of_kernels))
    assert all(jnp.all(leaf == 0) for leaf in jax.tree.leaves(nothing))


@pytest.mark.usefixtures("x64")
def test_moments_are_those_of_the_batch_and_can_be_given():
    x, kernels = draw(False, (4, 4))
    both = windows(1, (4, 4))
    out, statistics = relu_separable(jnp.asarray(x), kernels, jnp.array(True), both, True)
    np.testing.assert_allclose(statistics.mean, x.mean((-2, -1)), rtol=1e-11)
    np.testing.assert_allclose(statistics.variance, x.var((-2, -1)), rtol=1e-11)
    again = separable_by(jnp.asarray(x), kernels, both, statistics)
    for first, second in zip(out, again, strict=True):
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-13)
