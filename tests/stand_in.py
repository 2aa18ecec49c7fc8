"""A stand-in for `experiment.run`, for tests of what makes many runs."""

from pathlib import Path
from typing import Any

import pytest

from fednas_jax import config as schema
from fednas_jax.experiment import resumption, runner, workdir
from fednas_jax.report.writers import MetricsFile
from fednas_jax.runtime import layout
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import write_json
from fednas_jax.spaces.darts import genotype as genotypes

FAILING_SEED = 13
FOUND = "DARTS_V2"
BYTES = {"bytes_up_per_client": 100, "bytes_down_per_client": 110}


def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Puts it in place: accuracy is a tenth of the round plus a hundredth of the seed.

    Runs with `FAILING_SEED` fail; those that search find `FOUND`.

    Returns:
      The folders of the runs that were asked for, in order.
    """
    folders: list[Path] = []

    def run(config: Any, folder: Path) -> dict[str, Any]:
        folders.append(folder)
        if config["seed"] == FAILING_SEED:
            raise UserError("round 1: not finite")
        folder.mkdir(parents=True)
        facts = {
            "config": schema.to_json(config),
            "clients_per_chunk": 1,
            **resumption.inputs(config),
        }
        workdir.write_run(folder, None, facts)
        if config["algorithm"] == "fednas":
            (folder / genotypes.FOLDER).mkdir()
            genotypes.save(folder / genotypes.FOLDER / genotypes.BEST_FILE, genotypes.load(FOUND))
        one_each = {
            "class_names": ["a"],
            "class_counts": [[1]] * config["partition"]["num_clients"],
        }
        write_json(folder / "partition.json", one_each)
        metrics = MetricsFile(folder / layout.METRICS_FILE)
        accuracy = 0.0
        for number in range(1, config["rounds"] + 1):
            accuracy = number / 10 + config["seed"] / 100
            scores = {"test_accuracy": accuracy, "test_loss": 1.0}
            metrics.append({"round": number, **scores, **BYTES})
        summary = {
            **dict.fromkeys(("rounds", "best_round", "test_accuracy_round"), config["rounds"]),
            "seconds": 2.0,
            "compile_seconds": 1.0,
            "peak_memory_bytes": 3,
            "held_out_accuracy": None,
            "test_accuracy": accuracy,
            "genotype": None,
        }
        write_json(folder / layout.SUMMARY_FILE, summary)
        return summary

    monkeypatch.setattr(runner, "run", run)
    return folders
