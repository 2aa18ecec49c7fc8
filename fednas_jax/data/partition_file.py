"""A partition as data: counted, checked, saved and loaded."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fednas_jax.data.npz import read_npz
from fednas_jax.errors import UserError
from fednas_jax.files import write_atomic
from fednas_jax.paths import expand

_KEYS = ("indices", "counts")


class Partition(NamedTuple):
    """Which client holds which examples.

    Attributes:
      clients: the example indices of each client, int32, in a shuffled order.
    """

    clients: tuple[np.ndarray, ...]


def counts(partition: Partition) -> np.ndarray:
    """[K] int64: examples of each client."""
    return np.array([len(client) for client in partition.clients], np.int64)


def class_counts(partition: Partition, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """[K, classes] int64: examples of each class that each client holds."""
    num_clients = len(partition.clients)
    owner = np.repeat(np.arange(num_clients), counts(partition))
    cell = owner * num_classes + labels[np.concatenate(partition.clients)]
    return np.bincount(cell, minlength=num_clients * num_classes).reshape(num_clients, num_classes)


def check(
    partition: Partition, num_examples: int, *, every: bool = True, source: str = "partition"
) -> None:
    """Checks that indices are in range and no example is dealt twice.

    Args:
      partition: what to check.
      num_examples: N of the data.
      every: also that no example is left over (`table` may leave some).
      source: the field or file to name.

    Raises:
      UserError: naming the first client or example that is wrong.
    """
    flat = np.concatenate(partition.clients)
    wrong = np.flatnonzero((flat < 0) | (flat >= num_examples))
    if wrong.size:
        client = np.repeat(np.arange(len(partition.clients)), counts(partition))[wrong[0]]
        raise UserError(
            f"{source}: client {client} has index {flat[wrong[0]]}; "
            f"the data has 0..{num_examples - 1}"
        )
    times = np.bincount(flat, minlength=num_examples)
    if times.max() > 1:
        raise UserError(f"{source}: example {np.argmax(times > 1)} is dealt twice; once at most")
    if every and not times.all():
        raise UserError(f"{source}: example {np.argmin(times)} is dealt to no client")


def save(path: str | Path, partition: Partition) -> None:
    """Writes an .npz: `indices` (all clients end to end, int32) and `counts` ([K] int64)."""
    content = io.BytesIO()
    indices = np.concatenate(partition.clients).astype(np.int32)
    np.savez_compressed(content, indices=indices, counts=counts(partition))
    write_atomic(Path(path), content.getvalue())


def load(path: str | Path, num_examples: int) -> Partition:
    """Reads what `save` wrote, or what a user made in that form.

    Args:
      path: the .npz.
      num_examples: N of the data it is for.

    Raises:
      UserError: unreadable, pickled, a key missing or of the wrong kind, counts that do not add
        up, an index out of range or dealt twice.
    """
    path = expand(path, "config.partition.path")
    arrays = read_npz(path, _KEYS, required=_KEYS)
    indices, sizes = arrays["indices"], arrays["counts"]
    for key, value in arrays.items():
        if value.ndim != 1 or value.dtype.kind not in "iu":
            raise UserError(
                f"{path}: '{key}' is {value.dtype} of rank {value.ndim}; integers of rank 1"
            )
    if not len(sizes) or sizes.min() < 0 or sizes.max() > len(indices):
        raise UserError(f"{path}: 'counts' is empty or out of range; examples of each client")
    if not len(indices) or sizes.sum(dtype=np.int64) != len(indices):
        raise UserError(
            f"{path}: 'counts' adds up to {sizes.sum(dtype=np.int64)}, but 'indices' has "
            f"{len(indices)}; equal and above 0"
        )
    if indices.min() < 0 or indices.max() >= num_examples:
        raise UserError(
            f"{path}: 'indices' has {indices.min()}..{indices.max()}; "
            f"the data has 0..{num_examples - 1}"
        )
    ends = np.cumsum(sizes.astype(np.int64))[:-1]
    partition = Partition(tuple(np.split(indices.astype(np.int32), ends)))
    check(partition, num_examples, every=False, source=str(path))
    return partition
