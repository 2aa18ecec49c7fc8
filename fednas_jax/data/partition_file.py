"""A partition as data: counted, checked, saved and loaded."""

import io
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from fednas_jax.data.fingerprints import sha256
from fednas_jax.data.npz import read_npz
from fednas_jax.errors import UserError
from fednas_jax.files import write_atomic
from fednas_jax.paths import expand

_KEYS = ("indices", "counts")
_SHA256 = "examples_sha256"


class Counted(Protocol):
    """The examples that indices count: a `Split`, or anything with these two."""

    @property
    def images(self) -> np.ndarray: ...  # [N, H, W, C]

    @property
    def labels(self) -> np.ndarray: ...  # [N]


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


def ids(partition: Partition, column: np.ndarray | None) -> list[int] | None:
    """What a `client` column calls each client of a partition.

    Args:
      partition: of the column's examples.
      column: [N] integers, whose example each is; None where the data does not tell.

    Returns:
      One value a client; None where a client has examples of several values or none, or two
      clients have examples of the same.
    """
    if column is None:
        return None
    values = [column[indices] for indices in partition.clients]
    if not all(len(own) and (own == own[0]).all() for own in values):
        return None
    found = [int(own[0]) for own in values]
    return found if len(set(found)) == len(found) else None


def save(path: str | Path, partition: Partition, examples: Counted | None = None) -> None:
    """Writes an .npz: `indices` (all clients end to end, int32) and `counts` ([K] int64).

    Args:
      path: the file.
      partition: what to write.
      examples: which the indices count; their SHA-256 is written as `examples_sha256`, so that
        `load` refuses to deal out others.

    Raises:
      UserError: the file cannot be written.
    """
    content = io.BytesIO()
    indices = np.concatenate(partition.clients).astype(np.int32)
    arrays = {"indices": indices, "counts": counts(partition)}
    if examples is not None:
        arrays[_SHA256] = np.array(sha256(examples.images, examples.labels))
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]  # no array is a flag
    write_atomic(Path(path), content.getvalue())


def load(path: str | Path, num_examples: int, examples: Counted | None = None) -> Partition:
    """Reads what `save` wrote, or what a user made in that form.

    Args:
      path: the .npz.
      num_examples: N of the data it is for.
      examples: the data it is for; they have to be those of `examples_sha256`, where the file has
        it. None: that is not looked at.

    Raises:
      UserError: unreadable, pickled, a key missing or of the wrong kind, counts that do not add
        up, an index out of range or dealt twice; or its indices count other examples.
    """
    path = expand(path, "config.partition.path")
    partition, recorded = read(path)
    if examples is not None and recorded and recorded != sha256(examples.images, examples.labels):
        raise UserError(
            f"config.partition.path: the indices in {path} count other training examples than "
            "those of this run; the same data, cut by the same config.seed, test_fraction and "
            "max_train_examples, are needed, or a partition of these"
        )
    flat = np.concatenate(partition.clients)
    if flat.min() < 0 or flat.max() >= num_examples:
        raise UserError(
            f"{path}: 'indices' has {flat.min()}..{flat.max()}; the data has 0..{num_examples - 1}"
        )
    partition = Partition(tuple(client.astype(np.int32) for client in partition.clients))
    check(partition, num_examples, every=False, source=str(path))
    return partition


def read(path: Path) -> tuple[Partition, str]:
    """A file's partition, of which no index is checked, and `examples_sha256`, or "".

    Raises:
      UserError: as `load`, but for what depends on the data.
    """
    arrays = read_npz(path, (*_KEYS, _SHA256), required=_KEYS)
    indices, sizes = arrays["indices"], arrays["counts"]
    for key in _KEYS:
        value = arrays[key]
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
    recorded = arrays.get(_SHA256, np.array(""))
    if recorded.ndim or recorded.dtype.kind != "U":
        raise UserError(
            f"{path}: '{_SHA256}' is {recorded.dtype} of rank {recorded.ndim}; one text"
        )
    ends = np.cumsum(sizes.astype(np.int64))[:-1]
    return Partition(tuple(np.split(indices, ends))), str(recorded)
