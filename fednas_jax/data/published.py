"""The published data sets: read where TFDS has prepared them, and cached decoded."""

import contextlib
import hashlib
import io
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from fednas_jax.data import archives
from fednas_jax.data.archives import Decoded
from fednas_jax.data.npz import read_npz
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.paths import cache_home, expand, home

NAMES = tuple(archives.ARCHIVES)
_READ_AT_ONCE = 1000
_CACHE_FORMAT = 1  # raised when the content of cached files changes


def data_folder(data_dir: str | Path | None = None) -> Path:
    """`data_dir` if given, else TFDS_DATA_DIR, else TFDS's default, ~/tensorflow_datasets.

    Raises:
      UserError: the path is not usable.
    """
    if data_dir:
        return expand(data_dir, "config.dataset.data_dir")
    if from_environment := os.environ.get("TFDS_DATA_DIR"):
        return expand(from_environment, "TFDS_DATA_DIR")
    return expand("~/tensorflow_datasets", "TFDS_DATA_DIR or config.dataset.data_dir")


def prepared_folder(name: str, folder: Path) -> Path | None:
    """The folder of the newest version of `name` that TFDS has prepared; None without one."""
    versions = {
        tuple(int(part) for part in info.parent.name.split(".")): info.parent
        for info in folder.glob(f"{name}/*/dataset_info.json")
        if info.parent.name.replace(".", "").isdigit()
    }
    return versions[max(versions)] if versions else None


def read(name: str, data_dir: str | Path | None = None, *, cache: bool = True) -> Decoded:
    """Reads a data set from the data folder, or downloads it into that folder.

    Args:
      name: one of `NAMES`.
      data_dir: see `data_folder`.
      cache: whether to read and write the decoded images in `cache_folder()`. Decoding CIFAR-10
        takes about 10 s, reading 184 MB from the cache less than 1 s. Without such a folder, or
        where it cannot be written, nothing is cached; a damaged file is written again.

    Raises:
      UserError: the data set cannot be read, or is missing and cannot be downloaded.
    """
    folder = data_folder(data_dir)
    try:
        prepared = prepared_folder(name, folder)
        if prepared is None:
            return archives.read(name, folder)
        kept = _cache_path(name, prepared)
    except OSError as error:
        raise UserError(
            f"config.dataset.data_dir: {error.filename or folder} cannot be read "
            f"({error.strerror or error}); a folder that can is needed"
        ) from error
    if not cache or kept is None:
        return _decode(name, prepared)
    decoded = _read_cache(kept)
    if decoded is None:
        decoded = _decode(name, prepared)
        _write_cache(kept, decoded)
    return decoded


def cache_folder() -> Path | None:
    """XDG_CACHE_HOME/fednas_jax, else ~/.cache/fednas_jax; None where there is no home folder."""
    home = cache_home()
    return home and home / "fednas_jax"


def _cache_path(name: str, prepared: Path) -> Path | None:
    """The cache file, named after the name, size and time of the prepared files, so that changed
    data is decoded again; None where there is no cache folder."""
    folder = cache_folder()
    if folder is None:
        return None
    digest = hashlib.sha256(f"{_CACHE_FORMAT} {prepared.resolve()}\n".encode())
    for file in sorted(prepared.iterdir()):
        facts = file.stat()
        digest.update(f"{file.name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return folder / f"{name}-{prepared.name}-{digest.hexdigest()[:16]}.npz"


def _read_cache(path: Path) -> Decoded | None:
    """Reads a cache file; None where it is missing or damaged (an .npz has checksums)."""
    try:
        decoded = Decoded(**read_npz(path, Decoded._fields, required=Decoded._fields))
    except UserError:
        return None
    return decoded


def _write_cache(path: Path, decoded: Decoded) -> None:
    """Writes a cache file, whole or not at all; two processes at once write the same bytes."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=".", suffix=".tmp", delete=False
        ) as file:
            temporary = file.name
            np.savez(file, **decoded._asdict())
        os.replace(temporary, path)
    except OSError:  # a read-only or full disk; a run does not need the cache
        with contextlib.suppress(OSError):
            Path(temporary).unlink(missing_ok=True)


def _decode(name: str, prepared: Path) -> Decoded:
    """Reads data that TFDS has prepared, without TensorFlow.

    It uses one thread: two take longer (1.2 s instead of 0.9 s for 5,000 images of CIFAR-10), since
    most of the time is spent in Python around the decoder.
    """
    with warnings.catch_warnings(), home():
        warnings.simplefilter("ignore")  # of other packages' imports
        import tensorflow_datasets as tfds  # slow, and only needed here
    try:
        builder = tfds.builder_from_directory(prepared)
        names = [str(label) for label in builder.info.features["label"].names]
        raw = {"image": tfds.decode.SkipDecoding()}  # bytes, which are decoded below
        parts: list[np.ndarray] = []
        for split in ("train", "test"):
            source = builder.as_data_source(split=split, decoders=raw)
            parts += _decode_split(source, builder.info.features["image"].shape)
    except NotImplementedError as error:
        raise UserError(
            f"{prepared}: '{name}' is stored as TFRecord files, which need TensorFlow; prepare it "
            "with file_format='array_record', or name another folder in config.dataset.data_dir"
        ) from error
    except Exception as error:  # TFDS raises many types of errors for a damaged folder
        raise UserError(
            f"{prepared}: '{name}' cannot be read ({type(error).__name__}); "
            "delete the folder and let it be downloaded again"
        ) from error
    return Decoded(parts[0], parts[1], parts[2], parts[3], np.array(names))


def _decode_split(source: Any, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, H, W, C] uint8 and labels [N] int32 of a TFDS data source with encoded images."""
    from PIL import Image  # slow to import, and only needed here

    images = np.empty((len(source), *shape), np.uint8)
    labels = np.empty(len(source), np.int32)
    for first in range(0, len(source), _READ_AT_ONCE):
        indices = range(first, min(first + _READ_AT_ONCE, len(source)))
        for i, example in zip(indices, source.__getitems__(list(indices)), strict=True):
            with Image.open(io.BytesIO(example["image"])) as image:
                images[i] = np.asarray(image).reshape(shape)
            labels[i] = example["label"]
    return images, labels
