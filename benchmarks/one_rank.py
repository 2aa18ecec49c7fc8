"""One of the ranks that `benchmarks.ranks` starts: makes rounds and all-reduces on request.

    python -m benchmarks.one_rank FOLDER CASE [CASE ...]

Every rank is bound to one core, shared where there are more ranks than cores, and computes with one
thread. Rank 0 reads a line of JSON for each turn and answers it. The others wait for it at a Unix
socket in FOLDER, since waiting inside MPI takes time from the ranks whose turn it is.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np
import psutil

from benchmarks import cases
from benchmarks.rounds import Ours
from fednas_jax import config as schema
from fednas_jax.data.datasets import Dataset, Split
from fednas_jax.data.partition import Partition
from fednas_jax.experiment import assembly
from fednas_jax.federated.ranks import communicator as communicators
from fednas_jax.federated.ranks import launch
from fednas_jax.federated.ranks.communicator import Communicator
from fednas_jax.runtime import cache, compilation

CLIENTS = 8
"""Of a round; as many on each of 1, 2 and 4 ranks."""
STEPS = 2
"""Local steps of a client with the supernet."""
EXAMPLES = 600
"""Of a client with the CNN, as in McMahan et al.: 60 local steps of 10."""
LOOPBACK = "lo"
_LATE_SECONDS = 120.0
"""Maximum time between the first rank that has compiled and the last; more is a fault."""


def main() -> None:
    """Serves."""
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    take_a_core(int(os.environ.get("OMPI_COMM_WORLD_RANK", "0")))
    communicator = launch.start()
    with communicators.one_for_all(communicator), cache.configured("auto"):
        mine = {name: Federation(name, communicator) for name in names}
        if communicator.rank == 0:
            payload = {name: one.payload_bytes for name, one in mine.items()}
            print(json.dumps({"ready": True, "payload_bytes": payload}), flush=True)
        for request in turns(communicator, folder / "turns"):
            answer = mine[request["case"]].turn(request["sums"])
            if communicator.rank == 0:
                print(json.dumps(answer), flush=True)


def take_a_core(rank: int) -> None:
    """Binds this process to one core, before JAX counts them to make its threads."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[rank % len(cores)]})


def turns(communicator: Communicator, path: Path) -> Iterator[Any]:
    """The requests that rank 0 reads, on every rank; ends with its input.

    Args:
      communicator: of the ranks.
      path: for a socket.
    """
    if communicator.rank == 0:
        with Listener(str(path), backlog=communicator.size) as listener:
            communicator.barrier(_LATE_SECONDS)
            others = [listener.accept() for _ in range(1, communicator.size)]
            for line in sys.stdin:
                for other in others:
                    other.send(line)
                yield json.loads(line)
            for other in others:
                other.close()
        return
    communicator.barrier(_LATE_SECONDS)
    with Client(str(path)) as connection:
        while (line := _received(connection)) is not None:
            yield json.loads(line)


def _received(connection: Connection) -> str | None:
    """The next line; None at the end."""
    try:
        return str(connection.recv())
    except EOFError:
        return None


class Watched:
    """A communicator that records when this rank reaches and leaves a barrier."""

    def __init__(self, own: Communicator) -> None:
        """Args: own, which does all the work."""
        self._own = own
        self.came = self.left = 0.0

    def barrier(self, limit_seconds: float | None = None) -> None:
        """See `Communicator`."""
        self.came = time.perf_counter()
        self._own.barrier(limit_seconds)
        self.left = time.perf_counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


class Parts(NamedTuple):
    """The parts of a round, in seconds, which add up to the round; means over the ranks."""

    local: float
    """Time until a rank reaches the barrier: its clients."""
    waiting: float
    """Time at the barrier, waiting for ranks with more work: imbalance."""
    server: float
    """Time after the barrier: the sum over all ranks, the server's step, the clients' metrics."""


