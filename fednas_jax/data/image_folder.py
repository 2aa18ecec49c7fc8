"""Reads a folder of images, in which the folders around an image name its class and client."""

import itertools
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fednas_jax.data import image_table
from fednas_jax.data.image_table import VALIDATION, Part
from fednas_jax.data.images import SUFFIXES, Picture
from fednas_jax.runtime.errors import UserError, listed, one_line, warn_once

_OF_THE_SYSTEM = ("thumbs.db", "desktop.ini", "__macosx")
_LAYOUTS = "CLASS/FILE or CLIENT/CLASS/FILE"


class _Rest(NamedTuple):
    """What has no images.

    Attributes:
      kinds: number of files that are no images, by suffix.
      empty: `parts` of each folder without images.
    """

    kinds: Counter[str]
    empty: list[tuple[str, ...]]


class _Found(NamedTuple):
    """An image file.

    Attributes:
      parts: names of the folders around it below the folder that is read, and its own; composed
        (NFC), since some file systems keep letters and accents apart.
      path: its path.
    """

    parts: tuple[str, ...]
    path: Path


def read(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a folder of images, in the order of their paths.

    Images lie in CLASS/FILE or CLIENT/CLASS/FILE; or so in folders `train` and `test`, if there are
    no others than these and `val` (or `valid`, `validation`, `dev`), which is left out.

    Returns:
      As `image_table.arrays`; labels and clients are the names of folders.

    Raises:
      UserError: there is no image, folders are of another structure, or as `images.read`.
    """
    rest = _Rest(Counter(), [])
    found = sorted(_files(folder, (), frozenset(), rest))
    splits = _splits(folder)
    if not splits:
        train = _part(found, folder, 0)
        _tell_of(rest, folder)
        return image_table.arrays(train, None, str(folder))
    if beside := next((one for one in found if len(one.parts) == 1), None):
        raise UserError(f"{beside.path}: lies beside {_named(splits)}; in one of these is needed")
    for one, other in itertools.combinations(splits, 2):
        if one.lower() == other.lower():
            raise UserError(f"{folder}: has {one} and {other}; one folder of this split is needed")
    for name in splits:
        if left := sum(one.parts[0] == name and name.lower() in VALIDATION for one in found):
            images_are = "1 image is" if left == 1 else f"{left} images are"
            warn_once(
                f"{folder / name}: {images_are} left out, as the best round is selected on "
                "examples that clients hold out; config.dataset.test_path can name it as test set"
            )
    parts = {
        name.lower(): _part([one for one in found if one.parts[0] == name], folder / name, 1)
        for name in splits
        if name.lower() not in VALIDATION
    }
    if "train" not in parts:
        raise UserError(
            f"{folder}: has {_named(splits)}, but no folder train; such a folder is needed, or the "
            f"path of one that holds {_LAYOUTS}"
        )
    _tell_of(rest, folder)
    return image_table.arrays(parts["train"], parts.get("test"), str(folder))


def brings_test_set(folder: Path) -> bool:
    """Whether a folder of images has a test set: folders `train` and `test`, and no classes."""
    return {"train", "test"} <= {name.lower() for name in _splits(folder)}


def _splits(folder: Path) -> tuple[str, ...]:
    """The names of the folders of splits; empty where the folders in it are classes or clients."""
    names = sorted(entry.name for entry in _entries(folder) if os.path.isdir(entry.path))
    if all(name.lower() in ("train", "test", *VALIDATION) for name in names):
        return tuple(names)
    return ()


def _tell_of(rest: _Rest, folder: Path) -> None:
    """Lines that count the files that are no images, by suffix, and the folders without images."""
    if empty := [parts for parts in sorted(rest.empty) if parts[:-1] not in rest.empty]:
        named = listed([repr("/".join(parts)) for parts in empty], 5)
        warn_once(f"{folder}: folders without images are left out: {len(empty)} ({named})")
    if rest.kinds:
        kinds = listed([suffix or "without suffix" for suffix in sorted(rest.kinds)], 5)
        number = sum(rest.kinds.values())
        warn_once(f"{folder}: files that are no images are not read: {number} ({kinds})")


def _files(
    folder: Path, parts: tuple[str, ...], around: frozenset[tuple[int, int]], rest: _Rest
) -> Iterator[_Found]:
    """All image files in a folder.

    Args:
      folder: the folder.
      parts: names of the folders around its entries.
      around: device and number of these folders. A link to one of them is not followed.
      rest: gets what has no images.
    """
    for entry in _entries(folder):
        here = (*parts, unicodedata.normalize("NFC", entry.name))
        path = Path(entry.path)
        if os.path.isdir(path):
            status = path.stat()
            identity = status.st_dev, status.st_ino
            if identity not in around:
                below = _files(path, here, around | {identity}, rest)
                if (first := next(below, None)) is None:
                    rest.empty.append(here)
                    continue
                yield first
                yield from below
        elif path.suffix.lower() in SUFFIXES and (entry.is_symlink() or entry.is_file()):
            yield _Found(here, path)
        else:
            rest.kinds[path.suffix.lower()] += 1


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, without hidden files and those of operating systems."""
    try:
        with os.scandir(folder) as entries:
            return [
                entry
                for entry in entries
                if not entry.name.startswith(".") and entry.name.lower() not in _OF_THE_SYSTEM
            ]
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be read ({one_line(error)}); a readable folder is needed"
        ) from error


def _part(found: Sequence[_Found], folder: Path, skipped: int) -> Part:
    """The images below a folder, with the names of the folders around them.

    Args:
      found: the images.
      folder: the folder.
      skipped: number of folders at the start of each image's `parts` that name a split.

    Raises:
      UserError: there are none, or they lie in another structure.
    """
    if not found:
        raise UserError(
            f"{folder}: has no image ({', '.join(SUFFIXES)}); images in {_LAYOUTS} are needed"
        )
    depths: dict[int, Path] = {}
    for one in found:
        depths.setdefault(len(one.parts) - skipped, one.path)
        _check_text(one)
    if len(depths) > 1:
        (deep, path), (other, its_path), *_ = sorted(depths.items(), reverse=True)
        folders = "1 folder" if deep == 2 else f"{deep - 1} folders"
        raise UserError(
            f"{folder}: {path} lies {folders} deep, {its_path} lies {other - 1}; all "
            f"images in {_LAYOUTS} are needed"
        )
    ((depth, path),) = depths.items()
    if depth not in (2, 3):
        lies = f"{depth - 1} folders deep" if depth > 1 else "directly"
        raise UserError(f"{path}: lies {lies} in {folder}; {_LAYOUTS} is needed")
    pictures = [Picture(str(one.path), one.path) for one in found]
    labels = np.array([one.parts[-2] for one in found], str)
    client = np.array([one.parts[-3] for one in found], str) if depth == 3 else None
    return Part(pictures, labels, client)


def _check_text(one: _Found) -> None:
    """Refuses names of classes and clients that are not valid text."""
    try:
        "/".join(one.parts).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{os.fsencode(one.path)!r}: this path is not UTF-8; names in UTF-8 are needed"
        ) from error


def _named(names: Sequence[str]) -> str:
    return " and ".join(names)
