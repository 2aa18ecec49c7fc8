"""FedProx's partition: each client has few classes, and sizes follow a power law.

Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith: "Federated optimization in heterogeneous networks",
2020, section 5.1: MNIST over 1,000 clients with two digits each, as in the authors' code.
"""

import numpy as np

from fednas_jax.data.partition_file import Partition
from fednas_jax.runtime.errors import UserError


def power_law(
    labels: np.ndarray,
    num_clients: int,
    rng: np.random.RandomState,
    *,
    labels_per_client: int = 2,
    min_size: int = 10,
    sigma: float = 2.0,
) -> Partition:
    """Gives client i the classes i, i + 1, ..., with log-normally distributed shares of each.

    Each client first gets `min_size / labels_per_client` examples, rounded up, of each of its
    classes. The remaining examples of a class are divided among its clients in proportion to
    log-normal weights, rounded down; those left over by rounding go to one of the clients at
    random. The mean of the log-normal distribution cancels out of the shares, and is not a
    parameter.

    Args:
      labels: [N] integers.
      num_clients: K, enough to hold every class.
      rng: random generator.
      labels_per_client: number of classes of each client, at least 1.
      min_size: minimum number of examples of a client, at least `labels_per_client`.
      sigma: standard deviation of the logarithm of the weights; above 0. The larger, the more the
        sizes of clients differ.

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
        if len(indices) < least * len(owners):
            raise _too_few(len(indices), len(owners), least, labels_per_client, label)
        sizes = _sizes(len(indices), draws[owners, slots], least, rng)
        for owner, part in zip(owners, np.split(indices, np.cumsum(sizes)[:-1]), strict=True):
            clients[owner].append(part)
    return Partition(tuple(rng.permutation(np.concatenate(parts)) for parts in clients))


def _sizes(examples: int, draws: np.ndarray, least: int, rng: np.random.RandomState) -> np.ndarray:
    """[clients of a class]: number of examples of the class for each; they sum up to `examples`."""
    rest = examples - least * len(draws)
    sizes = np.floor(draws / draws.sum() * rest).astype(np.int64)
    sizes[rng.randint(len(draws))] += rest - sizes.sum()
    return least + sizes


def _too_few(
    examples: int, owners: int, least: int, labels_per_client: int, label: int
) -> UserError:
    """The error of a class with too few examples for the clients that hold it."""
    if examples >= owners:
        most = labels_per_client * (examples // owners)
        field, right = "min_size", f"at most {most} is needed"
    elif examples:
        fewer = "fewer clients that share a class (num_clients, labels_per_client)"
        field, right = "name", f"{fewer}, or another partition, such as 'hetero', are needed"
    else:
        field, right = "name", "another partition, such as 'hetero', is needed"
    return UserError(
        f"config.partition.{field}: {owners} clients with {least} examples each of class {label} "
        f"need {least * owners} examples, but there are {examples}; {right}"
    )


def _check(
    num_clients: int, classes: int, labels_per_client: int, min_size: int, sigma: float
) -> None:
    if not 1 <= labels_per_client <= classes:
        raise UserError(
            f"config.partition.labels_per_client: {labels_per_client}; at least 1 and at most "
            f"{classes}, the number of classes, is needed"
        )
    if num_clients + labels_per_client <= classes:
        raise UserError(
            f"config.partition.num_clients: {num_clients} clients with {labels_per_client} classes "
            f"each leave some of the {classes} classes without a client; at least "
            f"{classes - labels_per_client + 1} are needed"
        )
    if min_size < labels_per_client:
        raise UserError(
            f"config.partition.min_size: {min_size}; at least {labels_per_client}, one example of "
            "each class of a client, is needed"
        )
    if sigma <= 0:
        raise UserError(f"config.partition.sigma: {sigma}; a value above 0 is needed")
