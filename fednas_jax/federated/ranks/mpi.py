"""The communicator over MPI: mpi4jax inside compiled programs, mpi4py for arrays on the host.

Each of the two has its own clone of MPI's world, so that their messages do not mix with each other
or with those of other libraries. Waiting on the host polls and sleeps: it can be interrupted, and
leaves the cores to ranks that still compute. A sum inside a compiled program cannot be interrupted,
and therefore all ranks first meet at a barrier on the host. From there on only the watchdog
prevents a rank from waiting for ever.
"""

import contextlib
import json
import secrets
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import psutil

from fednas_jax.federated.ranks.communicator import (
    LIMIT_SECONDS,
    LIMIT_VARIABLE,
    Tree,
    is_key,
    packed,
)
from fednas_jax.federated.ranks.watchdog import LOST, Fault, Peer, Watchdog
from fednas_jax.runtime.errors import UserError, one_line

_PIECE = 2**30
"""Maximum number of elements in one message, which MPI counts in 32 bits."""

_LONGEST_NAP_SECONDS = 1e-3
_SECRET_BYTES, _HELLO_BYTES = 16, 400
_OTHERS_FIRST_SECONDS = 1.0
"""Time that other ranks wait before they report an error: one that all ranks have, such as a
misspelt field, is reported by rank 0."""


def start(environment: Mapping[str, str]) -> "Mpi":
    """Joins the ranks that a launcher has started.

    Args:
      environment: environment variables, which may have the time limit.

    Raises:
      UserError: mpi4py or mpi4jax are not installed, or do not run; the time limit is not a number;
        or this rank cannot reach rank 0.
    """
    limit = _limit(environment)
    try:
        import mpi4jax  # noqa: F401
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"MPI: cannot be used ({one_line(error)}); bash scripts/setup.sh --mpi installs it, "
            "and python -m fednas_jax.doctor says what is missing"
        ) from error
    node = MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED)
    # One device for each rank, where a host has several and the launcher has not assigned them.
    # This must happen before JAX looks for devices.
    if len(environment.get("CUDA_VISIBLE_DEVICES", "0,1").split(",")) > 1:
        jax.config.update("jax_cuda_visible_devices", str(node.rank))
    node.Free()
    try:
        return Mpi(MPI.COMM_WORLD, limit)
    except (UserError, OSError) as error:  # other ranks wait for this one, without a watchdog
        print(f"fednas_jax: error: {error}", file=sys.stderr, flush=True)
        MPI.COMM_WORLD.Abort(2)
        raise


def _limit(environment: Mapping[str, str]) -> float:
    text = environment.get(LIMIT_VARIABLE) or str(LIMIT_SECONDS)
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not 1 <= limit < float("inf"):
        raise UserError(f"{LIMIT_VARIABLE}: {text!r} is not usable; 1 or more seconds are needed")
    return limit


