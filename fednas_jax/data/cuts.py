"""Selects examples to remove from a data set so that every client and class keeps some."""

import numpy as np


def apportion(sizes: np.ndarray, total: int) -> np.ndarray:
    """Splits `total` in proportion to `sizes` by largest remainders (ties: the lower class)."""
    exact = sizes * (total / sizes.sum())
    shares = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - shares), kind="stable")
    shares[order[: total - shares.sum()]] += 1
    return np.minimum(shares, sizes)


def one_each(shares: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Raises shares of 0 to 1 where the size is not 0, at the expense of the largest shares.

    Where the shares add up to less than one each, they are returned unchanged.
    """
    shares = shares.copy()
    if shares.sum() >= np.count_nonzero(sizes):
        for empty in np.flatnonzero((sizes > 0) & (shares == 0)):
            shares[np.argmax(shares)] -= 1
            shares[empty] = 1
    return shares


def by_client(
    labels: np.ndarray,
    client: np.ndarray,
    total: int,
    rng: np.random.RandomState,
    *,
    fill: bool = False,
) -> np.ndarray:
    """Takes examples from all clients in proportion to their size, and likewise from their classes.

    One random example of each client and of each class is never taken.

    Args:
      labels: [N], the class of each example, 0 or above.
      client: [N] integers, the client of each example.
      total: number of examples to take.
      rng: random generator.
      fill: where clients are too small for their share, whether to take the rest from larger ones;
        otherwise fewer than `total` are taken.

    Returns:
      [N] bool: whether an example is taken.
    """
    _, owner = np.unique(client, return_inverse=True)
    order = rng.permutation(len(labels))
    free = ~_one_of_each(owner, labels, order)
    taken = np.zeros(len(labels), bool)
    sizes = np.bincount(owner)
    shares = _shares(sizes, np.bincount(owner[free], minlength=len(sizes)), total, rng, fill=fill)
    # Examples that each class is owed so far: within one client a class may get one example more or
    # less than its share, which the next clients compensate.
    owed = np.zeros(int(labels.max()) + 1)
    members = np.split(order[np.argsort(owner[order], kind="stable")], sizes.cumsum())
    for k in rng.permutation(len(shares)).tolist():
        own = members[k]
        owed += shares[k] * np.bincount(labels[own], minlength=len(owed)) / len(own)
        _take(taken, own[free[own]], labels, int(shares[k]), owed)
    return taken


def _one_of_each(owner: np.ndarray, labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """[N] bool: the first example of each client in a given order, then of each missing class."""
    chosen = np.zeros(len(order), bool)
    chosen[order[np.unique(owner[order], return_index=True)[1]]] = True
    others = order[~np.isin(labels[order], labels[chosen])]
    chosen[others[np.unique(labels[others], return_index=True)[1]]] = True
    return chosen


def _shares(
    sizes: np.ndarray, free: np.ndarray, total: int, rng: np.random.RandomState, *, fill: bool
) -> np.ndarray:
    """[K]: number of examples to take from each client, at most `free`."""
    drawn = rng.permutation(len(sizes))  # ties between clients are broken at random
    shares = np.zeros(len(sizes), np.int64)
    shares[drawn] = np.minimum(apportion(sizes[drawn], total), free[drawn])
    while fill and (missing := min(total, free.sum()) - shares.sum()) > 0:
        shares[drawn] += apportion((free - shares)[drawn], missing)
    return shares


def _take(
    taken: np.ndarray, free: np.ndarray, labels: np.ndarray, number: int, owed: np.ndarray
) -> None:
    """Takes `number` of a client's free examples, each of the class that is owed most."""
    left = np.bincount(labels[free], minlength=len(owed))
    of_class = free[np.argsort(labels[free], kind="stable")]
    ends = left.cumsum()
    for _ in range(number):
        most = int(np.argmax(np.where(left > 0, owed, -np.inf)))
        taken[of_class[ends[most] - left[most]]] = True
        left[most] -= 1
        owed[most] -= 1
