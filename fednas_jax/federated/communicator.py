"""How the ranks of a run speak with each other: one protocol, alone or over MPI.

A rank is a process with one device. Each simulates its share of a round's clients; what they send
is added up over all ranks inside the compiled server update, the only place where arrays travel
between devices. Everything else is small, and goes from host to host between rounds.

Every method of the protocol but `abort` is to be called by all ranks, in the same order.
"""

import contextlib
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from fednas_jax import signals
from fednas_jax.errors import UserError, one_line

Tree = Any

LIMIT_VARIABLE = "FEDNAS_JAX_MPI_SECONDS"
"""Environment: seconds of silence after which a rank is given up."""

LIMIT_SECONDS = 30.0


class Communicator(Protocol):
    """All ranks of a run, as one of them sees them."""

    rank: int
    """Of this process, from 0; rank 0 writes and decides."""
    size: int
    """How many ranks there are."""

    def total(self, tree: Tree) -> Tree:
        """Adds up trees over all ranks; to be called while tracing.

        Every rank gets the same bits, and the same again from the same trees on as many ranks. Half
        precision is added up, and travels, in float32.

        Args:
          tree: arrays of numbers, such as weighted sums and their weights; of the same shapes on
            all ranks.

        Raises:
          TypeError: a leaf is a typed key, or has no sum.
        """

    def gather(self, tree: Tree) -> Tree:
        """Arrays of all ranks, one behind the other.

        Args:
          tree: NumPy or JAX arrays [N, ...], of the same shapes on all ranks; no keys.

        Returns:
          NumPy arrays [size * N, ...], in the order of the ranks; on each of them.
        """

    def broadcast(self, tree: Tree) -> Tree:
        """Rank 0's arrays, with their bits; typed keys too.

        Args:
          tree: of the same shapes on all ranks; only rank 0's values count.
        """

    def decide(self, value: Callable[[], Any]) -> Any:
        """What rank 0 says: anything that JSON can hold, as JSON gives it back.

        Args:
          value: called on rank 0 alone.
        """

    def barrier(self, limit_seconds: float | None = None) -> None:
        """Waits for all ranks, without taking a core from those that still work.

        Args:
          limit_seconds: after so long the run ends, with a line that names who has not come; None
            for no limit: one that is dead or stopped ends the run in any case.
        """

    def abort(self, line: str, code: int) -> None:
        """Ends all ranks with an exit code, and with one line of which rank it was.

        Where a rank is alone, it returns, and the caller is to end.

        Args:
          line: what went wrong; "" where it has been said.
          code: exit code.
        """

    def close(self) -> None:
        """Lets the ranks go, when all have come to this point."""


class Local:
    """A process of its own."""

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
        """See `Communicator`; not made JSON and back, as nobody else has to read it."""
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
    """What goes wrong on one rank ends all, with one line; at the end, all end together.

    Args:
      communicator: closed at the end.
    """
    try:
        yield
        communicator.close()
    except (UserError, OSError) as error:
        communicator.abort(one_line(error), 2)
        raise
    except KeyboardInterrupt as error:
        line = "interrupted; the same command goes on with the run"
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
    """Refuses what cannot be added up.

    Raises:
      TypeError: a leaf is a typed key or a boolean.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if is_key(leaf) or leaf.dtype == bool:
            name = jax.tree_util.keystr(path)
            raise TypeError(f"{name}: {leaf.dtype} has no sum; numbers are needed")


def packed(tree: Tree, add_up: Callable[[jax.Array], jax.Array]) -> Tree:
    """A tree through one flat buffer for each dtype on the wire.

    Args:
      tree: arrays of numbers.
      add_up: flat array -> one like it.

    Returns:
      A tree like the given one, with what `add_up` made of it.
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
