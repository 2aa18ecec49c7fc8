"""The clients of a population: their examples, their numbers of local steps, and their facts."""

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Array: TypeAlias = Any
"""A jax.Array inside a round, a NumPy array while a population is built."""


class Examples(NamedTuple):
    """All examples of an experiment. The device holds them once, and clients hold indices."""

    inputs: Any
    """Raw inputs, each leaf [N, ...]: images [N, H, W, C], sequences [N, T], or trees of such
    arrays."""
    targets: Any
    """Each leaf [N, ...]; [N] int32 if an example has one class."""

    def take(self, indices: Array) -> "Examples":
        """The examples at the indices [B]."""
        return Examples(*jax.tree.map(lambda x: x[indices], tuple(self)))


class Clients(NamedTuple):
    """A population; or one client, without the axis K. Indices are into `Examples`."""

    id: Array
    """[K] int32; -1 in an empty place of a chunk."""
    train: Array
    """[K, T] int32: indices of train examples, of which the first `num_train` count."""
    num_train: Array
    """[K] int32: how many train examples the client has."""
    valid: Array
    """[K, V] int32: indices of validation examples, of which the first `num_valid` count."""
    num_valid: Array
    """[K] int32: how many validation examples the client has."""
    num_examples: Array
    """[K] int32: how many examples the client learns from; N_k of Eq. 5."""
    local_steps: Array
    """[K] int32: local steps an epoch."""
    facts: dict[str, Array]
    """Facts by name, [K, ...] each, such as a device's tier, budget or speed."""
    personal: Any = ()
    """The personal state (`Algorithm.personal`) of one client; () in a population."""


class Division(NamedTuple):
    """One client's examples by use, as arrays of indices."""

    train: np.ndarray
    valid: np.ndarray
    held_out: np.ndarray


def divide(indices: np.ndarray, held_out_fraction: float, train_fraction: float) -> Division:
    """Divides a client's examples: the last part is held out, the rest is for train and valid.

    Numbers of examples are rounded down, as in the original code, but a client with any examples
    has at least one to train on. A client without examples to validate on uses its train examples.

    Args:
      indices: [N_k] in random order (partitions are shuffled).
      held_out_fraction: the share that is held out for scores.
      train_fraction: the share of the rest that w learns from.
    """
    held_out = int(held_out_fraction * len(indices))
    learned, held = indices[: len(indices) - held_out], indices[len(indices) - held_out :]
    cut = max(1, int(train_fraction * len(learned)))
    train, valid = learned[:cut], learned[cut:]
    return Division(train, valid if len(valid) else train, held)


def build(divisions: list[Division], batch_size: int, *, last_batch: bool = False) -> Clients:
    """A population, arrays [K, ...], from the divisions of all clients.

    Args:
      divisions: one for each client.
      batch_size: train examples in a local step; 0 for all of a client's examples in one step.
      last_batch: what happens to the train examples after the last full batch of an epoch. If true,
        they make one more step. If false, they are left out, and a client with less than one batch
        makes one step whose batch repeats its examples.
    """
    train = [d.train for d in divisions]
    valid = [d.valid for d in divisions]
    num_train = np.array([len(x) for x in train], np.int32)
    learned = [len(np.union1d(d.train, d.valid)) for d in divisions]
    batch_size = batch_size or max(1, *num_train)
    if last_batch:
        steps = -(-num_train // batch_size)
    else:
        steps = np.where(num_train > 0, np.maximum(1, num_train // batch_size), 0)
    return Clients(
        id=np.arange(len(divisions), dtype=np.int32),
        train=_table(train),
        num_train=num_train,
        valid=_table(valid),
        num_valid=np.array([len(x) for x in valid], np.int32),
        num_examples=np.array(learned, np.int32),
        local_steps=steps.astype(np.int32),
        facts={},
    )


def members_of(clients: Clients, ids: jax.Array) -> Clients:
    """The clients of a chunk, [clients a chunk, ...]; an empty place has no examples and no steps.

    Args:
      clients: the population, on the device.
      ids: [clients a chunk] int32; -1 in an empty place.
    """
    present = ids >= 0
    members = jax.tree.map(lambda x: x[jnp.maximum(ids, 0)], clients)

    def only_present(count: jax.Array) -> jax.Array:
        return jnp.where(present, count, 0)

    return members._replace(
        id=ids,
        num_train=only_present(members.num_train),
        num_valid=only_present(members.num_valid),
        num_examples=only_present(members.num_examples),
        local_steps=only_present(members.local_steps),
    )


def _table(rows: list[np.ndarray]) -> np.ndarray:
    """Rows of unequal length as one array, each filled up with zeros."""
    table = np.zeros((len(rows), max(1, *(len(row) for row in rows))), np.int32)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return table
