"""Ranks on one machine: the time of a round, the share of the all-reduce, and the bytes it moves.

    python -m benchmarks.ranks [--quick] [--json FILE] [--repeats N]

Groups of 1, 2 and 4 ranks take turns. They communicate by Open MPI's TCP transport over the
loopback interface, and, as a second case, by its shared memory. Each rank is bound to one core and
computes with one thread: on two cores, 2 ranks have twice the resources of 1, and 4 ranks are
oversubscribed. A round has 8 equal clients: the tiny supernet by FedNAS (2 local steps each,
BatchNorm statistics averaged), and McMahan's CNN by FedAvg (60 local steps each).

The all-reduce is the compiled sum of a round, measured alone, ten in a row. A round is divided at
its barrier: local steps before it, waiting at it (imbalance), and after it the server update, which
begins with the all-reduce. Bytes are those sent through the loopback interface, without those of
barriers; the minimum over all repeats, since other processes can only add to them. At least
2 (n - 1) / n times the payload passes through each of n ranks (Patarasuk, Yuan: Bandwidth optimal
all-reduce algorithms for clusters of workstations, J. Parallel Distrib. Comput. 69(2), 2009).

Afterwards the model of `benchmarks.hosts_model` is printed, for ranks on different hosts. --quick:
only the supernet, with 1 and 2 ranks over TCP.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from fednas_jax.runtime import environment

if __name__ == "__main__":
    environment.prepare("benchmarks.ranks")  # as the command line does

from benchmarks import harness, hosts_model
from benchmarks.harness import Peer, Row, at_least, at_most
from fednas_jax import doctor
from fednas_jax.runtime.errors import UserError

TRANSPORTS = {
    "TCP": ("--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "lo"),
    "shared memory": ("--mca", "btl", "sm,self"),
}
CASES = {"tiny": "tiny supernet", "cnn": "CNN"}
SUMS = 10
"""All-reduces in a row."""
REPEATS = 5

Answer = Mapping[str, float]


class Group(NamedTuple):
    """Ranks that share a run."""

    ranks: int
    transport: str = "TCP"

    def __str__(self) -> str:
        return "1 rank" if self.ranks == 1 else f"{self.ranks} ranks by {self.transport}"


ALONE = Group(1)
GROUPS = (ALONE, *(Group(ranks, by) for by in TRANSPORTS for ranks in (2, 4)))


def launcher(group: Group) -> list[str]:
    """What starts a group's Python; a rank alone needs nothing.

    Raises:
      UserError: there is no Open MPI.
    """
    if group.ranks == 1:
        return []
    mpirun = doctor.mpirun()
    if mpirun is None or "Open MPI" not in _version(mpirun):
        raise UserError("mpirun: Open MPI's is needed; bash scripts/setup.sh --mpi installs it")
    as_root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    free = ["--oversubscribe", "--bind-to", "none"]  # a rank binds itself
    choice = ["--mca", "pml", "ob1", *TRANSPORTS[group.transport]]
    return [mpirun, *as_root, *free, *choice, "-n", str(group.ranks)]


def _version(mpirun: str) -> str:
    said = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=False)
    return said.stdout


def measure(
    groups: Sequence[Group], cases: Sequence[str], repeats: int
) -> tuple[dict[tuple[str, Group], list[Answer]], dict[str, int]]:
    """Has groups take turns.

    Returns:
      The answers to every repeat, by case and group, and the bytes that a rank adds to a sum.
    """
    answers: dict[tuple[str, Group], list[Answer]] = {}
    with ExitStack() as stack:
        peers = {}
        for group in groups:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            peer = Peer(sys.executable, "benchmarks.one_rank", [folder, *cases], launcher(group))
            peers[group] = stack.enter_context(peer)
        for case in cases:
            for repeat in range(1 + repeats):
                for group, peer in peers.items():
                    time.sleep(harness.SETTLE_SECONDS)
                    answer = peer.ask({"case": case, "sums": SUMS})
                    if repeat:  # the first one warms up
                        answers.setdefault((case, group), []).append(answer)
        return answers, dict(peers[groups[0]].facts["payload_bytes"])


def least_bytes(ranks: int, payload_bytes: int) -> float:
    """That each of so many ranks must send in an all-reduce."""
    return 2 * (ranks - 1) / ranks * payload_bytes


def rows_of(
    title: str, group: Group, given: Sequence[Answer], alone: Sequence[Answer], payload: int
) -> list[Row]:
    """The rows of one case and group.

    Args:
      title: of the case.
      group: which.
      given: its answers, repeat by repeat.
      alone: those of one rank.
      payload: bytes that a rank adds to a sum.
    """
    what, by_tcp = f"{title}, {group}", group.transport == "TCP"
    rows = [Row(f"{what}: a round", _median(given, "seconds"), "s")]
    if group.ranks == 1:
        return rows
    # Repeat by repeat, so that what slows the machine down slows down both.
    gains = [a["seconds"] / g["seconds"] for a, g in zip(alone, given, strict=True)]
    fair = by_tcp and group.ranks == 2  # 4 ranks have no cores of their own
    bar = at_least(1.7) if fair else None
    rows.append(Row(f"{what}: rounds, against 1 rank", harness.median(gains), "x", bar))
    rows.append(Row(f"{what}: all-reduce", 1e3 * _median(given, "sum_seconds"), "ms"))
    bar = at_most(0.05) if fair else None
    rows.append(Row(f"{what}: all-reduce", _share(given, "sum_seconds"), "of the round", bar))
    rows.append(Row(f"{what}: at the barrier", _share(given, "waiting"), "of the round"))
    rows.append(Row(f"{what}: after the barrier", _share(given, "server"), "of the round"))
    if by_tcp:
        moved = min(answer["sum_bytes"] for answer in given) / group.ranks
        ratio = moved / least_bytes(group.ranks, payload)
        rows.append(Row(f"{what}: moved by the all-reduce, a rank", moved / 1e6, "MB"))
        rows.append(Row(f"{what}: against the least possible", ratio, "x", at_most(1.1)))
    return rows


def _median(given: Sequence[Answer], name: str) -> float:
    return harness.median([answer[name] for answer in given])


def _share(given: Sequence[Answer], name: str) -> float:
    return harness.median([answer[name] / answer["seconds"] for answer in given])


def main() -> None:
    """Measures, and prints the model."""
    arguments = harness.parser(__doc__).parse_args()
    if not Path("/proc/net/dev").exists():
        raise UserError("benchmarks.ranks: needs Linux, for its loopback interface and its cores")
    groups = (ALONE, Group(2)) if arguments.quick else GROUPS
    cases = tuple(CASES)[:1] if arguments.quick else tuple(CASES)
    answers, payloads = measure(groups, cases, arguments.repeats or REPEATS)
    rows = []
    for case in cases:
        title, payload = CASES[case], payloads[case]
        rows.append(Row(f"{title}: added up, a rank", payload / 1e6, "MB"))
        for group in groups:
            rows += rows_of(title, group, answers[case, group], answers[case, ALONE], payload)
    harness.publish("ranks", rows, arguments)
    print(f"\n{hosts_model.report()}")


if __name__ == "__main__":
    harness.start(main)
