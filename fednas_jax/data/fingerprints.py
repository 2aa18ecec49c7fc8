"""Digests that identify examples: one of each image, and one of all examples in their order."""

import hashlib
from collections.abc import Sequence

import numpy as np

_DIGEST_BYTES = 8


def image_digests(images: np.ndarray) -> np.ndarray:
    """[N] uint64: 8 bytes of the SHA-256 of each image; about 2 microseconds for one of CIFAR-10.

    Args:
      images: [N, H, W, C], or other inputs [N, ...]. Digests depend on their shape and dtype.
    """
    start = hashlib.sha256(_kind(images, images.shape[1:]))
    found = bytearray()
    for image in np.ascontiguousarray(images):
        digest = start.copy()
        digest.update(image.data)
        found += digest.digest()[:_DIGEST_BYTES]
    return np.frombuffer(bytes(found), "<u8").astype(np.uint64)


def sha256(images: np.ndarray, labels: np.ndarray) -> str:
    """The SHA-256 of all images and labels, in their order.

    Args:
      images: [N, H, W, C], or other inputs [N, ...].
      labels: [N], or other targets [N, ...].
    """
    digest = hashlib.sha256()
    truth = labels.astype(np.int64) if _are_classes(labels) else labels
    for array in (images, truth):
        digest.update(_kind(array, array.shape))
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def sha256_of_all(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> str:
    """The SHA-256 of images and labels, independent of their order and of how they are split.

    Args:
      parts: images [N, H, W, C] and labels [N] of each part.
    """
    examples = np.concatenate([np.stack([image_digests(x), _numbers(y)], axis=1) for x, y in parts])
    ordered = examples[np.lexsort((examples[:, 1], examples[:, 0]))]
    return hashlib.sha256(ordered.astype("<u8").tobytes()).hexdigest()


def _numbers(labels: np.ndarray) -> np.ndarray:
    """[N] uint64: labels as they are; of targets [N, ...] a digest of each."""
    return labels.astype(np.uint64) if _are_classes(labels) else image_digests(labels)


def _are_classes(labels: np.ndarray) -> bool:
    return labels.ndim == 1 and labels.dtype.kind in "iub"


def _kind(array: np.ndarray, shape: tuple[int, ...]) -> bytes:
    return repr((array.dtype.str, shape)).encode()
