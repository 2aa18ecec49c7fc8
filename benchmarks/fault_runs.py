"""A small run in a separate process, which faults disturb, and the result that it must have."""

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fednas_jax import config as schema
from fednas_jax.checkpoints.checkpoint import Checkpoints
from fednas_jax.experiment import assembly
from fednas_jax.report import ledger
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime.files import read_json

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
"""The 2NN on digits, ten rounds of about half a second, with random draws and optimiser state that
a resumed run must continue."""

LIMIT_SECONDS = 300
"""Time limit of a run, which takes about ten seconds."""

TIMES = ("seconds", "client_steps_per_second", "compile_seconds", "peak_memory_bytes")


class Result(NamedTuple):
    """The results of a run, except for times."""

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
    """A run in progress."""

    def __init__(self, workdir: Path, fields: Mapping[str, str] | None = None) -> None:
        """Starts the run; its output is kept."""
        self.process = subprocess.Popen(
            command(workdir, fields),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""
        # A run that hangs is killed, and has not survived.
        self._limit = threading.Timer(LIMIT_SECONDS, self.process.kill)
        self._limit.daemon = True
        self._limit.start()

    def wait_for(self, start: str) -> bool:
        """Reads output up to a line with the given start; false if the process ends before it."""
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
    """Runs until the end, or until the run is stopped."""
    process = Process(workdir, fields)
    process.end()
    return process


def result(workdir: Path) -> Result:
    """The results of the run in a workdir."""
    rows = [untimed(row) for row in read_rows(workdir / "metrics.jsonl")]
    return Result(state(workdir), rows, untimed(read_json(workdir / "summary.json")))


def untimed(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without the values that differ from run to run."""
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
    """Whether metrics.jsonl begins with the rows of the newest checkpoint."""
    rounds = Checkpoints(workdir / "checkpoints", reading=True).rounds()
    if not rounds:
        return True
    facts = json.loads((workdir / "checkpoints" / f"{rounds[-1]:06d}/checkpoint.json").read_text())
    held = ledger.with_rows(facts["extra"], workdir / "metrics.jsonl")
    return held is not None and held["rows"][-1]["round"] == rounds[-1]
