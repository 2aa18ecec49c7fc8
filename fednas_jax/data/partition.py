"""Which client holds which examples.

Every partitioner takes labels, a number of clients and a `np.random.RandomState` (numpy's legacy
generator: its stream is frozen, so a seed means the same partition for good) and returns a
`Partition`. All of them deal out every example exactly once, but `table`, which leaves unused what
the table does not ask for, and what `balanced` classes leave out.

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
from fednas_jax.errors import UserError, suggest

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
    """What a partition is made from: a `Split`, or anything with these two."""

    @property
    def labels(self) -> np.ndarray: ...  # [N]

    @property
    def client(self) -> np.ndarray | None: ...  # [N]


def paper_rng(num_clients: int) -> np.random.RandomState:
    """The generator that made the paper's partition.

    Its code drew one number of 0..num_clients, to seed the clients, before it dealt the examples.
    With it, `hetero` gives Table 2 of the paper exactly: 16 clients, concentration 0.5, any labels
    with 5,000 examples in each of 10 classes.
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
    """Makes or loads the partition that `name` says.

    Args:
      name: one of `NAMES`.
      examples: the training split.
      num_clients: of homo, hetero, shards and power_law. The others bring their own number.
      seed: 0 or above; -1 for `paper_rng`.
      concentration, min_size, max_tries: of `hetero`; min_size of `power_law` too.
      table, table_fraction: a CSV or a known name, and the part of each of its counts to take.
      shards_per_client: of `shards`.
      labels_per_client, sigma: of `power_law`.
      balanced: deal as many examples of each class as the smallest has, chosen at random, and no
        others; not of table and file.
      path: of file: the .npz that `save` wrote. What it says of the examples that its indices count
        is checked where `examples` has images.

    Raises:
      UserError: unknown name, or a partition that cannot be made.
    """
    if name not in NAMES:
        raise UserError(f"config.partition.name: unknown partition '{name}'{suggest(name, NAMES)}")
    labels = np.asarray(examples.labels)
    if name in ("file", "table"):
        if balanced:
            raise UserError(f"config.partition.balanced: '{name}' says itself what is dealt; false")
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
            "config.partition.name: 'natural' needs a data set with a `client` column; that, or "
            "another partition, such as hetero, is needed"
        )
    return examples.client


