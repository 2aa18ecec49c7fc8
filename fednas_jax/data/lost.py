"""Lines that name the clients and classes without examples after data were cut."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from fednas_jax.runtime.errors import listed


class Examples(Protocol):
    """A `Split`, or anything else with these two attributes."""

    @property
    def labels(self) -> np.ndarray: ...  # [N]

    @property
    def client(self) -> np.ndarray | None: ...  # [N]


def client_called(client: int, names: Sequence[str] = ()) -> str:
    """A client in a line: its name in quotes, or its number; arguments as of `clients_listed`."""
    return repr(names[client]) if names else str(client)


def clients_listed(clients: Iterable[int], names: Sequence[str] = ()) -> str:
    """Names clients in a line.

    Args:
      clients: values of the `client` column.
      names: the name of each number in the column; () where data have no names.
    """
    return "`client` " + listed(client_called(one, names) for one in clients)


def after_cut(
    before: Examples,
    after: Examples,
    class_names: Sequence[str],
    client_names: Sequence[str],
    cut: str,
) -> list[str]:
    """Lines that name the clients and classes without training examples after a cut.

    Args:
      before: the examples before the cut.
      after: the examples that remain.
      class_names: the name of each class.
      client_names: the name of each number in the `client` column; () where data have no names.
      cut: the field that cut them, with its value.
    """
    lines = []
    classes = np.setdiff1d(before.labels, after.labels)
    if len(classes):
        named = listed([repr(class_names[c]) for c in classes])
        of = len(class_names)
        lines.append(f"{cut} leaves {len(classes)} of {of} classes without an example ({named})")
    if before.client is not None and after.client is not None:
        clients = np.setdiff1d(before.client, after.client)
        if len(clients):
            of = len(np.unique(before.client))
            lines.append(
                f"{cut} leaves {len(clients)} of {of} clients without an example "
                f"({clients_listed(clients, client_names)})"
            )
    return lines


def untested(labels: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """A line that names the classes without test examples; empty where there are none.

    Args:
      labels: [N], the classes of the test examples.
      class_names: the name of each class.
    """
    missing = np.setdiff1d(np.arange(len(class_names)), labels)
    if not len(missing):
        return []
    named = listed([repr(class_names[c]) for c in missing])
    return [
        f"config.dataset: the test set has no example of {len(missing)} of {len(class_names)} "
        f"classes ({named})"
    ]