class Mpi:
    """All processes of an MPI communicator; see `communicator.Communicator`."""

    def __init__(self, world: Any, limit_seconds: float) -> None:
        """Clones `world` and connects all ranks with rank 0.

        Args:
          world: a communicator of mpi4py.
          limit_seconds: time without a message after which a rank counts as lost.

        Raises:
          UserError: this rank cannot reach rank 0.
        """
        from mpi4py import MPI

        self._mpi = MPI
        self._hosts, self._devices = world.Clone(), world.Clone()
        self.rank, self.size = world.rank, world.size
        peers = _connect(self, limit_seconds)
        self._watchdog = Watchdog(self.rank, peers, limit_seconds)
        self._watchdog.start()

    def total(self, tree: Tree) -> Tree:
        """See `Communicator`."""
        return packed(tree, self._all_reduce)

    def _all_reduce(self, flat: jax.Array) -> jax.Array:
        import mpi4jax

        pieces = [flat[i : i + _PIECE] for i in range(0, flat.size, _PIECE)]
        if jax.default_backend() == "cpu" or mpi4jax.has_cuda_support():
            summed = [mpi4jax.allreduce(x, op=self._mpi.SUM, comm=self._devices) for x in pieces]
        else:  # this mpi4jax has no code for the device: send through the host
            shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in pieces]
            summed = [
                jax.experimental.io_callback(self._all_reduce_host, shape, x, ordered=True)
                for x, shape in zip(pieces, shapes, strict=True)
            ]
        return summed[0] if len(summed) == 1 else jnp.concatenate(summed)

    def _all_reduce_host(self, flat: Any) -> np.ndarray:
        given = np.ascontiguousarray(flat)
        result = np.empty_like(given)
        self._devices.Allreduce(given, result, op=self._mpi.SUM)
        return result

    def gather(self, tree: Tree) -> Tree:
        """See `Communicator`."""
        return jax.tree.map(self._gather_array, jax.device_get(tree))

    def _gather_array(self, array: Any) -> np.ndarray:
        given = np.ascontiguousarray(array)
        result = np.empty((self.size * given.shape[0], *given.shape[1:]), given.dtype)
        self._wait(self._hosts.Iallgather(_bytes_of(given), _bytes_of(result)))
        return result

    def broadcast(self, tree: Tree) -> Tree:
        """See `Communicator`."""
        return jax.tree.map(self._broadcast_leaf, tree)

    def _broadcast_leaf(self, leaf: Any) -> Any:
        if is_key(leaf):
            data = self._broadcast_leaf(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        array = np.array(leaf, order="C")  # a copy, into which MPI writes
        self._wait(self._hosts.Ibcast(_bytes_of(array), root=0))
        return jax.device_put(array) if isinstance(leaf, jax.Array) else array

    def decide(self, value: Callable[[], Any]) -> Any:
        """See `Communicator`."""
        text = json.dumps(value()).encode() if self.rank == 0 else b""
        length = self._broadcast_leaf(np.array(len(text), np.int64))
        content = np.frombuffer(text.ljust(int(length)), np.uint8)
        return json.loads(self._broadcast_leaf(content).tobytes())

    def barrier(self, limit_seconds: float | None = None) -> None:
        """See `Communicator`."""
        self._watchdog.reach_barrier()
        self._wait(self._hosts.Ibarrier(), limit_seconds)

    def abort(self, line: str, code: int) -> None:
        """See `Communicator`; does not return."""
        if self.rank:
            time.sleep(_OTHERS_FIRST_SECONDS)
        self._watchdog.give_up(Fault(line, code))

    def close(self) -> None:
        """See `Communicator`."""
        self.barrier()
        self._watchdog.close()
        self._hosts.Free()
        self._devices.Free()

    def _wait(self, request: Any, limit_seconds: float | None = None) -> None:
        """Waits until a request is done, with naps that grow up to a millisecond."""
        start, nap = time.monotonic(), 1e-6
        while not request.Test():
            time.sleep(nap)
            nap = min(2 * nap, _LONGEST_NAP_SECONDS)
            if limit_seconds is not None and time.monotonic() - start > limit_seconds:
                self._too_late(limit_seconds)

    def _too_late(self, limit_seconds: float) -> None:
        if self.rank == 0:
            missing = ", ".join(map(str, self._watchdog.missing())) or "a message"
            line = f"{missing} has not come within {limit_seconds:g} s"
            self._watchdog.give_up(Fault(line, LOST))
        self.abort(f"has waited for more than {limit_seconds:g} s", LOST)

    def connect_offer(self, offer: Any) -> Any:
        """Sends rank 0's addresses to all ranks, before there is a watchdog."""
        return self.decide(lambda: offer)


def _bytes_of(array: np.ndarray) -> np.ndarray:
    """A view of an array of any dtype as bytes."""
    return array.reshape(-1).view(np.uint8)


def _connect(communicator: Mpi, limit_seconds: float) -> list[Peer]:
    """Connects every rank with rank 0, for the watchdogs.

    A connecting rank sends the secret that it has received from rank 0 over MPI, since any program
    can connect to the port.

    Returns:
      On rank 0 all other ranks; on other ranks rank 0.

    Raises:
      UserError: this rank cannot reach rank 0, or a rank has not connected in time.
    """
    host = socket.gethostname()
    if communicator.rank == 0:
        with socket.create_server(("", 0), backlog=communicator.size) as server:
            secret = secrets.token_hex(_SECRET_BYTES)
            offer = [host, _addresses(), server.getsockname()[1], secret]
            communicator.connect_offer(offer)
            return _accept(server, communicator.size - 1, secret, limit_seconds)
    there, addresses, port, secret = communicator.connect_offer(None)
    if there == host:
        addresses = ["127.0.0.1", *addresses]
    for address in addresses:
        with contextlib.suppress(OSError):
            connection = socket.create_connection(
                (address, port), timeout=limit_seconds / (2 * len(addresses))
            )
            hello = f"{secret} {communicator.rank} {host}".encode()
            connection.sendall(hello.ljust(_HELLO_BYTES))
            return [Peer(0, there, connection)]
    raise UserError(
        f"rank {communicator.rank} on {host}: cannot reach rank 0 at {', '.join(addresses)}, port "
        f"{port}, to monitor it; an open network between the hosts is needed"
    )


def _addresses() -> list[str]:
    """The addresses under which other hosts can reach this one."""
    of_all = [a for one in psutil.net_if_addrs().values() for a in one]
    return [a.address for a in of_all if a.family == socket.AF_INET and a.address != "127.0.0.1"]


def _accept(server: socket.socket, count: int, secret: str, limit_seconds: float) -> list[Peer]:
    peers: dict[int, Peer] = {}
    deadline = time.monotonic() + limit_seconds
    while len(peers) < count:
        server.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            connection, _ = server.accept()
            connection.settimeout(1)
            hello = connection.recv(_HELLO_BYTES, socket.MSG_WAITALL).decode(errors="replace")
            shown, _, rest = hello.partition(" ")
        except OSError:  # no connection yet, or another program that has hung up
            if time.monotonic() < deadline:
                continue
            missing = sorted(set(range(1, count + 1)) - set(peers))
            raise UserError(
                f"rank {', '.join(map(str, missing))}: did not connect within {limit_seconds:g} s; "
                "an open network between the hosts is needed"
            ) from None
        rank, _, host = rest.strip().partition(" ")
        if secrets.compare_digest(shown.encode(), secret.encode()):
            peers[int(rank)] = Peer(int(rank), host, connection)
        else:
            connection.close()
    return [peers[rank] for rank in sorted(peers)]
