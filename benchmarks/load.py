"""Resident memory, open files and the time of a round with many clients and many rounds.

    python -m benchmarks.load [--quick] [--only LOAD,...] [--json FILE]

Each load is a separate process. Whole runs use `runner.run` with all default files: records, a
checkpoint after every round, TensorBoard, plots and the page; only the progress bar is off. 10,000
clients of MNIST train the 2NN, 100 in each of 200 rounds: once without held-out examples, as in
`configs/mnist_fedavg.py`, and once with one held-out example of each client, so that every round
scores 10,000 clients. The smallest run, the 2NN on 88 digits of six clients, has 3,000 rounds.
Partitions of 2,000,000 examples among 100,000 clients are made and stored as in a run. Early and
late rounds are compared by medians, since plots are drawn now and then beside them.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fednas_jax.runtime import environment

if __name__ == "__main__":
    environment.prepare("benchmarks.load")  # as the command line does

import numpy as np
import psutil

from benchmarks import harness
from benchmarks.harness import Peer, Row
from benchmarks.rounds import load_config
from fednas_jax import config as schema
from fednas_jax.data import partition as partitions
from fednas_jax.experiment import rounds, runner
from fednas_jax.report import run_folder
from fednas_jax.runtime import memory
from fednas_jax.runtime.errors import UserError

SETTLED = 10
"""Number of rounds after which memory should no longer grow."""

POPULATION: dict[str, Any] = {
    "partition.num_clients": 10_000,
    "clients_per_round": 100,
    "rounds": 200,
    "checkpoint_every": 1,
    "report.progress": False,
}
SMALLEST: dict[str, Any] = {
    "dataset.name": "digits",
    "dataset.max_train_examples": 88,
    "dataset.max_test_examples": 30,
    "partition.num_clients": 6,
    "clients_per_round": 4,
    "client.held_out_fraction": 0.1,
    "batch_size": 4,
    "rounds": 3_000,
    "checkpoint_every": 1,
    "report.progress": False,
}
RUNS: dict[str, dict[str, Any]] = {
    "population": POPULATION,
    "held_out": POPULATION | {"client.held_out_fraction": 0.2},
    "rounds": SMALLEST,
}
QUICK_ROUNDS = 60
NAMES = {
    "population": "100 of 10,000 clients",
    "held_out": "100 of 10,000 clients, each scored",
    "rounds": "smallest run",
}

DEALT, EACH, CLASSES = 100_000, 20, 10
"""Clients of the stored partitions, and examples of each on average."""
PARTITIONS: dict[str, dict[str, Any]] = {
    "homo": {},
    "shards": {},
    "hetero": {"concentration": 10.0, "min_size": 1},
    "power_law": {"min_size": 2},
    "natural": {},
}


class Sample(NamedTuple):
    """Time and resources of a run at the end of a round."""

    at: float
    """Seconds of a clock."""
    worked: float
    """Seconds that the process has computed so far, on all cores."""
    resident: int
    """Bytes."""
    files: int
    """Open file descriptors."""


# --- In a process of its own ---


@contextmanager
def sampling() -> Iterator[list[Sample]]:
    """Takes a sample at the end of every round inside the context."""
    process, samples = psutil.Process(), list[Sample]()
    draw = rounds.Records.draw

    def drawn(self: Any, every_seconds: float = 0.0) -> None:
        draw(self, every_seconds)
        if every_seconds:  # otherwise this is the drawing at the end of the run
            now, resident = time.monotonic(), process.memory_info().rss
            samples.append(Sample(now, time.process_time(), resident, process.num_fds()))

    rounds.Records.draw = drawn  # type: ignore[method-assign]
    try:
        yield samples
    finally:
        rounds.Records.draw = draw  # type: ignore[method-assign]


def run(name: str, rounds: int) -> dict[str, Any]:
    """Makes one of `RUNS`; returns its samples and the size of its files."""
    fields = {field: str(value) for field, value in RUNS[name].items()}
    fields |= {"rounds": str(rounds)} if rounds else {}
    config = schema.resolve(load_config("mnist_fedavg", "2nn"), fields)
    with tempfile.TemporaryDirectory() as folder, sampling() as samples:
        workdir = Path(folder) / "run"
        runner.run(config, workdir)
        newest = max((workdir / "checkpoints").glob("0*"))
        sizes = {"metrics": workdir / "metrics.jsonl", "checkpoint": newest / "checkpoint.json"}
        found = {f"{of}_bytes": path.stat().st_size for of, path in sizes.items()}
    return {"samples": samples, **found}


class Dealt(NamedTuple):
    """The examples to partition."""

    labels: np.ndarray
    client: np.ndarray


def deal(name: str) -> dict[str, Any]:
    """Makes one of `PARTITIONS`, and stores it as a run does."""
    rng = np.random.RandomState(0)
    count = DEALT * EACH
    labels = rng.permutation(np.arange(count, dtype=np.int32) % CLASSES)
    examples = Dealt(labels, rng.permutation(np.arange(count, dtype=np.int32) % DEALT))
    before, start = memory.peak_bytes(), time.monotonic()
    made = partitions.make(name, examples, num_clients=DEALT, seed=0, **PARTITIONS[name])
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "partition.npz"
        partitions.save(stored, made)
        run_folder.write_partition(Path(folder), made, examples.labels, tuple("0123456789"))
        seconds = time.monotonic() - start
        sizes = {"bytes": stored.stat().st_size}
        sizes["counts_bytes"] = (Path(folder) / run_folder.PARTITION_FILE).stat().st_size
    assert len(made.clients) == DEALT
    return {"peak": memory.peak_bytes(), "before": before, "seconds": seconds, **sizes}


# --- What comes of it ---


def rows_of_run(name: str, facts: dict[str, Any]) -> list[Row]:
    """Memory, open files and time of one of `RUNS`."""
    what, samples = NAMES[name], [Sample(*sample) for sample in facts["samples"]]
    settled, last = samples[SETTLED - 1], samples[-1]
    growth, rounds = last.resident / settled.resident - 1, len(samples)
    wall, worked = (early_and_late([getattr(s, of) for s in samples]) for of in ("at", "worked"))
    timed = harness.at_most(1.1) if name == "rounds" else None
    resident = f"{what}: resident memory"
    late = f"{what}: late round against early"
    return [
        Row(f"{resident} after round {SETTLED}", settled.resident / 1e6, "MB"),
        Row(f"{resident} after round {rounds}", last.resident / 1e6, "MB"),
        Row(f"{resident}, growth", 100 * growth, "%", harness.at_most(5)),
        Row(f"{what}: open files more", last.files - settled.files, "", harness.at_most(0)),
        Row(f"{what}: an early round", 1e3 * wall[0], "ms"),
        Row(f"{what}: a late round", 1e3 * wall[1], "ms"),
        Row(late, wall[1] / wall[0], "x", timed),
        Row(f"{late}, time of all cores", worked[1] / worked[0], "x", timed),
        Row(f"{what}: metrics.jsonl", facts["metrics_bytes"] / 1e6, "MB"),
        Row(f"{what}: the last checkpoint's facts", facts["checkpoint_bytes"] / 1e6, "MB"),
    ]


def early_and_late(times: list[float]) -> tuple[float, float]:
    """Median times of early rounds, a tenth of all after the first thirtieth, and of the last
    tenth.

    Of 3,000 rounds these are the 101st to the 400th, and the 2,701st to the 3,000th.

    Args:
      times: time at the end of each round.
    """
    each: list[float] = np.diff(times).tolist()
    length = max(1, len(times) // 10)
    begin = len(times) // 30
    return harness.median(each[begin : begin + length]), harness.median(each[-length:])


def rows_of_partition(name: str, facts: dict[str, Any]) -> list[Row]:
    """Memory and size of one of `PARTITIONS`."""
    what, bar = f"{name}, {DEALT:,} clients", harness.at_most(1_000)
    return [
        Row(f"{what}: peak of the process", facts["peak"] / 1e6, "MB", bar),
        Row(f"{what}: of that before it began", facts["before"] / 1e6, "MB"),
        Row(f"{what}: partition.npz", facts["bytes"] / 1e6, "MB"),
        Row(f"{what}: partition.json", facts["counts_bytes"] / 1e6, "MB"),
        Row(f"{what}: made and stored in", facts["seconds"], "s"),
    ]


def main() -> None:
    """Runs the benchmark; with --quick 60 rounds of each run, without bars, and one partition."""
    parser = harness.parser(__doc__)
    loads = [*RUNS, "partition"]
    parser.add_argument("--only", default="", help=f"some of {', '.join(loads)}, commas between")
    parser.add_argument("--run", default="", help="NAME,ROUNDS: of this process")
    parser.add_argument("--deal", default="", help="NAME: the partition of this process")
    arguments = parser.parse_args()
    if arguments.run or arguments.deal:
        name, _, rounds = arguments.run.partition(",")
        facts = run(name, int(rounds)) if name else deal(arguments.deal)
        print(json.dumps({"ready": True, **facts}), flush=True)
        return
    chosen = arguments.only.split(",") if arguments.only else loads
    if unknown := [name for name in chosen if name not in loads]:
        raise UserError(f"--only: {unknown[0]!r}; some of {', '.join(loads)} are needed")
    rounds = QUICK_ROUNDS if arguments.quick else 0
    dealt = list(PARTITIONS)[: 1 if arguments.quick else None]
    rows: list[Row] = []
    for load in chosen:
        rows += _partitions(dealt) if load == "partition" else _whole_run(load, rounds)
    if arguments.quick:
        rows = [row._replace(bar=None) for row in rows]
    harness.publish("load", rows, arguments)


def _whole_run(name: str, rounds: int) -> list[Row]:
    return rows_of_run(name, _facts(f"--run={name},{rounds}"))


def _partitions(names: list[str]) -> list[Row]:
    return [row for name in names for row in rows_of_partition(name, _facts(f"--deal={name}"))]


def _facts(argument: str) -> dict[str, Any]:
    """Measures a load in a separate process."""
    with Peer(sys.executable, "benchmarks.load", [argument]) as peer:
        return peer.facts


if __name__ == "__main__":
    harness.start(main)
