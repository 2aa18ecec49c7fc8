"""Partitions: their counts, checks, and files."""

import io
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from fednas_jax.data.fingerprints import sha256
from fednas_jax.data.npz import read_npz
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import write_atomic
from fednas_jax.runtime.paths import expand

_KEYS = ("indices", "counts")
_SHA256 = "examples_sha256"


class Counted(Protocol):
    """The examples that indices refer to: a `Split`, or anything else with these two attributes."""

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
    """[K] int64: number of examples of each client."""
    return np.array([len(client) for client in partition.clients], np.int64)


def class_counts(partition: Partition, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """[K, classes] int64: number of examples of each class that each client holds."""
    num_clients = len(partition.clients)
    owner = np.repeat(np.arange(num_clients), counts(partition))
    cell = owner * num_classes + labels[np.concatenate(partition.clients)]
    return np.bincount(cell, minlength=num_clients * num_classes).reshape(num_clients, num_classes)


def check(
    partition: Partition, num_examples: int, *, every: bool = True, source: str = "partition"
) -> None:
    """Checks that indices are in range and that no example has two clients.

    Args:
      partition: the partition to check.
      num_examples: number N of examples.
      every: whether to check that every example has a client (`table` may leave some out).
      source: the field or file, for error messages.

    Raises:
      UserError: names the first client or example that is wrong.
    """
    flat = np.concatenate(partition.clients)
    wrong = np.flatnonzero((flat < 0) | (flat >= num_examples))
    if wrong.size:
        client = np.repeat(np.arange(len(partition.clients)), counts(partition))[wrong[0]]
        raise UserError(
            f"{source}: client {client} has index {flat[wrong[0]]}; {_right(num_examples)}"
        )
    times = np.bincount(flat, minlength=num_examples)
    if times.max() > 1:
        raise UserError(
            f"{source}: example {np.argmax(times > 1)} is dealt twice; once at most is needed"
        )
    if every and not times.all():
        raise UserError(f"{source}: example {np.argmin(times)} is dealt to no client")


def _right(num_examples: int) -> str:
    """What an index counts; the end of an error."""
    return (
        f"indices count the run's {num_examples:,} training examples, which remain after the test "
        f"set is split off and config.dataset.max_train_examples is applied: 0..{num_examples - 1} "
        "are needed"
    )


def ids(partition: Partition, column: np.ndarray | None) -> list[int] | None:
    """The value of the `client` column of each client of a partition.

    Args:
      partition: a partition of the examples in the column.
      column: [N] integers, the client of each example; None where the data has no such column.

    Returns:
      One value for each client; None where a client has examples of no or several values, or two
      clients have examples of the same value.
    """
    if column is None:
        return None
    values = [column[indices] for indices in partition.clients]
    if not all(len(own) and (own == own[0]).all() for own in values):
        return None
    found = [int(own[0]) for own in values]
    return found if len(set(found)) == len(found) else None


def save(path: str | Path, partition: Partition, examples: Counted | None = None) -> None:
    """Writes an .npz file: `indices` (of all clients, concatenated, int32) and `counts` [K] int64.

    Args:
      path: the file.
      partition: the partition to write.
      examples: the partitioned examples; their SHA-256 is written as `examples_sha256`, so that
        `load` refuses other examples. None: it is not written.

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
    """Reads a partition that `save` or a user wrote.

    Args:
      path: the .npz file.
      num_examples: number N of examples.
      examples: the examples to partition, which must match `examples_sha256` where the file has it.
        None: this is not checked.

    Raises:
      UserError: the file is unreadable or has pickled objects, a key is missing or of the wrong
        type, counts do not add up, an index is out of range or occurs twice, or the file is for
        other examples.
    """
    path = expand(path, "config.partition.path")
    partition, recorded = read(path)
    if examples is not None and recorded and recorded != sha256(examples.images, examples.labels):
        raise UserError(
            f"config.partition.path: the partition in {path} is for other training examples than "
            "those of this run; the same data, config.seed, test_fraction and max_train_examples "
            "are needed, or another partition"
        )
    flat = np.concatenate(partition.clients)
    if flat.min() < 0 or flat.max() >= num_examples:
        raise UserError(f"{path}: 'indices' has {flat.min()}..{flat.max()}; {_right(num_examples)}")
    partition = Partition(tuple(client.astype(np.int32) for client in partition.clients))
    check(partition, num_examples, every=False, source=str(path))
    return partition


def read(path: Path) -> tuple[Partition, str]:
    """Reads a partition, without checking its indices, and `examples_sha256` or "".

    Raises:
      UserError: as `load`, except for the checks that need the examples.
    """
    arrays = read_npz(path, (*_KEYS, _SHA256), required=_KEYS)
    indices, sizes = arrays["indices"], arrays["counts"]
    for key in _KEYS:
        value = arrays[key]
        if value.ndim != 1 or value.dtype.kind not in "iu":
            raise UserError(
                f"{path}: '{key}' is {value.dtype} of rank {value.ndim}; integers of rank 1 are "
                "needed"
            )
    if not len(sizes) or sizes.min() < 0 or sizes.max() > len(indices):
        raise UserError(
            f"{path}: 'counts' is empty or out of range; the number of examples of each client is "
            "needed"
        )
    if not len(indices) or sizes.sum(dtype=np.int64) != len(indices):
        raise UserError(
            f"{path}: 'counts' adds up to {sizes.sum(dtype=np.int64)}, but 'indices' has "
            f"{len(indices)} entries; equal numbers above 0 are needed"
        )
    recorded = arrays.get(_SHA256, np.array(""))
    if recorded.ndim or recorded.dtype.kind != "U":
        raise UserError(
            f"{path}: '{_SHA256}' is {recorded.dtype} of rank {recorded.ndim}; one text is needed"
        )
    ends = np.cumsum(sizes.astype(np.int64))[:-1]
    return Partition(tuple(np.split(indices, ends))), str(recorded)
