"""Folders as runs leave them, made by hand: no training is needed to look at a page."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from fednas_jax import config as schema
from fednas_jax.algorithms.fednas import findings
from fednas_jax.data.partition_file import Partition
from fednas_jax.federated.evaluation import Score
from fednas_jax.report import rows, run_folder
from fednas_jax.report.writers import MetricsFile
from fednas_jax.spaces.darts import genotype

CLASS_NAMES = ("cat", "<b>dog</b>", "fish")


def search_run(folder: Path, rounds: int = 5, clients: int = 4) -> Path:
    """A finished search; accuracies rise with the rounds, and from client to client."""
    rng = np.random.RandomState(0)
    alphas = [
        {"round": number, **{kind: (rng.randn(14, 8) * 0.1).tolist() for kind in genotype.KINDS}}
        for number in range(rounds + 1)
    ]
    made = [
        _row(number, rounds, clients) | findings.columns(entry)
        for number, entry in enumerate(alphas)
        if number
    ]
    _write(folder, "fednas", made, clients)
    MetricsFile(folder / "alphas.jsonl").rewrite(alphas)
    _finish(folder, made, genotype.derive(alphas[-1]))
    return folder


def average_run(folder: Path, rounds: int = 3, clients: int = 130, trains: str = "") -> Path:
    """A FedAvg run that is still going on, of many clients, of whom nobody came to round 1.

    Args:
      folder: to be made.
      rounds: of the config; all but the last are done.
      clients: how many.
      trains: the genotype whose network it trains, by name or file, if it does.
    """
    first = rows.before_training(Score(2.3, 0.1)) | {"seconds": 0.5}
    made = [_row(number, rounds, clients) for number in range(1, rounds)]
    for row in made:
        row |= {"clients": 10 * (row["round"] - 1), "unreachable": 3, "stragglers": 2}
    if made:
        made[0] |= {"train_loss": None, "train_accuracy": None}
    _write(folder, "fedavg", [first, *made] if made else [], clients, trains)
    return folder


def _row(number: int, rounds: int, clients: int) -> dict[str, Any]:
    accuracy = 0.2 + 0.6 * number / rounds
    each: list[float | None] = [accuracy + 0.1 * k / clients for k in range(clients)]
    each[-1] = None
    return {
        "round": number,
        "train_loss": 2.0 / number,
        "train_accuracy": accuracy,
        "held_out_loss": 2.1 / number,
        "held_out_accuracy": accuracy + 0.05,
        "held_out_accuracy_of_clients": each,
        "test_loss": 2.2 / number,
        "test_accuracy": accuracy if number % 2 else None,
        "seconds": 1.5,
        "client_steps_per_second": 30.0,
        "bytes_up_per_client": 1000,
        "bytes_down_per_client": 2000,
    }


def _write(
    folder: Path, algorithm: str, made: list[dict[str, Any]], clients: int, trains: str = ""
) -> None:
    folder.mkdir(parents=True)
    config = schema.default()
    config.algorithm, config.rounds = algorithm, max(len(made), 3)
    if trains:
        config.network.name, config.genotype = "genotype", trains
    start = {"time": "2026-01-02T03:04:05+00:00", "versions": {"jax": "0.0"}, "device": "cpu: cpu"}
    start["command"] = "python -m fednas_jax.main --config=x.py"
    record = {"config": schema.to_json(config), "clients_per_chunk": 1, "starts": [start]}
    (folder / "run.json").write_text(json.dumps(record))
    MetricsFile(folder / "metrics.jsonl").rewrite(made)
    labels = np.arange(12 * clients) % len(CLASS_NAMES)
    parts = tuple(np.array_split(np.random.RandomState(0).permutation(len(labels)), clients))
    run_folder.write_partition(folder, Partition(parts), labels, CLASS_NAMES)


def _finish(folder: Path, made: list[dict[str, Any]], best: genotype.Genotype) -> None:
    found = genotype.to_json(best)
    costs = {"seconds": 90.0, "compile_seconds": 10.0, "peak_memory_bytes": 1.5e9}
    (folder / "summary.json").write_text(json.dumps(rows.summary(made, found) | costs))
