"""Images with labels and clients, as the arrays that an .npz file would have."""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from fednas_jax.data import images
from fednas_jax.data.images import Picture

_INT32 = np.iinfo(np.int32)
VALIDATION = ("val", "valid", "validation", "dev")
"""Names of a split that is left out: examples that clients hold out select the best round."""


class Part(NamedTuple):
    """The images of one split, not yet decoded.

    Attributes:
      pictures: N images.
      labels: [N] text or integers.
      client: [N] text or integers; None where images have no client.
    """

    pictures: Iterable[Picture]
    labels: np.ndarray
    client: np.ndarray | None


def arrays(train: Part, test: Part | None, where: str) -> dict[str, np.ndarray]:
    """Decodes the images of both splits into one array, of which the splits are views.

    Args:
      train: the training images.
      test: the test images; None where there are none.
      where: what lines about all of them call their source.

    Returns:
      `images` [N, H, W, C] uint8, `labels` [N] and, where there are any, `client` [N],
      `test_images`, `test_labels`, `test_client`.

    Raises:
      UserError: as `images.read`.
    """
    parts = [part for part in (train, test) if part is not None]
    pictures = itertools.chain.from_iterable(part.pictures for part in parts)
    decoded = images.read(pictures, sum(len(part.labels) for part in parts), where)
    found: dict[str, np.ndarray] = {}
    start = 0
    for prefix, part in zip(("", "test_"), parts, strict=False):
        end = start + len(part.labels)
        found |= {f"{prefix}images": decoded[start:end], f"{prefix}labels": part.labels}
        if part.client is not None:
            found[f"{prefix}client"] = part.client
        start = end
    return found


def column(values: Sequence[str]) -> np.ndarray:
    """[N] int64 if all values are whole numbers of 32 bits as Python writes them, else text.

    "007" is text: as a number it would be the same as "7".
    """
    try:
        numbers = [int(value) for value in values]
    except ValueError:
        return np.array(values, str)
    plain = all(str(n) == value for n, value in zip(numbers, values, strict=True))
    if not plain or min(numbers) < _INT32.min or max(numbers) > _INT32.max:
        return np.array(values, str)
    return np.array(numbers, np.int64)
