"""Decoding image files: the very pixels that were saved, or one line that names the file."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fednas_jax.data import images
from fednas_jax.data.images import Picture
from fednas_jax.runtime.errors import UserError, warn_once

GREY = np.arange(80, dtype=np.uint8).reshape(8, 10)
COLOUR = np.random.RandomState(0).randint(0, 256, (8, 10, 3)).astype(np.uint8)


def encoded(image, kind="PNG", **options):
    content = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(content, kind, **options)
    return content.getvalue()


def read(*contents):
    pictures = [Picture(f"image {i}", content) for i, content in enumerate(contents)]
    return images.read(iter(pictures), len(pictures), "here")


@pytest.fixture(autouse=True)
def _each_line_anew():
    warn_once.cache_clear()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_formats_without_loss_give_the_pixels_that_were_saved(kind):
    found = read(encoded(COLOUR, kind), encoded(COLOUR[::-1], kind))
    np.testing.assert_array_equal(found, [COLOUR, COLOUR[::-1]])
    assert found.dtype == np.uint8


def test_webp_and_gif_too():
    np.testing.assert_array_equal(read(encoded(COLOUR, "WEBP", lossless=True))[0], COLOUR)
    few = np.repeat(COLOUR[:1, :4], 8, axis=0)  # 4 colours: no loss in a palette
    np.testing.assert_array_equal(read(encoded(Image.fromarray(few).quantize(4), "GIF"))[0], few)


def test_jpeg_is_what_pillow_decodes():
    content = encoded(COLOUR, "JPEG")
    np.testing.assert_array_equal(read(content)[0], np.array(Image.open(io.BytesIO(content))))


def test_grey_alone_stays_one_channel(capsys):
    found = read(encoded(GREY), encoded(Image.fromarray(GREY > 40)), encoded(GREY, "JPEG"))
    assert found.shape == (3, 8, 10, 1)
    np.testing.assert_array_equal(found[0, ..., 0], GREY)
    np.testing.assert_array_equal(found[1, ..., 0], (GREY > 40) * 255)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("order", [(0, 1, 0), (1, 0, 0)])
def test_grey_beside_colour_becomes_rgb_and_a_line_says_so(order, capsys):
    kinds = GREY, COLOUR
    found = read(*(encoded(kinds[one]) for one in order))
    as_rgb = np.repeat(GREY[..., None], 3, axis=2), COLOUR
    np.testing.assert_array_equal(found, [as_rgb[one] for one in order])
    assert "here: 2 of 3 images are grey, and are read as RGB" in capsys.readouterr().err


def test_transparency_is_dropped_and_palettes_are_resolved():
    alpha = np.dstack([COLOUR, GREY])
    np.testing.assert_array_equal(read(encoded(alpha))[0], COLOUR)
    with_alpha = Image.fromarray(GREY)
    with_alpha.putalpha(Image.fromarray(GREY[::-1].copy()))
    np.testing.assert_array_equal(read(encoded(with_alpha))[0, ..., 0], GREY)
    few = np.repeat(COLOUR[:1, :4], 8, axis=0)
    np.testing.assert_array_equal(read(encoded(Image.fromarray(few).quantize(4)))[0], few)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_the_orientation_of_a_camera_is_applied(kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    step = np.zeros((8, 16), np.uint8)
    step[:, 8:] = 255
    options = {"lossless": True} if kind == "WEBP" else {}
    found = read(encoded(step, kind, exif=exif.tobytes(), **options))[0]
    assert found.shape[:2] == (16, 8)
    assert (found[:8, :, 0] < 9).all()
    assert (found[8:, :, 0] > 246).all()


@pytest.mark.parametrize(
    "deep",
    [
        encoded(np.full((8, 8), 300, np.uint16)),
        encoded(np.full((8, 8), 300, np.uint16), "TIFF"),
        encoded(np.full((8, 8), 70000, np.int32), "TIFF"),
        encoded(np.full((8, 8), 0.5, np.float32), "TIFF"),
        b"P6 8 8 65535\n" + bytes(8 * 8 * 3 * 2),
        b"P5 8 8 65535\n" + bytes(8 * 8 * 2),
    ],
)
def test_more_than_8_bits_are_never_clipped(deep):
    part = r"image 1: cannot be read \(it has more than 8 bits per channel; 8 bits, or floats in an"
    with pytest.raises(UserError, match=part):
        read(encoded(GREY), deep)


def sixteen_bit_rgb():
    """A PNG of 16-bit RGB, which Pillow does not write."""

    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    rows = (b"\0" + bytes(8 * 6)) * 8
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_the_lower_bits_of_16_bit_colour_are_not_dropped():
    with pytest.raises(UserError, match="more than 8 bits per channel"):
        read(sixteen_bit_rgb())


def test_unreadable_images_are_counted_and_the_first_is_named(tmp_path):
    whole = encoded(COLOUR)
    with pytest.raises(UserError) as error:
        read(whole, whole[:-40], b"<svg/>", tmp_path / "gone.png", whole)
    text = str(error.value)
    assert text.startswith("image 1: cannot be read (")
    assert text.endswith("), and 2 more of 5; whole images are needed")
    with pytest.raises(UserError, match=r"image 0: cannot be read \(it is no PNG, JPEG, .*or PPM"):
        read(b"<svg/>")
    with pytest.raises(UserError, match=r"cannot be read \(No such file or directory\); whole"):
        read(tmp_path / "gone.png")
    with pytest.raises(UserError, match=r"it is no PNG"):
        read(encoded(COLOUR, "EPS"))


def test_unlike_sizes_name_two_images_and_how_to_resize():
    with pytest.raises(UserError) as error:
        read(encoded(GREY), encoded(GREY.T), encoded(GREY), encoded(GREY[:, :9]))
    assert str(error.value) == (
        "image 1 is 10 x 8 pixels (height x width), and 2 of 4 images are not 8 x 10 like image 0; "
        "images of one size are needed, which Pillow makes by "
        "Image.open(file).resize((10, 8)).save(file)"
    )


@pytest.mark.parametrize("limit", [50, 30])
def test_a_decompression_bomb_is_one_line(monkeypatch, limit):
    """Below half of an image's pixels Pillow raises an error, below all of them it warns."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(UserError, match=r"image 0: cannot be read \(Image size \(80 pixels\)"):
        read(encoded(GREY))


