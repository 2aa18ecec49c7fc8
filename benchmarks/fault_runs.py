"""A small run as a process of its own, to be disturbed, and what it must come to all the same."""

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fednas_jax import assembly
from fednas_jax import config as schema
from fednas_jax.checkpoint import Checkpoints
from fednas_jax.files import read_json
from fednas_jax.report import ledger
from fednas_jax.report.writers import read_rows

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 10
FIELDS = {
    "dataset.name": "digits",
    "partition.num_clients": "20",
    "rounds": str(ROUNDS),
    "local_epochs": "60",
    "checkpoint_every": "1",
    "server.optimizer": "momentum",
    "unreachable_share": "0.2",
    "client.held_out_fraction": "0.1",
    "report.plots": "false",
    "report.page": "false",
}
"""The 2NN on digits, ten rounds of about half a second, with a state and draws that must go on."""

LIMIT_SECONDS = 300
"""For a run, which takes some ten."""

TIMES = ("seconds", "client_steps_per_second", "compile_seconds", "peak_memory_bytes")


class Result(NamedTuple):
    """What a run has come to, but for times."""

    state: dict[str, bytes]
    rows: list[dict[str, Any]]
    summary: dict[str, Any]


def command(workdir: Path, fields: Mapping[str, str] | None = None) -> list[str]:
    """The command line of the run in a workdir."""
    given = {**FIELDS, **(fields or {})}
    return [
        *(sys.executable, "-m", "fednas_jax.main", f"--workdir={workdir}"),
        f"--config={ROOT / 'configs' / 'mnist_fedavg.py'}:2nn",
        *(f"--config.{name}={value}" for name, value in given.items()),
    ]


class Process:
    """A run that is going on."""

    def __init__(self, workdir: Path, fields: Mapping[str, str] | None = None) -> None:
        """Starts it; what it says is kept."""
        self.process = subprocess.Popen(
            command(workdir, fields),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""
        # One that hangs is ended, and has not survived.
        self._limit = threading.Timer(LIMIT_SECONDS, self.process.kill)
        self._limit.daemon = True
        self._limit.start()

    def wait_for(self, start: str) -> bool:
        """Reads on to a line that starts so; false where the process ends before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if line.startswith(start):
                return True
        return False

    def end(self) -> int:
        """Waits for its end; returns the exit code."""
        assert self.process.stdout is not None
        with self.process:
            self.said += self.process.stdout.read()
        self._limit.cancel()
        return self.process.returncode


def finish(workdir: Path, fields: Mapping[str, str] | None = None) -> Process:
    """Runs to the end, or to what stops it."""
    process = Process(workdir, fields)
    process.end()
    return process


def result(workdir: Path) -> Result:
    """What the run in a workdir has come to."""
    rows = [untimed(row) for row in read_rows(workdir / "metrics.jsonl")]
    return Result(state(workdir), rows, untimed(read_json(workdir / "summary.json")))


def untimed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Without what differs from run to run."""
    return {name: value for name, value in row.items() if name not in TIMES}


def state(workdir: Path) -> dict[str, bytes]:
    """The arrays of the newest whole checkpoint."""
    config = schema.resolve(read_json(workdir / "run.json")["config"])
    algorithm = assembly.build_algorithm(config, assembly.load_dataset(config))
    shapes = jax.eval_shape(algorithm.init, jax.random.key(0))
    restored = Checkpoints(workdir / "checkpoints", reading=True).restore_latest(shapes)
    assert restored is not None
    return {
        jax.tree_util.keystr(path): np.asarray(leaf).tobytes()
        for path, leaf in jax.tree_util.tree_leaves_with_path(restored.state)
    }


def agree(workdir: Path) -> bool:
    """Whether metrics.jsonl begins with the rows that the newest checkpoint is of."""
    rounds = Checkpoints(workdir / "checkpoints", reading=True).rounds()
    if not rounds:
        return True
    facts = json.loads((workdir / "checkpoints" / f"{rounds[-1]:06d}/checkpoint.json").read_text())
    held = ledger.with_rows(facts["extra"], workdir / "metrics.jsonl")
    return held is not None and held["rows"][-1]["round"] == rounds[-1]
