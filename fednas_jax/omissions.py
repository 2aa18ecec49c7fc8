"""What a run leaves out of its data, or uses for little, without being asked to: said at its start.

Clients without examples, classes that nobody learns from, too few held-out images to tell one round
from another.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fednas_jax.data.datasets import Dataset
from fednas_jax.data.partition import Partition, ids
from fednas_jax.errors import listed, warn
from fednas_jax.federated.clients import Division

FEWEST_TO_SELECT = 100
"""Held-out images below which a run warns. The standard error of an accuracy over n images is at
most 0.5 / sqrt(n): with 100, 5 percentage points; rounds differ by less than that."""


class Selection(NamedTuple):
    """By what the best round is selected."""

    images: int
    """Held out by all clients together."""
    clients: int
    """How many clients hold out one at least."""
    of_clients: int
    """How many clients there are."""


def selection(held_out: Sequence[np.ndarray]) -> Selection:
    """Counts what is held out.

    Args:
      held_out: the indices of each client.
    """
    sizes = [len(indices) for indices in held_out]
    return Selection(sum(sizes), sum(size > 0 for size in sizes), len(sizes))


def tell(remarks: Iterable[str]) -> None:
    """Says them on stderr, a line each."""
    for remark in remarks:
        warn(remark)


def lines(
    config: Mapping[str, Any],
    dataset: Dataset,
    partition: Partition,
    divisions: Sequence[Division],
    *,
    taught: str,
) -> tuple[str, ...]:
    """A line for each thing that a user would want to know before the first round.

    Args:
      config: resolved.
      dataset: with what its cuts have lost.
      partition: of its training examples.
      divisions: of each client's.
      taught: what the validation parts of clients teach, for people; "" where they have none.
    """
    held_out = selection([division.held_out for division in divisions])
    names = ids(partition, dataset.train.client)
    found = [
        *dataset.lost,
        *_clients(config["partition"]["name"], dataset, partition),
        *_classes(dataset, divisions),
        *(_validation(divisions, names, taught) if taught else []),
        *(_repeated(divisions, names, config["batch_size"]) if taught else []),
        *_selecting(held_out, config),
    ]
    return tuple(found)


def opening(
    held_out: Sequence[np.ndarray],
    dealt: Sequence[np.ndarray],
    num_examples: int,
    config: Mapping[str, Any],
) -> str:
    """What selects the best round, and how much is dealt to nobody, as part of a line.

    Args:
      held_out: the indices that each client holds out.
      dealt: the indices that each client holds.
      num_examples: of the training set.
      config: resolved.
    """
    found = selection(held_out)
    if not found.images:
        chosen = "nothing is held out, so the last round counts as the best"
    elif not config["held_out_every"]:
        chosen = "only the last round is scored on what is held out, so it counts as the best"
    else:
        chosen = f"the best round is selected by {_held_out(found)}"
    left = num_examples - sum(len(indices) for indices in dealt)
    undealt = f"{left:,} of {num_examples:,} training examples are dealt to nobody; "
    return (undealt if left else "") + chosen


def _held_out(found: Selection) -> str:
    images = "1 image" if found.images == 1 else f"{found.images:,} images"
    return f"{images} held out by {found.clients:,} of {found.of_clients:,} clients"


def _clients(how: str, dataset: Dataset, partition: Partition) -> list[str]:
    """Clients without examples; of the `client` column, those that are not in the partition."""
    of, found = len(partition.clients), []
    empty = [k for k, indices in enumerate(partition.clients) if not len(indices)]
    if empty:
        found.append(
            f"config.partition: {len(empty)} of {of} clients are dealt no example "
            f"(client {listed(empty)})"
        )
    column = dataset.train.client
    if how == "natural" and column is not None:
        gone = np.setdiff1d(column, column[np.concatenate(partition.clients)])
        if len(gone):
            found.append(
                f"config.partition: {len(gone)} of {of + len(gone)} clients are dealt no example "
                f"(`client` {listed(gone)})"
            )
    return found


def _classes(dataset: Dataset, divisions: Sequence[Division]) -> list[str]:
    """Classes of the training set of which the clients learn from no example."""
    learned = np.concatenate([part for d in divisions for part in (d.train, d.valid)])
    labels = dataset.train.labels
    missing = np.setdiff1d(labels, labels[learned])
    if not len(missing):
        return []
    named = listed([repr(dataset.class_names[c]) for c in missing])
    return [
        f"config.partition: no client learns from {len(missing)} of {dataset.num_classes} classes "
        f"({named}), whose examples are held out or dealt to nobody"
    ]


def _validation(
    divisions: Sequence[Division], names: Sequence[int] | None, taught: str
) -> list[str]:
    """Clients whose validation part is the example that their weights learn from."""
    alone = [
        k
        for k, d in enumerate(divisions)
        if len(d.train) == len(d.valid) == 1 and d.train[0] == d.valid[0]
    ]
    if not alone:
        return []
    return [
        f"config.partition: {len(alone)} of {len(divisions)} clients learn their weights and their "
        f"{taught} from one and the same example ({_named(alone, names)})"
    ]


def _repeated(
    divisions: Sequence[Division], names: Sequence[int] | None, batch_size: int
) -> list[str]:
    """Clients whose only batch of an epoch wraps around their train part; see `clients.build`."""
    small = [k for k, d in enumerate(divisions) if 0 < len(d.train) < batch_size]
    if not small:
        return []
    return [
        f"config.batch_size: {batch_size} is more than the train part of {len(small)} of "
        f"{len(divisions)} clients, whose one batch an epoch repeats examples "
        f"({_named(small, names)})"
    ]


def _named(clients: Sequence[int], names: Sequence[int] | None) -> str:
    """Clients by their number, or by what the data calls them."""
    if names is None:
        return f"client {listed(clients)}"
    return f"`client` {listed(names[k] for k in clients)}"


def _selecting(held_out: Selection, config: Mapping[str, Any]) -> list[str]:
    """Where a part is to be held out: that there is none, or too little of it."""
    fraction = config["client"]["held_out_fraction"]
    if not fraction or held_out.images >= FEWEST_TO_SELECT:
        return []
    field = f"config.client.held_out_fraction: {fraction}"
    if not held_out.images:
        return [
            f"{field} holds nothing out, as no client has {math.ceil(1 / fraction)} examples, so "
            "the last round counts as the best; a larger fraction selects a round"
        ]
    if not config["held_out_every"]:
        return []
    return [
        f"{field}: the best round is selected by {_held_out(held_out)}; with fewer than "
        f"{FEWEST_TO_SELECT} images the standard error of an accuracy may exceed 5 percentage "
        "points"
    ]
