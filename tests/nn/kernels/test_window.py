"""Windows: what each tap sees, the way back, phase planes."""

import numpy as np
import pytest

from fednas_jax.nn.kernels.window import Window, join_phases, split_phases
from tests.plain.layout import to_images, to_maps
from tests.quick import quick_jit

BATCH = 2
SHAPES = [(3, 1), (3, 2), (5, 1), (5, 2)]  # kernel, dilation
SIZES = [(6, 5), (3, 2)]  # even and odd; smaller than the window


def seen(images, window, tap, fill):
    """What a tap sees in images [B, C, H, W] padded all around, as PyTorch pads them."""
    pad = window.dilation * (window.kernel // 2)
    padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=fill)
    row, column = tap[0] * window.dilation, tap[1] * window.dilation
    shifted = padded[:, :, row : row + window.height, column : column + window.width]
    return shifted[:, :, :: window.stride, :: window.stride]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kernel", "dilation"), SHAPES)
def test_each_tap_sees_the_shifted_map(kernel, dilation, size, stride):
    window = Window(kernel, stride, dilation, *size, BATCH)
    images = np.random.RandomState(0).normal(size=(BATCH, 3, *size))

    def views(x):
        planes = window.planes(x, -7.0)
        return [window.view(planes, tap) for tap in window.taps]

    found = quick_jit(views)(to_maps(images))
    assert len(found) == kernel * kernel
    for tap, view in zip(window.taps, found, strict=True):
        assert view.shape == (3, window.out_height, window.out_width * BATCH)
        np.testing.assert_array_equal(to_images(view, BATCH), seen(images, window, tap, -7.0))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kernel", "dilation"), SHAPES)
def test_transpose_returns_what_outputs_say_to_the_inputs_they_saw(kernel, dilation, size, stride):
    window = Window(kernel, stride, dilation, *size, BATCH)
    rng = np.random.RandomState(1)
    said = rng.normal(size=(BATCH, 3, window.out_height, window.out_width))
    factor = {tap: rng.normal() for tap in window.taps}

    def back(dy):
        return window.transpose((dy,), lambda tap, part: factor[tap] * part)

    # Number the pixels and look up which of them each tap sees; -1 is padding.
    numbers = np.arange(size[0] * size[1]).reshape(1, 1, *size)
    expected = np.zeros((BATCH, 3, size[0] * size[1]))
    for tap in window.taps:
        for place in np.ndindex(window.out_height, window.out_width):
            pixel = seen(numbers, window, tap, -1)[0, 0][place]
            if pixel >= 0:
                expected[:, :, pixel] += factor[tap] * said[(..., *place)]
    found = to_images(quick_jit(back)(to_maps(said)), BATCH)
    np.testing.assert_allclose(found, expected.reshape(BATCH, 3, *size), rtol=0, atol=1e-13)


def test_transpose_gives_each_term_every_array_at_the_same_output():
    window = Window(3, 2, 1, 5, 5, 1)
    output_number = np.arange(1.0, 10.0).reshape(1, 3, 3)

    def back(first, second):
        return window.transpose(
            (first, second), lambda tap, a, b: np.float32(tap == (1, 1)) * a * b
        )

    # Through the middle tap output (i, j) saw pixel (2i, 2j).
    expected = np.zeros((1, 5, 5))
    expected[:, ::2, ::2] = 10 * output_number**2
    found = quick_jit(back)(output_number, 10 * output_number)
    np.testing.assert_array_equal(found, expected)


def test_phases_split_by_parity_and_join_again():
    images = np.random.RandomState(2).normal(size=(BATCH, 3, 4, 6)).astype(np.float32)
    maps = to_maps(images)
    planes = split_phases(maps, BATCH)
    for (row, column), plane in planes.items():
        np.testing.assert_array_equal(to_images(plane, BATCH), images[:, :, row::2, column::2])
    np.testing.assert_array_equal(join_phases(planes, BATCH), maps)


@pytest.mark.parametrize(("size", "halved"), [(8, 4), (7, 4), (2, 1), (1, 1)])
def test_output_sizes_are_rounded_up(size, halved):
    window = Window(5, 2, 2, size, size + 2, 1)
    assert (window.padding, window.out_height, window.out_width) == (4, halved, halved + 1)
