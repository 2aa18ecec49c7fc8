"""Decodes image files into one array of bytes."""

import concurrent.futures
import functools
import io
import itertools
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from fednas_jax.runtime.errors import UserError, one_line, warn_once

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm"),
)
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # not EPS, which starts a program
_MODES = dict.fromkeys(("1", "L", "LA", "La"), "L") | dict.fromkeys(
    ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"), "RGB"
)
"""Pillow's modes of 8 bits -> the mode in which such an image is read."""
_DEEP = "it has more than 8 bits per channel; 8 bits, or floats in an .npz file, are needed"
_ORIENTATION = 0x0112
"""The tag of EXIF that says how a camera was held."""
_TURNED = (5, 6, 7, 8)
"""Its values where rows and columns are exchanged."""
_THREADS = 8  # Pillow decodes without Python's lock
_PER_THREAD = 8  # images decoded ahead of the one that is copied
_SLOW_SECONDS = 3.0  # after which progress is shown


class Picture(NamedTuple):
    """An image that is not yet decoded."""

    called: str
    """What errors call it: its path, or the row that it is from."""
    content: Path | bytes
    """Its file, or the content of its file."""


class _Decoded(NamedTuple):
    """One image: pixels, [H, W] or [H, W, 3] uint8; or None and the reason."""

    pixels: np.ndarray | None
    reason: str = ""
    frames: bool = False
    """Whether it has more frames than the one that is read."""


def read(pictures: Iterable[Picture], count: int, where: str) -> np.ndarray:
    """Decodes images of equal size into one array.

    Grey images have one channel if all images are grey; otherwise all are RGB. Transparency is
    dropped, palettes are resolved, and the orientation that a camera recorded (EXIF) is applied.

    Args:
      pictures: the images.
      count: their number, N.
      where: what lines about all of them call their source.

    Returns:
      [N, H, W, C] uint8, C = 1 or 3.

    Raises:
      UserError: an image cannot be read or has more than 8 bits per channel, or sizes differ.
    """
    stack = _Stack(count, where)
    progress: Any = tqdm(total=count, desc=where, unit="image", delay=_SLOW_SECONDS, disable=None)
    with progress, warnings.catch_warnings():
        from PIL import Image  # slow to import

        warnings.simplefilter("ignore")  # of damaged metadata; damaged pixels are errors
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for picture, found in _decoded(pictures, stack):
            stack.add(picture, found)
            progress.update()
    return stack.finished()


class _Stack:
    """Copies images into one array, and counts what is not as in the others."""

    def __init__(self, count: int, where: str) -> None:
        """Args: number of all images; what lines call their source."""
        self._count, self._where = count, where
        self._images: np.ndarray | None = None
        self._unreadable: list[str] = []
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._first: dict[tuple[int, int], str] = {}
        self._seen = self._grey = self._several_frames = 0
        self.too_large: UserError | None = None
        """The error of images that memory cannot hold; the sizes of others tell if it is true."""

    def add(self, picture: Picture, found: _Decoded) -> None:
        """Takes the next image, of any size, or the reason why it cannot be read."""
        at, self._seen = self._seen, self._seen + 1
        if found.pixels is None:
            self._unreadable.append(f"{picture.called}: cannot be read ({found.reason})")
            return
        pixels = np.atleast_3d(found.pixels)
        height, width, channels = pixels.shape
        self._sizes[height, width] += 1
        self._first.setdefault((height, width), picture.called)
        self._grey += channels == 1
        self._several_frames += found.frames
        if self.too_large or len(self._sizes) > 1:
            return  # refused at the end
        if self._images is None or channels > self._images.shape[3]:
            grey, self._images = self._images, self._empty(pixels.shape)
            if self._images is None:
                return
            if grey is not None:
                self._images[:at] = grey[:at]
        self._images[at] = pixels

    def finished(self) -> np.ndarray:
        """The images, [N, H, W, C]; errors as of `read`."""
        _check(self._unreadable, self._sizes, self._first, self._count)
        if self.too_large:
            raise self.too_large
        assert self._images is not None, "there is an image, since none is unreadable"
        if self._several_frames:
            warn_once(
                f"{self._where}: images with several frames, of which the first is read: "
                f"{self._several_frames}"
            )
        if 0 < self._grey < self._count:
            are = "is" if self._grey == 1 else "are"
            warn_once(
                f"{self._where}: {self._grey} of {self._count} images {are} grey, and {are} read "
                "as RGB like the others"
            )
        return self._images

    def _empty(self, shape: tuple[int, ...]) -> np.ndarray | None:
        """[N, *shape] uint8, not yet filled; None where memory cannot hold it."""
        try:
            return np.empty((self._count, *shape), np.uint8)
        except MemoryError:
            gigabytes = self._count * math.prod(shape) / 1e9
            (height, width), called = next(iter(self._first.items()))
            images = "1 image" if self._count == 1 else f"{self._count} images"
            self.too_large = UserError(
                f"{self._where}: {images} of {height} x {width} pixels, like {called}, "
                f"need {gigabytes:.0f} GB of memory; fewer or smaller images are needed"
            )
            return None


