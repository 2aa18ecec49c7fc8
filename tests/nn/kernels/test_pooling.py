"""Pools and their gradients against loops that follow PyTorch's rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.nn.kernels.pooling import avg_pool, max_pool
from fednas_jax.nn.kernels.window import Window
from tests.plain import supernet as plain
from tests.plain.layout import to_images, to_maps
from tests.quick import quick_jit

BATCH = 2
CASES = [(1, (4, 5)), (2, (4, 6)), (2, (5, 7)), (2, (5, 4)), (1, (2, 1))]  # stride, H and W


def loop_max(x, dy, stride):
    """3 x 3 maxima; the first of equal ones, row by row, takes the gradient. -> (y, dx)"""
    y, dx = np.empty_like(dy), np.zeros_like(x)
    for b, c, i, j in np.ndindex(*dy.shape):
        places = [
            (u, v)
            for u in range(max(i * stride - 1, 0), min(i * stride + 2, x.shape[2]))
            for v in range(max(j * stride - 1, 0), min(j * stride + 2, x.shape[3]))
        ]
        values = [x[b, c, u, v] for u, v in places]
        first = int(np.argmax(values))
        y[b, c, i, j] = values[first]
        dx[(b, c, *places[first])] += dy[b, c, i, j]
    return y, dx


def value_and_gradient(function, window, images, dy):
    def run(x, dy):
        y, back = jax.vjp(lambda a: function(a, window), x)
        return y, *back(dy)

    y, dx = quick_jit(run)(to_maps(images), to_maps(dy))
    return to_images(y, BATCH), to_images(dx, BATCH)


def draw(window, ties):
    rng = np.random.RandomState(0)
    shape = (BATCH, 2, window.height, window.width)
    # Few integers, of which each window holds several equal ones; all negative, as padding counts.
    images = rng.randint(-3, 0, size=shape).astype(float) if ties else rng.normal(size=shape)
    return images, rng.normal(size=(BATCH, 2, window.out_height, window.out_width))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("stride", "size"), CASES)
def test_max_pool_and_its_gradient_where_the_first_of_ties_wins(stride, size, ties):
    window = Window(3, stride, 1, *size, BATCH)
    images, dy = draw(window, ties)
    found = value_and_gradient(max_pool, window, images, dy)
    for ours, expected in zip(found, loop_max(images, dy, stride), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(found[0], plain.max_pool(jnp.asarray(images), stride))


def test_max_pool_of_equal_pixels_by_hand():
    # All nine windows tie; each gives its gradient to its top left pixel inside the map.
    window = Window(3, 1, 1, 3, 3, 1)
    _, back = jax.vjp(lambda x: max_pool(x, window), jnp.ones((1, 3, 3)))
    np.testing.assert_array_equal(
        back(jnp.ones((1, 3, 3)))[0][0], [[4, 2, 0], [2, 1, 0], [0, 0, 0]]
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("stride", "size"), CASES)
def test_avg_pool_and_its_gradient(stride, size):
    window = Window(3, stride, 1, *size, BATCH)
    images, dy = draw(window, ties=False)
    y, dx = value_and_gradient(avg_pool, window, images, dy)
    expected, back = jax.vjp(lambda x: plain.average_pool(x, stride), jnp.asarray(images))
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(dx, back(jnp.asarray(dy))[0], rtol=0, atol=1e-13)


def test_avg_pool_does_not_count_padding():
    window = Window(3, 2, 1, 4, 3, 1)
    np.testing.assert_allclose(avg_pool(jnp.full((1, 4, 3), 5.0), window), 5.0, rtol=1e-6)
