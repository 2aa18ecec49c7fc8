"""FedProx's partition: few classes a client, and sizes that follow a power law.

Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith: "Federated optimization in heterogeneous networks",
2020, section 5.1: MNIST over 1,000 clients with two digits each, as its authors' code deals them.
"""

import numpy as np

from fednas_jax.data.partition_file import Partition
from fednas_jax.errors import UserError


def power_law(
    labels: np.ndarray,
    num_clients: int,
    rng: np.random.RandomState,
    *,
    labels_per_client: int = 2,
    min_size: int = 10,
    sigma: float = 2.0,
) -> Partition:
    """Client i holds the classes i, i + 1, ..., and of each a part that is log-normal.

    Each (client, class) first gets `min_size / labels_per_client` examples, rounded up. What is
    then left of a class is cut by log-normal shares among the clients that hold it; shares are
    rounded down, and what that leaves over goes to one of them at random. The mean of the
    log-normal would cancel out of the shares, so there is none to choose.

    Args:
      labels: [N] integers.
      num_clients: K, enough to hold every class.
      rng: drawn from.
      labels_per_client: classes that a client holds, at least 1.
      min_size: examples that every client has, at least `labels_per_client`.
      sigma: of the log-normal, above 0; the larger, the less equal the sizes.

    Raises:
      UserError: a class has no client, or too few examples for all of its clients.
    """
    classes = int(labels.max()) + 1
    _check(num_clients, classes, labels_per_client, min_size, sigma)
    held = (np.arange(num_clients)[:, None] + np.arange(labels_per_client)) % classes
    draws = rng.lognormal(0.0, sigma, held.shape)
    least = -(-min_size // labels_per_client)
    clients: list[list[np.ndarray]] = [[] for _ in range(num_clients)]
    for label in range(classes):
        indices = rng.permutation(np.flatnonzero(labels == label)).astype(np.int32)
        owners, slots = np.nonzero(held == label)
        sizes = _sizes(len(indices), draws[owners, slots], least, rng, label)
        for owner, part in zip(owners, np.split(indices, np.cumsum(sizes)[:-1]), strict=True):
            clients[owner].append(part)
    return Partition(tuple(rng.permutation(np.concatenate(parts)) for parts in clients))


def _sizes(
    examples: int, draws: np.ndarray, least: int, rng: np.random.RandomState, label: int
) -> np.ndarray:
    """[clients of a class]: how many of its examples each gets; they sum up to `examples`."""
    rest = examples - least * len(draws)
    if rest < 0:
        raise UserError(
            f"config.partition.min_size: {len(draws)} clients with {least} examples each of class "
            f"{label} need {least * len(draws)}, there are {examples}; a smaller one is needed"
        )
    sizes = np.floor(draws / draws.sum() * rest).astype(np.int64)
    sizes[rng.randint(len(draws))] += rest - sizes.sum()
    return least + sizes


def _check(
    num_clients: int, classes: int, labels_per_client: int, min_size: int, sigma: float
) -> None:
    if not 1 <= labels_per_client <= classes:
        raise UserError(
            f"config.partition.labels_per_client: {labels_per_client}; at least 1, at most the "
            f"{classes} classes"
        )
    if num_clients + labels_per_client <= classes:
        raise UserError(
            f"config.partition.num_clients: {num_clients} clients with {labels_per_client} classes "
            f"each leave some of the {classes} classes to nobody; at least "
            f"{classes - labels_per_client + 1}"
        )
    if min_size < labels_per_client:
        raise UserError(
            f"config.partition.min_size: {min_size}; at least {labels_per_client}, one example of "
            "each class that a client holds"
        )
    if sigma <= 0:
        raise UserError(f"config.partition.sigma: {sigma}; above 0")
