"""What a client brings to a round: its examples, how many steps they make, and facts of its own."""

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Array: TypeAlias = Any
"""A jax.Array inside a round, a NumPy array while a population is laid out."""


class Examples(NamedTuple):
    """All examples of an experiment; they live on the device once, and clients hold indices."""

    inputs: Any
    """Raw, [N, ...] each leaf: images [N, H, W, C], sequences [N, T], or trees of such arrays."""
    targets: Any
    """[N, ...] each leaf: [N] int32 where an example has one class."""

    def take(self, indices: Array) -> "Examples":
        """Those at the given indices [B]."""
        return Examples(*jax.tree.map(lambda x: x[indices], tuple(self)))


class Clients(NamedTuple):
    """The population, or one client of it without the axis K. Indices are into `Examples`."""

    id: Array
    """[K] int32; -1 stands for nobody: an empty place in the last chunk."""
    train: Array
    """[K, T] int32; the first `num_train` count."""
    num_train: Array
    """[K] int32."""
    valid: Array
    """[K, V] int32; the first `num_valid` count."""
    num_valid: Array
    """[K] int32."""
    num_examples: Array
    """[K] int32: N_k of Eq. 5, examples that the client learns from."""
    local_steps: Array
    """[K] int32: local steps an epoch."""
    facts: dict[str, Array]
    """Facts by name, [K, ...]: a device's tier, budget, speed."""
    personal: Any = ()
    """Of one client alone: what it keeps from round to round (`Algorithm.personal`)."""


class Division(NamedTuple):
    """One client's examples by use; index arrays."""

    train: np.ndarray
    valid: np.ndarray
    held_out: np.ndarray


def divide(indices: np.ndarray, held_out_fraction: float, train_fraction: float) -> Division:
    """Cuts a client's examples: the last part is held out, the rest is cut in train and valid.

    Fractions round down, as in the originals, but a client that has examples at all has at least
    one to train on; where none is left to validate on, it validates on what it trains on.

    Args:
      indices: [N_k], in an order that carries no meaning (partitions are shuffled).
      held_out_fraction: share that is kept for scoring.
      train_fraction: share of the rest that w learns from.
    """
    held_out = int(held_out_fraction * len(indices))
    learned, held = indices[: len(indices) - held_out], indices[len(indices) - held_out :]
    cut = max(1, int(train_fraction * len(learned)))
    train, valid = learned[:cut], learned[cut:]
    return Division(train, valid if len(valid) else train, held)


def build(divisions: list[Division], batch_size: int, *, last_batch: bool = False) -> Clients:
    """Lays out the divisions of all clients as arrays [K, ...].

    Args:
      divisions: of each client.
      batch_size: train examples in a local step; 0 for all of a client's in one.
      last_batch: what becomes of the train examples behind the last whole batch of an epoch. If
        false, they are left out, and a client of fewer than a batch makes one step whose batch
        wraps around its own examples. If true, they make one step more.
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
    """The clients of a chunk, [clients a chunk, ...]; an empty place has no examples, no steps.

    Args:
      clients: the population, on the device.
      ids: [clients a chunk] int32; -1 of an empty place.
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
    """Rows of unequal length as one array, zeros behind each."""
    table = np.zeros((len(rows), max(1, *(len(row) for row in rows))), np.int32)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return table
