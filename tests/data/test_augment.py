"""Augmentation against a loop over pixels in plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.data import augment as aug

MEAN = (0.4, 0.5, 0.6)
STD = (0.2, 0.25, 0.3)
AUGMENT = jax.jit(aug.augment, static_argnums=2)
DRAW = jax.jit(aug.draw, static_argnums=(1, 2))


def make_images(seed, batch=6, height=12, width=10, channels=3, dtype=np.uint8):
    rng = np.random.RandomState(seed)
    images = rng.randint(1, 256, (batch, height, width, channels))
    return images.astype(dtype) if dtype == np.uint8 else (images / 100.0).astype(dtype)


def reference(images, augmentation, draws):
    """The same, example by example and pixel by pixel."""
    batch, height, width, channels = images.shape
    mean, std = np.float32(augmentation.mean), np.float32(augmentation.std)
    padding, side = augmentation.crop_padding, augmentation.cutout
    out = np.zeros(images.shape, np.float32)
    for b in range(batch):
        padded = np.zeros((height + 2 * padding, width + 2 * padding, channels), images.dtype)
        padded[padding : padding + height, padding : padding + width] = images[b]
        top, left = (0, 0) if draws.offset is None else np.asarray(draws.offset[b])
        crop = padded[top : top + height, left : left + width]
        if draws.flip is not None and draws.flip[b]:
            crop = crop[:, ::-1]
        unit = crop.astype(np.float32) / (255 if images.dtype == np.uint8 else 1)
        out[b] = (unit - mean) / std
        if draws.centre is not None:
            row, column = np.asarray(draws.centre[b])
            for i in range(row - side // 2, row - side // 2 + side):
                for j in range(column - side // 2, column - side // 2 + side):
                    if 0 <= i < height and 0 <= j < width:
                        out[b, i, j] = 0
    return out


@pytest.mark.parametrize(
    ("padding", "flip", "cutout", "channels", "dtype"),
    [
        (0, False, 0, 3, np.uint8),
        (4, False, 0, 1, np.uint8),
        (0, True, 0, 2, np.float32),
        (0, False, 4, 3, np.uint8),
        (4, True, 5, 3, np.uint8),
        (2, True, 16, 2, np.float32),
    ],
)
def test_equals_a_loop_over_pixels(padding, flip, cutout, channels, dtype):
    augmentation = aug.Augmentation(padding, flip, cutout, MEAN[:channels], STD[:channels])
    images = make_images(0, channels=channels, dtype=dtype)
    key = jax.random.key(padding + cutout)
    got = AUGMENT(key, images, augmentation)
    want = reference(images, augmentation, DRAW(key, images.shape, augmentation))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_vmapped_clients_equal_single_clients():
    augmentation = aug.Augmentation(4, True, 4, MEAN, STD)
    images = np.stack([make_images(seed) for seed in range(3)])
    keys = jax.random.split(jax.random.key(1), 3)
    together = jax.jit(jax.vmap(lambda k, x: aug.augment(k, x, augmentation)))(keys, images)
    for k in range(3):
        alone = AUGMENT(keys[k], images[k], augmentation)
        np.testing.assert_array_equal(together[k], alone)


def test_draws_cover_their_whole_range_and_differ_between_examples():
    augmentation = aug.Augmentation(2, True, 3, (0.5,), (0.2,))
    draws = DRAW(jax.random.key(0), (2000, 9, 11, 1), augmentation)
    assert set(np.unique(draws.offset)) == {0, 1, 2, 3, 4}
    assert set(np.unique(draws.centre[:, 0])) == set(range(9))
    assert set(np.unique(draws.centre[:, 1])) == set(range(11))
    assert 0.45 < np.mean(draws.flip) < 0.55


def test_one_switch_leaves_the_other_draws_alone():
    full = DRAW(jax.random.key(3), (8, 9, 9, 1), aug.Augmentation(2, True, 3, (0.5,), (0.2,)))
    only = DRAW(jax.random.key(3), (8, 9, 9, 1), aug.Augmentation(0, False, 3, (0.5,), (0.2,)))
    np.testing.assert_array_equal(full.centre, only.centre)
    assert only.offset is None
    assert only.flip is None


def test_same_key_same_bits_other_key_other_images():
    augmentation = aug.Augmentation(4, True, 4, MEAN, STD)
    images = make_images(0)
    first, again, other = (
        np.asarray(AUGMENT(jax.random.key(s), images, augmentation)) for s in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_even_cutout_in_the_middle_blanks_side_squared_pixels():
    images = jnp.ones((1, 32, 32, 1))
    hole = aug._cut_out(images, 16, jnp.array([[16, 16]]))
    assert int((hole == 0).sum()) == 16 * 16
    corner = aug._cut_out(images, 16, jnp.array([[0, 0]]))
    assert int((corner == 0).sum()) == 8 * 8


def test_switched_off_costs_nothing():
    augmentation = aug.Augmentation(0, False, 0, MEAN, STD)
    lowered = AUGMENT.lower(
        jax.random.key(0), jax.ShapeDtypeStruct((4, 8, 8, 3), jnp.uint8), augmentation
    )
    text = lowered.compile().as_text()  # threefry, were it there, would show its exclusive ors
    assert " gather(" not in text
    assert "rng" not in text
    assert "xor" not in text


def test_to_unit_scales_bytes_only():
    np.testing.assert_allclose(aug.to_unit(jnp.array([0, 51, 255], jnp.uint8)), [0, 0.2, 1])
    np.testing.assert_array_equal(aug.to_unit(jnp.array([0.0, 51.0])), [0, 51])
