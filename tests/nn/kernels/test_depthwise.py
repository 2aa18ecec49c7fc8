"""The depthwise convolution and both its gradients against `lax` convolutions in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.nn.kernels.depthwise import (
    add_slices,
    kernel_gradient,
    stencil,
    sum_maps,
    transposed,
)
from fednas_jax.nn.kernels.window import Window
from tests.plain import supernet as plain
from tests.plain.layout import to_images, to_maps
from tests.quick import quick_jit

SOURCES, EDGES, CHANNELS, BATCH = 2, 3, 2, 2
LEAD = (SOURCES, EDGES, CHANNELS)


def plain_depthwise(x, kernel, window):
    """The same by a grouped convolution: x [S, M or 1, C, H, W * B], kernel [S, M, C, k, k]."""
    x = jnp.broadcast_to(x, (*LEAD, *x.shape[-2:]))
    weight = kernel.reshape(-1, 1, window.kernel, window.kernel)
    y = plain.convolution(
        to_images(x, window.batch),
        weight,
        stride=window.stride,
        dilation=window.dilation,
        groups=len(weight),
    )
    return to_maps(y, *LEAD)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "size"),
    [
        (3, 1, 1, (4, 5)),
        (3, 2, 1, (5, 4)),
        (5, 1, 1, (3, 6)),
        (5, 2, 1, (6, 5)),
        (3, 1, 2, (5, 4)),
        (3, 2, 2, (4, 7)),
        (5, 1, 2, (6, 5)),
        (5, 2, 2, (5, 8)),
        (5, 2, 2, (2, 3)),  # smaller than its padding
    ],
)
def test_depthwise_and_its_gradients(kernel, stride, dilation, size, shared):
    window = Window(kernel, stride, dilation, *size, BATCH)
    rng = np.random.RandomState(0)
    x = rng.normal(size=(SOURCES, 1 if shared else EDGES, CHANNELS, size[0], size[1] * BATCH))
    weights = rng.normal(size=(*LEAD, kernel, kernel))
    dy = rng.normal(size=(*LEAD, window.out_height, window.out_width * BATCH))

    def ours(x, weights, dy):
        planes = window.planes(x, 0.0)
        dx = transposed(dy, weights, window)
        dx = dx.sum(axis=1, keepdims=True) if shared else dx
        return stencil(planes, weights, window), dx, kernel_gradient(planes, dy, window)

    def theirs(x, weights, dy):
        y, back = jax.vjp(lambda a, b: plain_depthwise(a, b, window), x, weights)
        return y, *back(dy)

    found, expected = (quick_jit(function)(x, weights, dy) for function in (ours, theirs))
    for name, mine, plainly in zip(("y", "dx", "dk"), found, expected, strict=True):
        assert mine.dtype == jnp.float64
        np.testing.assert_allclose(mine, plainly, rtol=0, atol=1e-12, err_msg=name)


def depthwise(x, kernel, window):
    return stencil(window.planes(x, 0.0), kernel, window)


@pytest.mark.usefixtures("x64")
def test_images_of_a_batch_do_not_mix():
    # The batch lies in the last axis with the width: a shift must not reach the neighbour's pixels.
    window = Window(5, 1, 2, 4, 4, 3)
    x = np.random.RandomState(1).normal(size=(1, 1, 4, 4, 3))
    kernel = np.random.RandomState(2).normal(size=(1, 1, 5, 5))
    together = depthwise(jnp.asarray(x.reshape(1, 1, 4, 12)), jnp.asarray(kernel), window)
    for image in range(3):
        alone = depthwise(jnp.asarray(x[..., image]), jnp.asarray(kernel), window._replace(batch=1))
        np.testing.assert_allclose(
            together.reshape(1, 1, 4, 4, 3)[..., image], alone, rtol=0, atol=1e-13
        )


def test_sums():
    x = np.random.RandomState(3).normal(size=(2, 3, 4, 5))
    first, second = sum_maps([jnp.asarray(x), jnp.asarray(x**2)])
    np.testing.assert_allclose(first, x.sum((-2, -1)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(second, (x**2).sum((-2, -1)), rtol=1e-5)
    summed = add_slices(jnp.asarray(x), axis=-3)
    np.testing.assert_allclose(summed, x.sum(-3, keepdims=True), rtol=1e-5, atol=1e-5)
