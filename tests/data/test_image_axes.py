"""Channels of images: grey ones where RGB is needed, and the ends of errors about shapes."""

import numpy as np
import pytest

from fednas_jax.data import image_axes
from fednas_jax.runtime.errors import warn_once

GREY = np.arange(2 * 8 * 9, dtype=np.uint8).reshape(2, 8, 9, 1)


@pytest.fixture(autouse=True)
def _each_line_anew():
    warn_once.cache_clear()


def test_grey_becomes_rgb_where_rgb_of_this_size_is_needed(capsys):
    for kind in (np.uint8, np.float32):
        found = image_axes.grey_as(GREY.astype(kind), (8, 9, 3), "x.npz")
        assert (found.shape, found.dtype) == ((2, 8, 9, 3), kind)
        for channel in range(3):
            np.testing.assert_array_equal(found[..., channel], GREY[..., 0])
    assert capsys.readouterr().err == (
        "fednas_jax: warning: x.npz: grey images are read as RGB, as the training images are\n"
    )


@pytest.mark.parametrize("wanted", [(8, 9, 1), (8, 9, 4), (9, 8, 3), (5,), ()])
def test_other_images_stay_as_they_are(wanted, capsys):
    assert image_axes.grey_as(GREY, wanted, "x.npz") is GREY
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("shape", "wanted", "part"),
    [
        ((2, 8, 9, 3), (8, 9, 1), "Image.convert('L')"),
        ((2, 8, 9, 1), (8, 9, 3), "np.repeat(images, 3, axis=-1)"),
        ((2, 3, 8, 9), (8, 9, 3), "np.moveaxis(images, 1, -1)"),
        ((2, 3, 8, 9), (), "np.moveaxis(images, 1, -1)"),
    ],
)
def test_an_error_says_how_to_change_the_channels(shape, wanted, part):
    assert part in image_axes.hint(shape, wanted)


@pytest.mark.parametrize(
    ("shape", "wanted"), [((2, 8, 9, 4), (8, 9, 3)), ((2, 7, 9, 1), (8, 9, 3)), ((2, 8), (8, 9, 3))]
)
def test_no_hint_where_nothing_is_sure(shape, wanted):
    assert image_axes.hint(shape, wanted) == ""