def _equal_classes(labels: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """The indices, ascending, of as many examples of each class as the smallest class has.

    A class of which there is no example at all does not count.
    """
    classes = [rng.permutation(indices) for indices in _by_class(labels) if len(indices)]
    least = min(len(indices) for indices in classes)
    return np.sort(np.concatenate([indices[:least] for indices in classes]))


def homo(labels: np.ndarray, num_clients: int, rng: np.random.RandomState) -> Partition:
    """Examples at random in near-equal parts (sizes differ by one at most).

    Args:
      labels: [N].
      num_clients: at least 1, at most N.
      rng: drawn from.
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
    """Label Dirichlet with a balance rule, as in the paper.

    Class by class the examples are shuffled and cut by shares drawn from a Dirichlet; a client
    that already holds N/K examples gets none of the next class. Repeated until each client has
    `min_size`.

    Args:
      labels: [N] integers.
      num_clients: K.
      rng: drawn from.
      concentration: of the symmetric Dirichlet, above 0.
      min_size: examples that every client must have, at least 1.
      max_tries: how often to draw at most.

    Raises:
      UserError: `min_size` is out of reach, or was not reached in `max_tries`.
    """
    _check_clients(num_clients, len(labels))
    if concentration <= 0:
        raise UserError(f"config.partition.concentration: {concentration}; above 0")
    if min_size < 1:
        raise UserError(f"config.partition.min_size: {min_size}; at least 1")
    if num_clients * min_size > len(labels):
        raise UserError(
            f"config.partition.min_size: {num_clients} clients with {min_size} examples each need "
            f"{num_clients * min_size}, there are {len(labels)}; "
            f"at most {len(labels) // num_clients}, or fewer clients "
            "(config.partition.num_clients), are needed"
        )
    smallest = 0
    for _ in range(max_tries):
        clients = _draw_hetero(labels, num_clients, rng, concentration)
        smallest = max(smallest, min(len(client) for client in clients))
        if smallest >= min_size:
            return _shuffled(clients, rng)
    raise UserError(
        f"config.partition.min_size: {min_size} was not reached in {max_tries} tries (best "
        f"smallest client: {smallest}); a smaller one is needed, or fewer clients "
        f"(config.partition.num_clients, {num_clients}), or clients that are more alike "
        f"(a larger config.partition.concentration, {concentration})"
    )


def _draw_hetero(
    labels: np.ndarray, num_clients: int, rng: np.random.RandomState, concentration: float
) -> list[np.ndarray]:
    """One draw of `hetero`: an index array a client, not yet shuffled."""
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
            # A tiny concentration gave everything to a client that is full, or underflowed. As
            # the concentration goes to 0 one open client, each as likely, takes the whole class.
            shares = np.zeros(num_clients)
            shares[rng.choice(np.flatnonzero(is_open))] = 1.0
        cuts = (np.cumsum(shares) * len(indices)).astype(np.int64)[:-1]
        cuts = np.concatenate([[0], cuts, [len(indices)]])
        held += np.diff(cuts)
        pieces.append((indices, cuts))
    return _gather(pieces, num_clients)


def table(labels: np.ndarray, counts: np.ndarray, rng: np.random.RandomState) -> Partition:
    """As many examples of each class for each client as a table says, chosen at random.

    Every example at most once; exactly once where the table's totals are the data's. A client
    whose row is all 0 gets none.

    Args:
      labels: [N] integers.
      counts: [K, classes] counts, see `read_table`.
      rng: drawn from.

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
            "classes; one column a class"
        )
    wanted = counts.sum(axis=0)
    short = np.flatnonzero(wanted > present)
    if short.size:
        c = short[0]
        raise UserError(
            f"config.partition.table: class {c} wants {wanted[c]} examples, there are "
            f"{present[c]}; lower the table or config.partition.table_fraction"
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
    """McMahan's non-IID split: sorted by label, cut in near-equal shards, a few each at random.

    Args:
      labels: [N] integers.
      num_clients: K.
      rng: drawn from.
      shards_per_client: at least 1; with 2, most clients see two classes.

    Raises:
      UserError: more shards than examples.
    """
    _check_clients(num_clients, len(labels))
    if shards_per_client < 1:
        raise UserError(f"config.partition.shards_per_client: {shards_per_client}; at least 1")
    num_shards = num_clients * shards_per_client
    if num_shards > len(labels):
        raise UserError(
            f"config.partition.shards_per_client: {num_clients} clients with "
            f"{shards_per_client} shards make {num_shards} shards of "
            f"{len(labels)} examples; at most one shard an example"
        )
    order = rng.permutation(len(labels)).astype(np.int32)
    order = order[np.argsort(labels[order], kind="stable")]
    parts = np.array_split(order, num_shards)
    dealt = rng.permutation(num_shards).reshape(num_clients, shards_per_client)
    return _shuffled([np.concatenate([parts[s] for s in row]) for row in dealt], rng)


def natural(client: np.ndarray, num_clients: int, rng: np.random.RandomState) -> Partition:
    """One client for each value of the data's `client` column, sorted by value.

    Args:
      client: [N] integers.
      num_clients: how many there should be; 0 for as many as there are.
      rng: shuffles each client's examples.

    Raises:
      UserError: there are not `num_clients` values.
    """
    values, firsts = np.unique(np.sort(client), return_index=True)
    if num_clients not in (0, len(values)):
        raise UserError(
            f"config.partition.num_clients: {num_clients}, but the `client` column has "
            f"{len(values)} values; {len(values)}, or 0 to take them all"
        )
    order = np.argsort(client, kind="stable").astype(np.int32)
    return _shuffled(np.split(order, firsts[1:]), rng)


def _check_clients(num_clients: int, num_examples: int) -> None:
    if not 1 <= num_clients <= num_examples:
        raise UserError(
            f"config.partition.num_clients: {num_clients}; at least 1, at most the "
            f"{num_examples} examples"
        )


def _by_class(labels: np.ndarray, num_classes: int = 0) -> list[np.ndarray]:
    """The indices of each class, ascending, int32; one sort, not one search a class."""
    order = np.argsort(labels, kind="stable").astype(np.int32)
    sizes = np.bincount(labels, minlength=num_classes)
    # Copies: they are shuffled in place.
    return [part.copy() for part in np.split(order, np.cumsum(sizes)[:-1])]


def _gather(pieces: list[tuple[np.ndarray, np.ndarray]], num_clients: int) -> list[np.ndarray]:
    """Joins each client's piece of each class; class by class (indices, [K + 1] cuts)."""
    return [
        np.concatenate([indices[cuts[k] : cuts[k + 1]] for indices, cuts in pieces])
        for k in range(num_clients)
    ]


def _shuffled(clients: list[np.ndarray], rng: np.random.RandomState) -> Partition:
    """Shuffles each client's examples, so that a cut of them is a random one."""
    for indices in clients:
        rng.shuffle(indices)
    return Partition(tuple(clients))