class Federation:
    """This rank's part of a case."""

    def __init__(self, name: str, communicator: Communicator) -> None:
        """Compiles, and runs one round.

        Args:
          name: "tiny", or another supernet of `cases`, or "cnn".
          communicator: of the ranks.
        """
        self._communicator = communicator
        self._watched = Watched(communicator)
        config = cnn_config() if name == "cnn" else supernet_config(name)
        population = cnn_population(config) if name == "cnn" else supernet_population(name, config)
        self._ours = Ours(config, population, cast(Communicator, self._watched))
        self._ours.rounds(1)
        self._sums = self._ours.sums()
        self._add_up = compilation.jit(communicator.total)
        jax.block_until_ready(self._add_up(self._sums))
        self.payload_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(self._sums))

    def turn(self, sums: int) -> dict[str, float]:
        """A round, and so many all-reduces of what a round adds up.

        Returns:
          The round's `Parts`, its "seconds", and of an all-reduce "sum_seconds" and, of all ranks
          together, "sum_bytes".
        """
        parts = self._round()
        bare_bytes, _ = self._add_up_often(0)  # what the barriers themselves send
        moved, seconds = self._add_up_often(sums)
        answer = {**parts._asdict(), "seconds": sum(parts)}
        return {**answer, "sum_seconds": seconds / sums, "sum_bytes": (moved - bare_bytes) / sums}

    def _round(self) -> Parts:
        self._communicator.barrier()
        start = time.perf_counter()
        self._ours.rounds(1)
        end = time.perf_counter()
        came, left = self._watched.came, self._watched.left
        parts = self._communicator.gather(np.array([[came - start, left - came, end - left]]))
        return Parts(*parts.mean(axis=0).tolist())

    def _add_up_often(self, count: int) -> tuple[int, float]:
        """Bytes through the loopback interface, and seconds, of so many all-reduces in a row.

        In a row, since ranks leave a barrier up to a millisecond apart.
        """
        self._communicator.barrier()
        before = loopback_bytes()
        self._communicator.barrier()
        start = time.perf_counter()
        for _ in range(count):
            jax.block_until_ready(self._add_up(self._sums))
        seconds = time.perf_counter() - start
        self._communicator.barrier()
        return loopback_bytes() - before, seconds


def loopback_bytes() -> int:
    """Sent so far through the loopback interface, by any process: what is sent is received."""
    return int(psutil.net_io_counters(pernic=True)[LOOPBACK].bytes_sent)


def supernet_config(name: str) -> schema.Config:
    """FedNAS of one phase, so that a round has one sum: BatchNorm statistics are averaged too."""
    return cases.config(
        cases.find(name),
        server__batch_stats="averaged",
        clients_per_round=CLIENTS,
        clients_per_chunk=1,
    )


def supernet_population(name: str, config: schema.Config) -> assembly.Population:
    """Like clients with random images."""
    population: assembly.Population = cases.population(cases.find(name), config, CLIENTS, STEPS)
    return population


def cnn_config() -> schema.Config:
    """McMahan's CNN by FedAvg: one epoch in batches of 10."""
    texts = {
        "algorithm": "fedavg",
        "network.name": "cnn",
        "batch_size": "10",
        "local_epochs": "1",
        "clients_per_round": str(CLIENTS),
        "clients_per_chunk": "1",
        "client.held_out_fraction": "0.0",
        "optimizer.learning_rate": "0.05",
        "partition.num_clients": str(CLIENTS),
        "augment.crop_padding": "0",
        "augment.flip": "false",
        "augment.cutout": "0",
    }
    return schema.resolve(schema.default(), texts)


def cnn_population(config: schema.Config) -> assembly.Population:
    """Like clients with random images of MNIST's size."""
    rng = np.random.RandomState(0)
    count = CLIENTS * EXAMPLES
    labels = np.arange(count, dtype=np.int32) % 10
    split = Split(rng.randint(0, 256, (count, 28, 28, 1), np.uint8), labels, None)
    names = tuple(str(i) for i in range(10))
    dataset = Dataset("random", split, split, 10, names, (0.5,), (0.25,))
    parts = np.split(np.arange(count, dtype=np.int32), CLIENTS)
    return assembly.populate(config, dataset, Partition(tuple(parts)))


if __name__ == "__main__":
    main()