def _decoded(pictures: Iterable[Picture], stack: _Stack) -> Iterator[tuple[Picture, _Decoded]]:
    """Each image with its pixels, in order; decoded by several threads, some images ahead.

    Once memory cannot hold them, only their sizes are read, from the heads of their files.
    """
    rest = iter(pictures)
    threads = min(_THREADS, os.cpu_count() or 1)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        while some := list(itertools.islice(rest, threads * _PER_THREAD)):
            decode = functools.partial(_decode, only_size=stack.too_large is not None)
            yield from zip(some, pool.map(decode, some), strict=True)


def _decode(picture: Picture, *, only_size: bool = False) -> _Decoded:
    """Decodes an image; with `only_size`, all pixels are 0 and take no memory."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    content = picture.content
    source = io.BytesIO(content) if isinstance(content, bytes) else content
    try:
        with Image.open(source, formats=_FORMATS) as image:
            if image.mode not in _MODES or _is_deep(image):
                return _Decoded(None, _DEEP)
            # The further pictures in a phone's JPEG (MPO) are other sizes or views of the first.
            frames = image.format != "MPO" and bool(getattr(image, "is_animated", False))
            if only_size:
                turned = image.getexif().get(_ORIENTATION, 1) in _TURNED
                shape = image.size if turned else image.size[::-1]
                return _Decoded(np.broadcast_to(np.uint8(0), shape), frames=frames)
            upright = ImageOps.exif_transpose(image).convert(_MODES[image.mode])
            return _Decoded(np.array(upright, np.uint8), frames=frames)
    except UnidentifiedImageError:
        return _Decoded(None, f"it is no {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]} image")
    except Exception as error:  # of any type: Pillow's decoders meet bytes of any origin
        return _Decoded(None, one_line(error))


def _is_deep(image: Any) -> bool:
    """Whether Pillow would drop the lower bits of 16-bit RGB, which it reads as mode RGB.

    What its decoder is given says so: a file's own mode, such as "RGB;16B", or the largest value.
    """
    given = [tile[3] for tile in getattr(image, "tile", ()) if len(tile) > 3]
    several = [one for some in given for one in (some if isinstance(some, tuple) else (some,))]
    if image.format == "PPM":
        return any(isinstance(one, int) and one > 255 for one in several)
    return any(isinstance(one, str) and ";16" in one for one in several)


def _check(
    unreadable: list[str],
    sizes: Counter[tuple[int, int]],
    first: dict[tuple[int, int], str],
    count: int,
) -> None:
    """Refuses unreadable images and unlike sizes.

    Args:
      unreadable: a line for each image that cannot be read.
      sizes: number of images of each size, (height, width).
      first: what the first image of each size is called.
      count: number of all images.
    """
    if unreadable:
        more = f", and {len(unreadable) - 1} more of {count}" if unreadable[1:] else ""
        raise UserError(f"{unreadable[0]}{more}; whole images are needed")
    if len(sizes) > 1:
        (usual, number), (other, _) = sizes.most_common(2)
        (height, width), (its_height, its_width) = usual, other
        are = "is" if count - number == 1 else "are"
        raise UserError(
            f"{first[other]} is {its_height} x {its_width} pixels (height x width), and "
            f"{count - number} of {count} images {are} not {height} x {width} like {first[usual]}; "
            "images of one size are needed, which Pillow makes by "
            f"Image.open(file).resize(({width}, {height})).save(file)"
        )
