"""Partitions: which client holds which examples.

Every partitioner takes labels, a number of clients and a `np.random.RandomState` (NumPy's legacy
generator, whose stream never changes, so that a seed always gives the same partition) and returns a
`Partition`. Every example is assigned exactly once, with two exceptions: `table` leaves out the
examples that the table does not ask for, and `balanced` those of larger classes.

References:
  homo, hetero, table: He, Annavaram, Avestimehr, "FedNAS", 2020 (Table 2).
  hetero: Hsu, Qi, Brown, "Measuring the effects of non-identical data distribution", 2019.
  shards: McMahan et al., "Communication-efficient learning of deep networks", 2017, section 3.
  power_law: see power_law.py.
"""

from collections.abc import Callable
from typing import Any, Protocol, cast

import numpy as np

from fednas_jax.data.partition_file import (
    Counted,
    Partition,
    check,
    class_counts,
    counts,
    ids,
    load,
    save,
)
from fednas_jax.data.power_law import power_law
from fednas_jax.data.tables import read_table, scale_table
from fednas_jax.fields import words
from fednas_jax.runtime.errors import UserError, suggest

__all__ = [
    "NAMES",
    "Examples",
    "Partition",
    "check",
    "class_counts",
    "counts",
    "hetero",
    "homo",
    "ids",
    "load",
    "make",
    "natural",
    "paper_rng",
    "power_law",
    "read_table",
    "save",
    "scale_table",
    "shards",
    "table",
]

NAMES = ("homo", "hetero", "table", "shards", "power_law", "natural", "file")


class Examples(Protocol):
    """The examples to partition: a `Split`, or anything else with these two attributes."""

    @property
    def labels(self) -> np.ndarray: ...  # [N]

    @property
    def client(self) -> np.ndarray | None: ...  # [N]


def paper_rng(num_clients: int) -> np.random.RandomState:
    """The generator that made the paper's partition.

    The authors' code drew one number of 0..num_clients, to seed the clients, before it partitioned
    the examples. With this generator, `hetero` gives Table 2 of the paper exactly, for 16 clients,
    concentration 0.5 and any labels with 5,000 examples in each of 10 classes.
    """
    rng = np.random.RandomState(0)
    rng.randint(0, num_clients + 1)
    return rng


def make(
    name: str,
    examples: Examples,
    *,
    num_clients: int,
    seed: int,
    concentration: float = 0.5,
    min_size: int = 10,
    max_tries: int = 1000,
    table: str = "fednas_table2",
    table_fraction: float = 1.0,
    shards_per_client: int = 2,
    labels_per_client: int = 2,
    sigma: float = 2.0,
    balanced: bool = False,
    path: str = "",
) -> Partition:
    """Makes or loads a partition by name.

    Args:
      name: one of `NAMES`.
      examples: the training split.
      num_clients: number of clients, for homo, hetero, shards and power_law; table, natural and
        file determine it themselves.
      seed: 0 or above; -1 for `paper_rng`.
      concentration, max_tries: see `hetero`.
      min_size: see `hetero` and `power_law`.
      table, table_fraction: for table, a CSV file or a known name; the share of each count to use.
      shards_per_client: see `shards`.
      labels_per_client, sigma: see `power_law`.
      balanced: whether to use only as many examples of each class, chosen at random, as the
        smallest class has; not possible with table and file.
      path: for file, the .npz file that `save` wrote. The SHA-256 of the examples in it is checked
        where `examples` has images.

    Raises:
      UserError: the name is unknown, or the partition cannot be made.
    """
    if name not in NAMES:
        hint = suggest(name, NAMES, words.PARTITIONS)
        raise UserError(f"config.partition.name: unknown partition '{name}'{hint}")
    labels = np.asarray(examples.labels)
    if name in ("file", "table"):
        if balanced:
            raise UserError(
                f"config.partition.balanced: '{name}' fixes which examples are used; false is "
                "needed"
            )
        if name == "file":
            counted = cast(Counted, examples) if hasattr(examples, "images") else None
            return load(path, len(labels), counted)
        return _named_table(labels, table, table_fraction, seed)
    rng = _rng(seed, num_clients)
    kept = _equal_classes(labels, rng) if balanced else np.arange(len(labels), dtype=np.int32)
    if name == "natural":
        dealt = natural(_column(examples)[kept], 0, rng)
    else:
        of_hetero = {"concentration": concentration, "min_size": min_size, "max_tries": max_tries}
        of_power_law = {"labels_per_client": labels_per_client, "min_size": min_size}
        choices: dict[str, tuple[Callable[..., Partition], dict[str, Any]]] = {
            "homo": (homo, {}),
            "hetero": (hetero, of_hetero),
            "shards": (shards, {"shards_per_client": shards_per_client}),
            "power_law": (power_law, {**of_power_law, "sigma": sigma}),
        }
        deal, options = choices[name]
        dealt = deal(labels[kept], num_clients, rng, **options)
    return Partition(tuple(kept[indices] for indices in dealt.clients))


