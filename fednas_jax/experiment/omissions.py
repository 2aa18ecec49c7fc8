"""Warnings at the start of a run about data that it does not use, or has too little of.

They concern clients without examples, classes that no client learns from, and too few held-out
examples to distinguish rounds.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fednas_jax.data import lost
from fednas_jax.data.datasets import Dataset
from fednas_jax.data.partition import Partition, ids
from fednas_jax.federated.clients import Division
from fednas_jax.runtime.errors import listed, warn

FEWEST_TO_SELECT = 100
"""Number of held-out examples below which a run warns. The standard error of an accuracy over n
examples is at most 0.5 / sqrt(n): with 100, 5 percentage points; rounds differ by less."""


class Selection(NamedTuple):
    """The held-out examples by which the best round is selected."""

    images: int
    """Number of examples, whatever they are, that all clients together hold out."""
    clients: int
    """Number of clients that hold out at least one example."""
    of_clients: int
    """Number of all clients."""


def selection(held_out: Sequence[np.ndarray]) -> Selection:
    """Counts the held-out examples.

    Args:
      held_out: indices of the held-out examples of each client.
    """
    sizes = [len(indices) for indices in held_out]
    return Selection(sum(sizes), sum(size > 0 for size in sizes), len(sizes))


def tell(remarks: Iterable[str]) -> None:
    """Prints remarks on stderr, one line each."""
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
    """The warnings before the first round, one line each.

    Args:
      config: the resolved config.
      dataset: the data set, whose `lost` lists clients and classes that cuts left without examples.
      partition: the partition of its training examples.
      divisions: the division of each client's examples into parts.
      taught: what learns from the validation parts of clients; "" where they have none.
    """
    held_out = selection([division.held_out for division in divisions])
    numbers = ids(partition, dataset.train.client)
    # A client's own name where the data have one, else its number in the data.
    names = None
    if numbers is not None:
        names = [lost.client_called(one, dataset.client_names) for one in numbers]
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
    """Part of a line: how the best round is selected, and how many examples no client holds.

    Args:
      held_out: indices of the held-out examples of each client.
      dealt: indices of all examples of each client.
      num_examples: number of training examples.
      config: the resolved config.
    """
    found = selection(held_out)
    if not found.images:
        chosen = "no examples are held out, so the last round counts as the best"
    elif not config["held_out_every"]:
        chosen = "only the last round is scored on held-out examples, so it counts as the best"
    else:
        chosen = f"the best round is selected by {_held_out(found)}"
    left = num_examples - sum(len(indices) for indices in dealt)
    undealt = f"{left:,} of {num_examples:,} training examples belong to no client; "
    return (undealt if left else "") + chosen


def _held_out(found: Selection) -> str:
    examples = "1 example" if found.images == 1 else f"{found.images:,} examples"
    return f"{examples} held out by {found.clients:,} of {found.of_clients:,} clients"


def _clients(how: str, dataset: Dataset, partition: Partition) -> list[str]:
    """Clients without examples, or values of the `client` column that are not in the partition."""
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
                f"({lost.clients_listed(gone, dataset.client_names)})"
            )
    return found


def _classes(dataset: Dataset, divisions: Sequence[Division]) -> list[str]:
    """Classes of the training set from which no client learns."""
    learned = np.concatenate([part for d in divisions for part in (d.train, d.valid)])
    labels = dataset.train.labels
    missing = np.setdiff1d(labels, labels[learned])
    if not len(missing):
        return []
    named = listed([repr(dataset.class_names[c]) for c in missing])
    return [
        f"config.partition: no client learns from {len(missing)} of {dataset.num_classes} classes "
        f"({named}), whose examples are held out or belong to no client"
    ]


def _validation(
    divisions: Sequence[Division], names: Sequence[str] | None, taught: str
) -> list[str]:
    """Clients whose validation part is the single example that their weights learn from."""
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
    divisions: Sequence[Division], names: Sequence[str] | None, batch_size: int
) -> list[str]:
    """Clients whose only batch of an epoch repeats examples; see `clients.build`."""
    small = [k for k, d in enumerate(divisions) if 0 < len(d.train) < batch_size]
    if not small:
        return []
    return [
        f"config.batch_size: {batch_size} is more than the train part of {len(small)} of "
        f"{len(divisions)} clients, whose one batch an epoch repeats examples "
        f"({_named(small, names)})"
    ]


def _named(clients: Sequence[int], names: Sequence[str] | None) -> str:
    """Clients by number, or by their names in the data."""
    if names is None:
        return f"client {listed(clients)}"
    return f"`client` {listed(names[k] for k in clients)}"


def _selecting(held_out: Selection, config: Mapping[str, Any]) -> list[str]:
    """A warning that no examples, or too few, are held out although a fraction should be."""
    fraction = config["client"]["held_out_fraction"]
    if not fraction or held_out.images >= FEWEST_TO_SELECT:
        return []
    field = f"config.client.held_out_fraction: {fraction}"
    if not held_out.images:
        return [
            f"{field} holds out no examples, as no client has {math.ceil(1 / fraction)} examples, "
            "so the last round counts as the best; a larger fraction selects a round"
        ]
    if not config["held_out_every"]:
        return []
    return [
        f"{field}: the best round is selected by {_held_out(held_out)}; with fewer than "
        f"{FEWEST_TO_SELECT} examples the standard error of an accuracy may exceed 5 percentage "
        "points"
    ]
