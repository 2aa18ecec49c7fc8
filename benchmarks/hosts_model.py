"""A model of ranks on many hosts: the time of a round, and when half of it is communication.

    python -m benchmarks.hosts_model

T(n) = local steps of the busiest of n ranks x seconds a local step + all-reduce of the payload:

- ring: 2 (n - 1) / n x bytes / bandwidth + 2 (n - 1) x latency;
- recursive doubling: log2 n x (latency + bytes / bandwidth), and two more messages, for the ranks
  beyond the largest power of two, where n is not one.

The assumptions are `ASSUMPTIONS`; nothing here has been measured on more than one host.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fednas_jax.data.tables import read_table
from fednas_jax.federated.cohort import deal

SUPERNET_STEP_SECONDS, CNN_STEP_SECONDS = 6.86, 0.0055
"""Seconds of a local step, from docs/performance.md; the CNN's from a round of 600 steps in 3.29
s."""

ASSUMPTIONS = f"""\
- One rank a host, hosts alike, clients dealt as the round engine deals them; a client is not
  divided, so more ranks than clients are of no use.
- Seconds of a local step, as measured on two cores of an AMD EPYC (docs/performance.md):
  {SUPERNET_STEP_SECONDS} of the supernet (C = 16, L = 8, B = 64), {CNN_STEP_SECONDS} of the CNN.
  "100 x": on a device that is a hundred times as fast, which is assumed, not measured.
  Evaluation, recalibration and files are left out.
- Every link carries its bandwidth in both directions at once, and the switch that of all links
  together; nothing else uses them. No time for packing, and none for adding up.
- Latency of a message 50, 20 and 5 microseconds at 1, 10 and 100 Gbit/s: the order of TCP over
  Ethernet, and of RDMA.
- The all-reduce begins when the last rank is done, and nothing is computed beside it: so does the
  round engine. Its barrier and the few small messages of a round, some milliseconds, are left out.
"""

SUPERNET_BYTES = 4 * (1_993_914 + 1)
CNN_BYTES = 4 * (1_663_370 + 1)
"""Bytes that a rank adds to a round's sum, in float32: the weights (for the supernet also alphas
and BatchNorm statistics), and the factor by which they were multiplied."""


class Network(NamedTuple):
    """A network between hosts."""

    name: str
    bits_per_second: float
    latency_seconds: float

    def seconds(self, size_bytes: float) -> float:
        """The time to send a number of bytes, without latency."""
        return 8 * size_bytes / self.bits_per_second


class Workload(NamedTuple):
    """The work of a round."""

    name: str
    local_steps: tuple[int, ...]
    """Local steps of each client."""
    step_seconds: float
    payload_bytes: int

    def work_seconds(self, ranks: int) -> float:
        """The compute time of the busiest rank."""
        steps = np.array(self.local_steps)
        shares = deal(np.arange(len(steps)), steps, ranks)
        return float(max(steps[share].sum() for share in shares) * self.step_seconds)


def ring(ranks: int, size_bytes: float, network: Network) -> float:
    """Seconds of an all-reduce around a ring."""
    share = 2 * (ranks - 1) / ranks
    return share * network.seconds(size_bytes) + 2 * (ranks - 1) * network.latency_seconds


def doubling(ranks: int, size_bytes: float, network: Network) -> float:
    """Seconds of an all-reduce by recursive doubling."""
    messages = int(math.log2(ranks))
    messages += 0 if 2**messages == ranks else 2
    return messages * (network.latency_seconds + network.seconds(size_bytes))


AllReduce = Callable[[int, float, Network], float]


def round_seconds(
    workload: Workload, ranks: int, network: Network, all_reduce: AllReduce = ring
) -> float:
    """T(n): the time of a round with n ranks."""
    return workload.work_seconds(ranks) + all_reduce(ranks, workload.payload_bytes, network)


def half_at(workload: Workload, network: Network, all_reduce: AllReduce = ring) -> int | None:
    """The fewest ranks at which at least half of the round is the all-reduce.

    Returns:
      The number of ranks; None if this is never the case with up to one client per rank.
    """
    for ranks in range(2, len(workload.local_steps) + 1):
        sending = all_reduce(ranks, workload.payload_bytes, network)
        if sending >= workload.work_seconds(ranks):
            return ranks
    return None


def table2_steps(local_epochs: int) -> tuple[int, ...]:
    """Local steps of the paper's 16 clients: B = 64, half of the images for the weights."""
    examples = read_table("fednas_table2").sum(axis=1)
    return tuple(int(n) // 2 // 64 * local_epochs for n in examples)


NETWORKS = (
    Network("1 Gbit/s", 1e9, 50e-6),
    Network("10 Gbit/s", 1e10, 20e-6),
    Network("100 Gbit/s", 1e11, 5e-6),
)
WORKLOADS = (
    Workload("supernet, 20 epochs", table2_steps(20), SUPERNET_STEP_SECONDS, SUPERNET_BYTES),
    Workload("supernet, 5 epochs", table2_steps(5), SUPERNET_STEP_SECONDS, SUPERNET_BYTES),
    Workload("CNN, 1 epoch", (60,) * 100, CNN_STEP_SECONDS, CNN_BYTES),
)
"""FedNAS at C = 16, L = 8 on the clients of Table 2, with 20 local epochs and with the 5 of
configs/cifar_hetero.py; FedAvg with 100 clients of 600 images in batches of 10."""
SPEEDS = (1, 100)


def report() -> str:
    """The model's figures in Markdown, and its assumptions."""
    lines = [
        "| round | device | network | 1 rank | 4 ranks | a client a rank | its all-reduce "
        "| half, ring | half, doubling | half at a step of |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for workload in WORKLOADS:
        for speed in SPEEDS:
            faster = workload._replace(step_seconds=workload.step_seconds / speed)
            lines += [_line(faster, speed, network) for network in NETWORKS]
    return "\n".join(
        [
            "A model, not measured: seconds a round of ranks on hosts of their own (all-reduce "
            "around a ring); from how many",
            "ranks half of it is the all-reduce; and how short a local step would have to be for "
            "that, with a client a rank.\n",
            *lines,
            f"\nIts assumptions:\n\n{ASSUMPTIONS}",
        ]
    )


def _line(workload: Workload, speed: int, network: Network) -> str:
    clients = len(workload.local_steps)
    seconds = [_said(round_seconds(workload, n, network)) for n in (1, 4, clients)]
    sending = ring(clients, workload.payload_bytes, network)
    halves = [half_at(workload, network, way) for way in (ring, doubling)]
    said = [f"{ranks} ranks" if ranks else f"never up to {clients}" for ranks in halves]
    cells = (
        workload.name, f"{speed} x", network.name, *seconds, f"{1e3 * sending:.3g} ms", *said,
        f"{1e3 * step_at_half(workload, clients, network):.3g} ms",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _said(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds >= 1000 else f"{seconds:.3g} s"


def step_at_half(workload: Workload, ranks: int, network: Network) -> float:
    """Seconds of a local step at which the all-reduce, around a ring, takes half of the round."""
    busiest = workload._replace(step_seconds=1.0).work_seconds(ranks)
    return ring(ranks, workload.payload_bytes, network) / busiest


if __name__ == "__main__":
    print(report())