def test_of_several_frames_the_first_is_read_and_a_line_says_so(capsys):
    frames = [Image.fromarray(GREY), Image.fromarray(GREY[::-1].copy())]
    content = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read(content, encoded(GREY))[..., 0], [GREY, GREY])
    assert (
        "here: images with several frames, of which the first is read: 1" in capsys.readouterr().err
    )


def test_memory_that_is_not_there_is_one_line(monkeypatch):
    def no_memory(*_):
        raise MemoryError

    content = encoded(GREY)
    monkeypatch.setattr(images.np, "empty", no_memory)
    with pytest.raises(
        UserError, match="here: 2 images of 8 x 10 pixels, like image 0, need 0 GB of m"
    ):
        read(content, content)


@pytest.mark.parametrize("turned", [False, True])
def test_one_large_image_at_the_start_is_of_unlike_size_and_no_lack_of_memory(monkeypatch, turned):
    """Once memory lacks, sizes are read from the heads of files, and as a camera was held."""
    empty = np.empty

    def little_memory(shape, *rest):
        if np.prod(shape) > 10_000:
            raise MemoryError
        return empty(shape, *rest)

    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    small = encoded(GREY.T.copy() if turned else GREY, exif=exif.tobytes())
    monkeypatch.setattr(images.np, "empty", little_memory)
    monkeypatch.setattr(images, "_PER_THREAD", 1)
    monkeypatch.setattr(images.os, "cpu_count", lambda: 2)
    with pytest.raises(
        UserError, match=r"image 0 is 90 x 70 pixels .*, and 1 of 9 images is not 8"
    ):
        read(encoded(np.zeros((90, 70), np.uint8)), *[small] * 8)


@pytest.mark.parametrize("threads", [1, 8])
def test_the_order_is_that_of_the_images_whatever_the_threads(monkeypatch, threads):
    monkeypatch.setattr(images, "_THREADS", threads)
    monkeypatch.setattr(images.os, "cpu_count", lambda: 8)
    many = np.arange(150 * 64, dtype=np.uint32).reshape(150, 8, 8).astype(np.uint8)
    many[:, 0, 0] = np.arange(150)
    np.testing.assert_array_equal(read(*map(encoded, many))[..., 0], many)


def test_damaged_bytes_give_pixels_or_one_line():
    """Each byte of the head of each format, changed: no traceback, no warning."""
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        whole = encoded(GREY, kind)
        for place in range(0, min(len(whole), 300), 2):
            damaged = bytearray(whole)
            damaged[place] ^= 0xA5
            with contextlib.suppress(UserError):  # of one line, whatever is wrong
                assert read(bytes(damaged)).dtype == np.uint8
