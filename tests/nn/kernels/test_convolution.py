"""Dense convolutions by patches and by Winograd's filtering, and 2 x 2 pooling, against `lax`."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fednas_jax.nn.kernels import convolution, winograd
from fednas_jax.nn.kernels.convolution import flatten, max_pool_2x2, to_maps
from tests.quick import quick_jit

BATCH = 3
WAYS = {
    "patches": convolution.conv_by_patches,
    "winograd": winograd.conv,
    "chosen": convolution.conv,
}
CASES = [(5, 2, 14, 8), (3, 0, 9, 7), (3, 1, 4, 6), (2, 0, 5, 2), (1, 0, 3, 3)]
"""Kernel, padding, H and W: whole tiles and not, and fewer rows than a tile."""


def draw(size: int, padding: int, height: int, width: int, channels: int = 2) -> tuple:
    rng = np.random.RandomState(0)
    images = rng.normal(size=(BATCH, height, width, channels))
    kernel = rng.normal(size=(4, size, size, channels))
    grown = 2 * padding - size + 1
    return images, kernel, rng.normal(size=(BATCH, height + grown, width + grown, 4))


def by_lax(images, kernel, padding):
    return lax.conv_general_dilated(
        images,
        kernel.transpose(1, 2, 3, 0),
        (1, 1),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def value_and_gradients(function, *arguments):
    """The value, and what a cotangent, the last argument, becomes."""

    def run(*all_arguments):
        *inputs, cotangent = all_arguments
        value, back = jax.vjp(function, *inputs)
        return value, *back(cotangent)

    return quick_jit(run)(*map(jnp.asarray, arguments))


def as_images(maps):
    channels, height, width = maps.shape
    return maps.reshape(channels, height, width // BATCH, BATCH).transpose(3, 1, 2, 0)


def ours(way, padding):
    def run(images, kernel):
        return as_images(WAYS[way](to_maps(images), kernel, padding, BATCH))

    return run


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("way", ["patches", "winograd"])
@pytest.mark.parametrize(("size", "padding", "height", "width"), CASES)
def test_values_and_gradients_are_those_of_lax(way, size, padding, height, width):
    arrays = draw(size, padding, height, width)
    found = value_and_gradients(ours(way, padding), *arrays)
    wanted = value_and_gradients(lambda x, k: by_lax(x, k, padding), *arrays)
    for one, two in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-11)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("way", list(WAYS))
def test_clients_with_kernels_of_their_own_side_by_side(way):
    channels = convolution.WINOGRAD_CHANNELS
    arrays = [np.stack([a, -2 * a[::-1]]) for a in draw(3, 1, 4, 5, channels)]
    found = value_and_gradients(jax.vmap(ours(way, 1)), *arrays)
    wanted = value_and_gradients(jax.vmap(lambda x, k: by_lax(x, k, 1)), *arrays)
    for one, two in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-11)


@pytest.mark.parametrize("way", ["patches", "winograd"])
def test_float32_loses_no_more_than_a_digit(way):
    images, kernel, _ = draw(5, 2, 14, 14, 32)
    with jax.enable_x64(True):
        wanted = np.asarray(by_lax(jnp.asarray(images), jnp.asarray(kernel), 2))
    found = quick_jit(ours(way, 2))(images.astype(np.float32), kernel.astype(np.float32))
    # A rounding is 6e-8; 800 terms add up.
    assert np.abs(found - wanted).max() < 3e-6 * np.abs(wanted).max()


@pytest.mark.parametrize("taps", [2, 3, 5])
def test_transforms_are_exact(taps):
    output, kernel, inputs = (
        [[Fraction(x).limit_denominator(10_000) for x in row] for row in matrix]
        for matrix in winograd.transforms(taps)
    )
    g = [Fraction(n * n - 3, 7) for n in range(taps)]
    d = [Fraction(5 - 2 * n, 3) for n in range(winograd.TILE + taps - 1)]

    def times(matrix, vector):
        return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]

    product = [a * b for a, b in zip(times(kernel, g), times(inputs, d), strict=True)]
    filtered = [sum(g[j] * d[i + j] for j in range(taps)) for i in range(winograd.TILE)]
    assert times(output, product) == filtered


def test_flattened_maps_are_in_the_order_of_pytorch():
    images = np.arange(BATCH * 2 * 3 * 4).reshape(BATCH, 2, 3, 4)
    found = flatten(to_maps(jnp.asarray(images)), BATCH)
    np.testing.assert_array_equal(found, images.transpose(0, 3, 1, 2).reshape(BATCH, -1))


def loop_max(x, dy):
    """2 x 2 maxima of [B, H, W, C]; the first of equals, row by row, takes the gradient."""
    y, dx = np.empty_like(dy), np.zeros_like(x)
    for b, i, j, c in np.ndindex(*dy.shape):
        square = x[b, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
        row, column = np.unravel_index(np.argmax(square), (2, 2))
        y[b, i, j, c] = square[row, column]
        dx[b, 2 * i + row, 2 * j + column, c] = dy[b, i, j, c]
    return y, dx


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("ties", [False, True])
def test_max_pool_and_its_gradient_where_the_first_of_ties_wins(ties):
    rng = np.random.RandomState(1)
    shape = (BATCH, 4, 6, 2)
    images = rng.randint(-2, 1, size=shape).astype(float) if ties else rng.normal(size=shape)
    dy = rng.normal(size=(BATCH, 2, 3, 2))
    pool = lambda x: as_images(max_pool_2x2(to_maps(x), BATCH))  # noqa: E731
    for found, wanted in zip(
        value_and_gradients(pool, images, dy), loop_max(images, dy), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)