def _rng(seed: int, num_clients: int) -> np.random.RandomState:
    return paper_rng(num_clients) if seed == -1 else np.random.RandomState(seed)


def _named_table(labels: np.ndarray, name: str, fraction: float, seed: int) -> Partition:
    wanted = scale_table(read_table(name), fraction)
    return table(labels, wanted, _rng(seed, len(wanted)))


def _column(examples: Examples) -> np.ndarray:
    if examples.client is None:
        raise UserError(
            "config.partition.name: 'natural' needs a data set with a `client` column, or folders "
            "of clients; one of these, or another partition, such as hetero, is needed"
        )
    return examples.client


def _equal_classes(labels: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Ascending indices of as many examples of each class as the smallest class has.

    Classes without examples are ignored.
    """
    classes = [rng.permutation(indices) for indices in _by_class(labels) if len(indices)]
    least = min(len(indices) for indices in classes)
    return np.sort(np.concatenate([indices[:least] for indices in classes]))


def homo(labels: np.ndarray, num_clients: int, rng: np.random.RandomState) -> Partition:
    """A random partition into near-equal parts, whose sizes differ by at most one.

    Args:
      labels: [N].
      num_clients: at least 1, at most N.
      rng: random generator.
    """
    _check_clients(num_clients, len(labels))
    order = rng.permutation(len(labels)).astype(np.int32)
    return Partition(tuple(np.array_split(order, num_clients)))


def hetero(
    labels: np.ndarray,
    num_clients: int,
    rng: np.random.RandomState,
    *,
    concentration: float = 0.5,
    min_size: int = 10,
    max_tries: int = 1000,
) -> Partition:
    """A Dirichlet partition of each class with a balance rule, as in the paper.

    The examples of each class are shuffled and split by shares from a Dirichlet distribution. A
    client that already holds N/K examples gets none of the next class. All is drawn again until
    each client has `min_size` examples.

    Args:
      labels: [N] integers.
      num_clients: K.
      rng: random generator.
      concentration: concentration of the symmetric Dirichlet distribution; above 0.
      min_size: minimum number of examples of a client; at least 1.
      max_tries: maximum number of draws.

    Raises:
      UserError: there are too few examples for `min_size`, or `max_tries` draws did not reach it.
    """
    _check_clients(num_clients, len(labels))
    if concentration <= 0:
        raise UserError(
            f"config.partition.concentration: {concentration}; a value above 0 is needed"
        )
    if min_size < 1:
        raise UserError(f"config.partition.min_size: {min_size}; at least 1 is needed")
    if num_clients * min_size > len(labels):
        fewer = ", or fewer clients (config.partition.num_clients)," if num_clients > 1 else ""
        raise UserError(
            f"config.partition.min_size: {num_clients} clients with {min_size} examples each need "
            f"{num_clients * min_size} examples, but there are {len(labels)}; "
            f"at most {len(labels) // num_clients}{fewer} is needed"
        )
    smallest = 0
    for _ in range(max_tries):
        clients = _draw_hetero(labels, num_clients, rng, concentration)
        smallest = max(smallest, min(len(client) for client in clients))
        if smallest >= min_size:
            return _shuffled(clients, rng)
    smaller = "a smaller one is needed, or " if min_size > 1 else ""
    raise UserError(
        f"config.partition.min_size: {min_size} was not reached in {max_tries} tries (best "
        f"smallest client: {smallest}); {smaller}fewer clients (config.partition.num_clients, "
        f"{num_clients}), or clients that are more alike (a larger "
        f"config.partition.concentration, {concentration}), are needed"
    )


def _draw_hetero(
    labels: np.ndarray, num_clients: int, rng: np.random.RandomState, concentration: float
) -> list[np.ndarray]:
    """One draw of `hetero`: the indices of each client, not yet shuffled."""
    held = np.zeros(num_clients, np.int64)
    pieces = []
    for indices in _by_class(labels):
        rng.shuffle(indices)
        shares = rng.dirichlet(np.full(num_clients, concentration))
        is_open = held < len(labels) / num_clients
        shares = shares * is_open
        total = shares.sum()
        if total > 0:
            shares = shares / total
        else:
            # A tiny concentration underflowed, or gave everything to a client that is full. In the
            # limit of concentration 0, one of the other clients, at random, gets the whole class.
            shares = np.zeros(num_clients)
            shares[rng.choice(np.flatnonzero(is_open))] = 1.0
        cuts = (np.cumsum(shares) * len(indices)).astype(np.int64)[:-1]
        cuts = np.concatenate([[0], cuts, [len(indices)]])
        held += np.diff(cuts)
        pieces.append((indices, cuts))
    return _gather(pieces, num_clients)


def table(labels: np.ndarray, counts: np.ndarray, rng: np.random.RandomState) -> Partition:
    """A random partition in which a table says how many examples of each class each client has.

    No example is used twice. A client whose row is all 0 gets none.

    Args:
      labels: [N] integers.
      counts: [K, classes] number of examples, see `read_table`.
      rng: random generator.

    Raises:
      UserError: the data has more classes than the table has columns, or fewer examples of a class
        than the table asks for.
    """
    counts = np.asarray(counts)
    num_clients, num_classes = counts.shape
    present = np.bincount(labels, minlength=num_classes)
    if len(present) > num_classes:
        raise UserError(
            f"config.partition.table: {num_classes} class columns, but the data has {len(present)} "
            "classes; one column for each class is needed"
        )
    wanted = counts.sum(axis=0)
    short = np.flatnonzero(wanted > present)
    if short.size:
        c = short[0]
        raise UserError(
            f"config.partition.table: {wanted[c]} examples of class {c}, but there are "
            f"{present[c]}; smaller numbers, or a smaller config.partition.table_fraction, are "
            "needed"
        )
    pieces = []
    for indices, column in zip(_by_class(labels, num_classes), counts.T, strict=True):
        rng.shuffle(indices)
        pieces.append((indices, np.concatenate([[0], np.cumsum(column)])))
    return _shuffled(_gather(pieces, num_clients), rng)


def shards(
    labels: np.ndarray,
    num_clients: int,
    rng: np.random.RandomState,
    *,
    shards_per_client: int = 2,
) -> Partition:
    """McMahan's non-IID partition: near-equal shards of the examples sorted by label, at random.

    Args:
      labels: [N] integers.
      num_clients: K.
      rng: random generator.
      shards_per_client: number of shards of each client, at least 1; with 2, most clients have two
        classes.

    Raises:
      UserError: there are more shards than examples.
    """
    _check_clients(num_clients, len(labels))
    if shards_per_client < 1:
        raise UserError(
            f"config.partition.shards_per_client: {shards_per_client}; at least 1 is needed"
        )
    num_shards = num_clients * shards_per_client
    if num_shards > len(labels):
        raise UserError(
            f"config.partition.shards_per_client: {num_clients} clients with "
            f"{shards_per_client} shards each need {num_shards} examples, but there are "
            f"{len(labels)}; at most {len(labels) // num_clients} for each client is needed"
        )
    order = rng.permutation(len(labels)).astype(np.int32)
    order = order[np.argsort(labels[order], kind="stable")]
    parts = np.array_split(order, num_shards)
    dealt = rng.permutation(num_shards).reshape(num_clients, shards_per_client)
    return _shuffled([np.concatenate([parts[s] for s in row]) for row in dealt], rng)


def natural(client: np.ndarray, num_clients: int, rng: np.random.RandomState) -> Partition:
    """One client for each value of the data's `client` column, in ascending order.

    Args:
      client: [N] integers.
      num_clients: expected number of clients; 0 for any.
      rng: random generator that shuffles each client's examples.

    Raises:
      UserError: the column does not have `num_clients` values.
    """
    values, firsts = np.unique(np.sort(client), return_index=True)
    if num_clients not in (0, len(values)):
        raise UserError(
            f"config.partition.num_clients: {num_clients}, but the `client` column has "
            f"{len(values)} values; {len(values)}, or 0 for any number, is needed"
        )
    order = np.argsort(client, kind="stable").astype(np.int32)
    return _shuffled(np.split(order, firsts[1:]), rng)


def _check_clients(num_clients: int, num_examples: int) -> None:
    if not 1 <= num_clients <= num_examples:
        raise UserError(
            f"config.partition.num_clients: {num_clients}; at least 1 and at most "
            f"{num_examples}, the number of examples, is needed"
        )


def _by_class(labels: np.ndarray, num_classes: int = 0) -> list[np.ndarray]:
    """The ascending indices of each class, int32; by one sort, not by a search for each class."""
    order = np.argsort(labels, kind="stable").astype(np.int32)
    sizes = np.bincount(labels, minlength=num_classes)
    # Copies, since they will be shuffled in place.
    return [part.copy() for part in np.split(order, np.cumsum(sizes)[:-1])]


def _gather(pieces: list[tuple[np.ndarray, np.ndarray]], num_clients: int) -> list[np.ndarray]:
    """Joins each client's pieces of all classes: (indices, [K + 1] cuts) of each class."""
    return [
        np.concatenate([indices[cuts[k] : cuts[k + 1]] for indices, cuts in pieces])
        for k in range(num_clients)
    ]


def _shuffled(clients: list[np.ndarray], rng: np.random.RandomState) -> Partition:
    """Shuffles each client's examples, so that any slice of them is random."""
    for indices in clients:
        rng.shuffle(indices)
    return Partition(tuple(clients))
