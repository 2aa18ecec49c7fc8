"""Runs a comparison of networks, and writes its table: accuracy, size, traffic and time."""

import contextlib
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fednas_jax import config as schema
from fednas_jax.algorithms import parts, registry, stage_types
from fednas_jax.data import vision
from fednas_jax.data.datasets import Dataset
from fednas_jax.experiment import assembly, next_steps
from fednas_jax.networks import registry as networks
from fednas_jax.report import run_folder
from fednas_jax.report.traffic import sent_so_far
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime import layout, settings
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import plain, write_atomic, write_json
from fednas_jax.runtime.layout import METRICS_FILE
from fednas_jax.studies import comparison
from fednas_jax.studies.comparison import SEARCHED, Plan
from fednas_jax.studies.runs import Outcome, Planned, run_all

RESULTS, TABLE, CONFIGS = "comparison.json", "comparison.md", "configs"
_MEANS = (
    *("parameters", "multiply_adds", "bytes_per_client_and_round", "bytes_sent"),
    *("seconds", "search_seconds"),
)
_COLUMNS = (
    *("network", "test accuracy", "std", "seeds", "parameters", "multiply-adds"),
    *("bytes a client and round, up and down", "bytes sent by all clients"),
    *("seconds", "search seconds", "config"),
)


@settings.fixed()
def make(plan: Plan, workdir: Path) -> list[str]:
    """Makes all runs, and writes the table after each training.

    Args:
      plan: the runs, all on the same data.
      workdir: folder for all files.

    Returns:
      The folder names of the runs that failed.

    Raises:
      UserError: a folder holds another run, or a file cannot be written.
    """
    for config in plan.searches.values():
        name = config["algorithm"]
        stage_types.check_one(registry.room(name).stages(config), name, "--search")
    comparison.save_random(plan.random)
    owners = {folder: name for name, configs in plan.rows.items() for folder in configs}
    configs = {**plan.searches, **{f: c for row in plan.rows.values() for f, c in row.items()}}
    dataset = assembly.load_dataset(configs[next(iter(owners))])
    seconds: dict[int, float] = {}  # seed -> seconds of the search
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in plan.rows}
    failed: list[str] = []
    planned = [Planned(*item) for item in configs.items()]
    trained: dict[Path, str] = {}  # folder of a finished training -> its row
    for outcome in run_all(planned, workdir, _multiply_adds(plan, dataset)):
        folder = outcome.planned.name
        failed += [folder] if outcome.error else []
        if folder in owners:
            run, name = measured(outcome, dataset), owners[folder]
            run["search_seconds"] = seconds.get(run["seed"]) if name == SEARCHED else None
            results[name].append(run)
            if not outcome.error:
                trained[layout.of_rounds(outcome.folder)] = name
            _write(plan, results, workdir)
        elif outcome.summary is not None:
            seconds[outcome.planned.config["seed"]] = outcome.summary["seconds"]
    told = (workdir / TABLE).read_text(encoding="utf-8")
    print(f"\n{told}\nFiles in {workdir}: {RESULTS}, {TABLE}, {CONFIGS}/")
    firsts = [next((f for f, of in trained.items() if of == name), None) for name in plan.rows]
    known = [folder for folder in firsts if folder is not None]
    next_steps.tell(next_steps.of_study([*trained], workdir, table=TABLE, firsts=known))
    return failed


def _multiply_adds(plan: Plan, dataset: Dataset) -> dict[str, float]:
    """Folder of each training -> multiply-adds of its network, where the network is known by now.

    All seeds of a row have those of the first, except for what a search has yet to find.
    """
    found: dict[str, float] = {}
    for configs in plan.rows.values():
        first = next(iter(configs.values()))
        with contextlib.suppress(UserError):  # of a search's genotype, which has no file yet
            task = parts.image_task(first, dataset)
            network = networks.from_config(first, task, dataset.num_classes)
            cost = networks.multiply_adds(network, vision.image_shape(task, "compare"))
            found |= dict.fromkeys(configs, float(cost))
    return found


def measured(run: Outcome, dataset: Dataset) -> dict[str, Any]:
    """The results of one run; for a run that failed, the reason."""
    config, summary = run.planned.config, run.summary
    about = {"seed": config["seed"], "folder": run.folder.name, "error": run.error}
    if summary is None:
        return about
    task = parts.image_task(config, dataset)
    shape = vision.image_shape(task, "compare")
    network = networks.from_config(config, task, dataset.num_classes)
    folder = layout.of_rounds(run.folder)
    rows = read_rows(folder / METRICS_FILE)
    last, partition = rows[-1], run_folder.read_partition(folder)
    copied = ("test_accuracy", "held_out_accuracy", "best_round", "seconds", "compile_seconds")
    return {
        **about,
        **{name: summary[name] for name in copied},
        "tied_rounds": summary.get("tied_rounds"),  # earlier versions did not record it
        "parameters": networks.parameter_count(network, shape),
        "auxiliary_parameters": networks.auxiliary_count(network, shape),
        "multiply_adds": networks.multiply_adds(network, shape),
        "bytes_per_client_and_round": last["bytes_up_per_client"] + last["bytes_down_per_client"],
        "bytes_sent": sent_so_far(rows, config, len(partition.counts))[-1] if partition else None,
    }


def summarized(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The means over the seeds of a network, and the standard deviation of its accuracy.

    Args:
      runs: results from `measured`; runs that failed do not count.

    Returns:
      Name -> value; None where too few runs have finished.
    """
    good = [run for run in runs if not run["error"]]
    accuracies = [run["test_accuracy"] for run in good]
    return {
        "accuracy_mean": statistics.fmean(accuracies) if good else None,
        "accuracy_std": statistics.stdev(accuracies) if len(good) > 1 else None,
        **{name: _mean([run.get(name) for run in good]) for name in _MEANS},
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def _write(plan: Plan, results: Mapping[str, Sequence[Mapping[str, Any]]], workdir: Path) -> None:
    """Writes comparison.json, comparison.md, and the config of each row, that of its first seed."""
    (workdir / CONFIGS).mkdir(parents=True, exist_ok=True)
    rows = []
    for name, runs in results.items():
        if runs:
            config = schema.to_json(next(iter(plan.rows[name].values())))
            path = f"{CONFIGS}/{comparison.file_name(name)}.json"
            write_json(workdir / path, config)
            row = {"network": name, "config_file": path, **summarized(runs)}
            rows.append({**row, "runs": runs, "config": config})
    write_json(workdir / RESULTS, plain({"rows": rows}))
    write_atomic(workdir / TABLE, table(rows).encode())


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The comparison as Markdown.

    Args:
      rows: rows of comparison.json.
    """
    lines = [f"| {' | '.join(_COLUMNS)} |", f"| --- |{' ---: |' * (len(_COLUMNS) - 2)} --- |"]
    for row in rows:
        failed = sum(bool(run["error"]) for run in row["runs"])
        good = str(len(row["runs"]) - failed)
        cells = [
            row["network"],
            *(_shown(row[name], ".4f") for name in ("accuracy_mean", "accuracy_std")),
            f"{good} ({failed} failed)" if failed else good,
            *(_shown(row[name], ",.0f") + _head(row, name) for name in _MEANS),
            f"[{Path(row['config_file']).name}]({row['config_file']})",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _head(row: Mapping[str, Any], name: str) -> str:
    """What a count of parameters includes, where the network is trained with an auxiliary head."""
    counts = [run.get("auxiliary_parameters", 0) for run in row["runs"] if not run["error"]]
    largest = max(counts, default=0)
    return f" (with {largest:,} of the auxiliary head)" if largest and name == "parameters" else ""


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
