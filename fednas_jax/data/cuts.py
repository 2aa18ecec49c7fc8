"""Which examples to take out of a data set, so that what stays still has every client and class."""

import numpy as np


def apportion(sizes: np.ndarray, total: int) -> np.ndarray:
    """Shares of `total` in proportion to `sizes` (largest remainders; the lower class if equal)."""
    exact = sizes * (total / sizes.sum())
    shares = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - shares), kind="stable")
    shares[order[: total - shares.sum()]] += 1
    return np.minimum(shares, sizes)


def one_each(shares: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Shares of `sizes` of which none is 0 where its size is not: the largest give what it takes.

    As they are where they add up to less than one each.
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
    """Takes examples of each client in proportion, and of each class within the clients.

    One random example of each client stays, and one of each class.

    Args:
      labels: [N], the class of each example, 0 or above.
      client: [N] integers, whose example each is.
      total: examples to take.
      rng: drawn from.
      fill: where clients are too small for their share, take the rest from the larger ones;
        otherwise fewer than `total` are taken.

    Returns:
      [N] bool: what is taken.
    """
    _, owner = np.unique(client, return_inverse=True)
    order = rng.permutation(len(labels))
    free = ~_one_of_each(owner, labels, order)
    taken = np.zeros(len(labels), bool)
    sizes = np.bincount(owner)
    shares = _shares(sizes, np.bincount(owner[free], minlength=len(sizes)), total, rng, fill=fill)
    # What each class is owed so far: within a client its classes get their share up to one example
    # more or less, and the next clients make up for that.
    owed = np.zeros(int(labels.max()) + 1)
    members = np.split(order[np.argsort(owner[order], kind="stable")], sizes.cumsum())
    for k in rng.permutation(len(shares)).tolist():
        own = members[k]
        owed += shares[k] * np.bincount(labels[own], minlength=len(owed)) / len(own)
        _take(taken, own[free[own]], labels, int(shares[k]), owed)
    return taken


def _one_of_each(owner: np.ndarray, labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """[N] bool: the first example of each client in an order, and of each class still missing."""
    chosen = np.zeros(len(order), bool)
    chosen[order[np.unique(owner[order], return_index=True)[1]]] = True
    others = order[~np.isin(labels[order], labels[chosen])]
    chosen[others[np.unique(labels[others], return_index=True)[1]]] = True
    return chosen


def _shares(
    sizes: np.ndarray, free: np.ndarray, total: int, rng: np.random.RandomState, *, fill: bool
) -> np.ndarray:
    """[K]: how many examples to take of each client, at most `free` of its `sizes`."""
    drawn = rng.permutation(len(sizes))  # which of equal clients gives one more is left to chance
    shares = np.zeros(len(sizes), np.int64)
    shares[drawn] = np.minimum(apportion(sizes[drawn], total), free[drawn])
    while fill and (missing := min(total, free.sum()) - shares.sum()) > 0:
        shares[drawn] += apportion((free - shares)[drawn], missing)
    return shares


def _take(
    taken: np.ndarray, free: np.ndarray, labels: np.ndarray, number: int, owed: np.ndarray
) -> None:
    """Takes so many of a client's free examples, each of the class that is owed most."""
    left = np.bincount(labels[free], minlength=len(owed))
    of_class = free[np.argsort(labels[free], kind="stable")]
    ends = left.cumsum()
    for _ in range(number):
        most = int(np.argmax(np.where(left > 0, owed, -np.inf)))
        taken[of_class[ends[most] - left[most]]] = True
        left[most] -= 1
        owed[most] -= 1
