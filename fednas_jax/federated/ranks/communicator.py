"""Communication between the ranks of a run: one protocol, for a single process or over MPI.

A rank is a process with one device. Each simulates its share of a round's clients. The sums of
their updates are added up over all ranks inside the compiled server update, the only place where
arrays are sent between devices. All other data is small and is sent between hosts, between rounds.

All ranks must call the methods of the protocol, except `abort`, in the same order.
"""

import contextlib
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from fednas_jax.runtime import signals
from fednas_jax.runtime.errors import UserError, one_line

Tree = Any

LIMIT_VARIABLE = "FEDNAS_JAX_MPI_SECONDS"
"""Environment variable: seconds without a message after which a rank counts as lost."""

LIMIT_SECONDS = 30.0


class Communicator(Protocol):
    """The ranks of a run, seen from one of them."""

    rank: int
    """Number of this process, from 0; rank 0 writes files and makes decisions."""
    size: int
    """Number of ranks."""

    def total(self, tree: Tree) -> Tree:
        """Adds up trees over all ranks; must be called while tracing.

        Every rank gets the same bits, and equal trees on the same number of ranks give equal bits.
        Half precision is sent and added up in float32.

        Args:
          tree: arrays of numbers, such as weighted sums and their weights, of the same shapes on
            all ranks.

        Raises:
          TypeError: a leaf is a typed key or a boolean, which have no sum.
        """

    def gather(self, tree: Tree) -> Tree:
        """Concatenates the arrays of all ranks.

        Args:
          tree: NumPy or JAX arrays [N, ...], of the same shapes on all ranks; no keys.

        Returns:
          NumPy arrays [size * N, ...], in the order of the ranks, on every rank.
        """

    def broadcast(self, tree: Tree) -> Tree:
        """Sends the arrays of rank 0 to all ranks, bit for bit.

        Args:
          tree: arrays or typed keys, of the same shapes on all ranks; only rank 0's values are
            used.
        """

    def decide(self, value: Callable[[], Any]) -> Any:
        """Computes a value on rank 0 and sends it to all ranks.

        Args:
          value: returns a value that JSON can hold; called only on rank 0.

        Returns:
          The value, converted to JSON and back.
        """

    def barrier(self, limit_seconds: float | None = None) -> None:
        """Waits for all ranks, without taking a core from ranks that still compute.

        Args:
          limit_seconds: time after which the run ends with a line that names the missing ranks;
            None: no limit. A rank that died or was stopped ends the run in any case.
        """

    def abort(self, line: str, code: int) -> None:
        """Ends all ranks with an exit code and one line that names this rank.

        Where there is one rank only, it returns, and the caller must end the process.

        Args:
          line: what went wrong; "" where it has already been printed.
          code: exit code.
        """

    def close(self) -> None:
        """Ends communication, after all ranks have called it."""


class Local:
    """The communicator of a single process."""

    rank, size = 0, 1

    def total(self, tree: Tree) -> Tree:
        """See `Communicator`."""
        check_sums(tree)
        return tree

    def gather(self, tree: Tree) -> Tree:
        """See `Communicator`."""
        return jax.tree.map(np.asarray, tree)

    def broadcast(self, tree: Tree) -> Tree:
        """See `Communicator`."""
        return tree

    def decide(self, value: Callable[[], Any]) -> Any:
        """See `Communicator`; the value is not converted to JSON, since no other rank reads it."""
        return value()

    def barrier(self, limit_seconds: float | None = None) -> None:
        """See `Communicator`."""

    def abort(self, line: str, code: int) -> None:
        """See `Communicator`."""

    def close(self) -> None:
        """See `Communicator`."""


LOCAL = Local()


@contextlib.contextmanager
def one_for_all(communicator: Communicator) -> Iterator[None]:
    """Makes an error on one rank end all ranks, with one line; without errors, all end together.

    Args:
      communicator: is closed at the end.
    """
    try:
        yield
        communicator.close()
    except (UserError, OSError) as error:
        communicator.abort(one_line(error), 2)
        raise
    except KeyboardInterrupt as error:
        line = "interrupted; the same command resumes the run"
        communicator.abort(line, signals.exit_code(error))
        raise
    except BaseException as error:
        if communicator.size > 1:
            traceback.print_exc()
        communicator.abort(f"{type(error).__name__}: {one_line(error)}", 1)
        raise


def is_key(leaf: Any) -> bool:
    """Whether a leaf is an array of typed keys."""
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def check_sums(tree: Tree) -> None:
    """Refuses arrays that cannot be added up.

    Raises:
      TypeError: a leaf is a typed key or a boolean.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if is_key(leaf) or leaf.dtype == bool:
            name = jax.tree_util.keystr(path)
            raise TypeError(f"{name}: {leaf.dtype} has no sum; numbers are needed")


def packed(tree: Tree, add_up: Callable[[jax.Array], jax.Array]) -> Tree:
    """Applies a sum to a tree through flat buffers, one for each dtype that is sent.

    Args:
      tree: arrays of numbers.
      add_up: takes a flat array and returns one of the same shape and dtype.

    Returns:
      A tree like the given one, with the sums.
    """
    check_sums(tree)
    leaves, structure = jax.tree.flatten(tree)
    results: list[Any] = list(leaves)
    wires = [_on_the_wire(leaf.dtype) for leaf in leaves]
    for wire in sorted(set(wires), key=str):
        places = [i for i, w in enumerate(wires) if w == wire and leaves[i].size]
        if not places:
            continue
        buffer = add_up(jnp.concatenate([jnp.ravel(leaves[i]).astype(wire) for i in places]))
        ends = np.cumsum([leaves[i].size for i in places])
        for i, end in zip(places, ends, strict=True):
            flat = buffer[end - leaves[i].size : end]
            results[i] = flat.reshape(leaves[i].shape).astype(leaves[i].dtype)
    return jax.tree.unflatten(structure, results)


def _on_the_wire(dtype: Any) -> Any:
    narrow = jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4
    return np.dtype(np.float32) if narrow else np.dtype(dtype)
