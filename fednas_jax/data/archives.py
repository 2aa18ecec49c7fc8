"""The published data sets, read from their authors' archives where TFDS has not prepared them.

TFDS can read prepared data without TensorFlow, but needs TensorFlow to prepare them, since it
unpacks archives with it. This module downloads the archives, checks the SHA-256 that TFDS has on
record, and reads them.

Sources:
  cifar10, cifar100: Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
  mnist: LeCun, Cortes, Burges, 1998. fashion_mnist: Xiao, Rasul, Vollgraf, 2017.
"""

import contextlib
import gzip
import hashlib
import http.client
import os
import tarfile
import urllib.request
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from fednas_jax.runtime.errors import UserError

_TIMEOUT_SECONDS = 10.0  # to connect, and between two pieces: short, to report a missing network
_PIECE_BYTES = 1 << 20


class Decoded(NamedTuple):
    """A published data set.

    Attributes:
      train_images: [N, H, W, C] uint8.
      train_labels: [N] int32.
      test_images: [N_test, H, W, C] uint8.
      test_labels: [N_test] int32.
      class_names: [classes] unicode.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: np.ndarray


class Archive(NamedTuple):
    """One file of a data set: its address, and the SHA-256 of its bytes."""

    url: str
    sha256: str


_CIFAR = "https://www.cs.toronto.edu/~kriz"
_MNIST = "https://storage.googleapis.com/cvdf-datasets/mnist"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
# Order: training images, training labels, test images, test labels; or one archive for all.
_IDX_FILES = tuple(
    f"{split}-{kind}-ubyte.gz"
    for split in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
)
_MNIST_SHA256 = (
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)
_FASHION_SHA256 = (
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
)
ARCHIVES: dict[str, tuple[Archive, ...]] = {
    "cifar10": (
        Archive(
            f"{_CIFAR}/cifar-10-binary.tar.gz",
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
    "cifar100": (
        Archive(
            f"{_CIFAR}/cifar-100-binary.tar.gz",
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        ),
    ),
    "mnist": tuple(
        Archive(f"{_MNIST}/{file}", sha256)
        for file, sha256 in zip(_IDX_FILES, _MNIST_SHA256, strict=True)
    ),
    "fashion_mnist": tuple(
        Archive(f"{_FASHION}/{file}", sha256)
        for file, sha256 in zip(_IDX_FILES, _FASHION_SHA256, strict=True)
    ),
}
_FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def read(name: str, folder: Path) -> Decoded:
    """Reads a data set from its archives, and downloads those that are missing.

    Args:
      name: a key of `ARCHIVES`.
      folder: the data folder; the archives are in `downloads/fednas_jax/NAME` in it, under their
        published names (they can be put there by hand).

    Raises:
      UserError: an archive is missing and cannot be downloaded or saved.
    """
    place = folder / "downloads" / "fednas_jax" / name
    paths = []
    for archive in ARCHIVES[name]:
        path = place / archive.url.rpartition("/")[2]
        try:
            if not _is_whole(path, archive):
                _fetch(archive, path)
        except (OSError, http.client.HTTPException) as error:
            raise UserError(
                f"config.dataset.name: '{name}' is not in {folder} and cannot be downloaded "
                f"({_reason(error)}); set TFDS_DATA_DIR or config.dataset.data_dir to a folder "
                "that has it, or run once on a machine with a network"
            ) from error
        paths.append(path)
    if name == "cifar10":
        batches = [f"data_batch_{i}.bin" for i in range(1, 6)]
        return _read_cifar(paths[0], batches, "test_batch.bin", "batches.meta.txt", 1)
    if name == "cifar100":
        return _read_cifar(paths[0], ["train.bin"], "test.bin", "fine_label_names.txt", 2)
    arrays = [_read_idx(path) for path in paths]
    names = _FASHION_CLASSES if name == "fashion_mnist" else [str(digit) for digit in range(10)]
    return Decoded(
        arrays[0][..., None],
        arrays[1].astype(np.int32),
        arrays[2][..., None],
        arrays[3].astype(np.int32),
        np.array(names),
    )


def _reason(error: Exception) -> str:
    """Why a download failed, in one line; urllib's errors and timeouts are OSErrors, a truncated
    response is not."""
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return " ".join(str(reason).split()) or type(error).__name__


def _is_whole(path: Path, archive: Archive) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == archive.sha256


def _fetch(archive: Archive, path: Path) -> None:
    """Downloads an archive; the file gets its name only when it is complete. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    digest = hashlib.sha256()
    with urllib.request.urlopen(archive.url, timeout=_TIMEOUT_SECONDS) as response:
        path.parent.mkdir(parents=True, exist_ok=True)  # here, so that no network leaves no folder
        total = int(response.headers.get("Content-Length") or 0) or None
        try:
            with (
                temporary.open("wb") as file,
                tqdm(total=total, desc=path.name, unit="B", unit_scale=True) as bar,
            ):
                while piece := response.read(_PIECE_BYTES):
                    file.write(piece)
                    digest.update(piece)
                    bar.update(len(piece))
            if digest.hexdigest() != archive.sha256:
                raise OSError(f"{archive.url}: not the bytes on record, SHA-256 differs")
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _read_cifar(
    path: Path, train: list[str], test: str, class_file: str, label_bytes: int
) -> Decoded:
    """Reads CIFAR: records of label bytes, of which the last is used, then 3 x 32 x 32 pixels,
    channel by channel."""
    with tarfile.open(path, "r:gz") as archive:
        # One pass, since going back in a gzip file means unpacking it again.
        files = {
            Path(member.name).name: file.read()
            for member in archive
            if (file := archive.extractfile(member)) is not None
        }

    def records(content: bytes) -> tuple[np.ndarray, np.ndarray]:
        rows = np.frombuffer(content, np.uint8).reshape(-1, label_bytes + 3072)
        pixels = rows[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(pixels), rows[:, label_bytes - 1].astype(np.int32)

    train_images, train_labels = records(b"".join(files[part] for part in train))
    test_images, test_labels = records(files[test])
    names = np.array(files[class_file].decode().split())
    return Decoded(train_images, train_labels, test_images, test_labels, names)


def _read_idx(path: Path) -> np.ndarray:
    """Reads an array in MNIST's format: 3 bytes, rank, sizes as big-endian int32, uint8 values."""
    content = gzip.decompress(path.read_bytes())
    rank = content[3]
    shape = np.frombuffer(content, ">i4", rank, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)
