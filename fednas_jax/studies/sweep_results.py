"""The results of a sweep: config, curve and rounds to targets of each run; a table and a plot."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fednas_jax import config as schema
from fednas_jax.report.targets import Curve, curve_of, rounds_to
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime import extras, layout
from fednas_jax.runtime.files import plain, write_atomic, write_json
from fednas_jax.runtime.layout import METRICS_FILE
from fednas_jax.studies.runs import Outcome

TABLE, RESULTS, PICTURE = "table.md", "sweep.json", "curves.png"


def write(outcomes: Iterable[Outcome], targets: Sequence[float], workdir: Path) -> None:
    """Writes sweep.json, table.md and, if Matplotlib is installed, curves.png of the runs so far.

    Args:
      outcomes: outcomes of runs in folders of `workdir`.
      targets: accuracies on the test set.
      workdir: folder for the files.

    Raises:
      UserError: a file cannot be written, or a run's metrics cannot be read.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    results = [result(outcome, targets) for outcome in outcomes]
    write_json(workdir / RESULTS, plain({"targets": targets, "runs": results}))
    write_atomic(workdir / TABLE, table(results, targets).encode())
    if extras.missing("curves"):
        return
    from fednas_jax.report import curves

    drawn = {
        one["name"]: list(zip(one["round"], one["test_accuracy"], strict=True)) for one in results
    }
    curves.accuracy(drawn, targets, workdir / PICTURE, lowest=_lowest(drawn, targets))


def files() -> str:
    """The names of the files that `write` writes, as text."""
    pictures = "" if extras.missing("curves") else f"{PICTURE}, "
    return f"{RESULTS}, {TABLE}, {pictures}and a folder for each run"


def _lowest(drawn: Mapping[str, Curve], targets: Sequence[float]) -> float:
    """The lower end of the plot: with targets near 1, it shows the last tenth.

    The plot always includes the best accuracy of every run, also of one that stays far below.
    """
    if min(targets) <= 0.95:
        return 0.0
    best = [max(accuracy for _, accuracy in curve) for curve in drawn.values() if curve]
    return max(0.0, min([0.9, *(accuracy - 0.05 for accuracy in best)]))


def result(outcome: Outcome, targets: Sequence[float]) -> dict[str, Any]:
    """The config and curve of a run, and its rounds to each target (None: not reached)."""
    metrics = layout.of_rounds(outcome.folder) / METRICS_FILE
    rows = read_rows(metrics) if metrics.exists() else []
    tested = [row for row in rows if row.get("test_accuracy") is not None]
    curve = curve_of(tested)
    return {
        "name": outcome.planned.name,
        "error": outcome.error,
        "config": schema.to_json(outcome.planned.config),
        "round": [row["round"] for row in tested],
        "test_accuracy": [row["test_accuracy"] for row in tested],
        "test_loss": [row["test_loss"] for row in tested],
        "best_test_accuracy": max((accuracy for _, accuracy in curve), default=None),
        "rounds_to_target": [rounds_to(curve, target) for target in targets],
        "seconds": outcome.summary["seconds"] if outcome.summary else None,
    }


def table(results: Iterable[Mapping[str, Any]], targets: Sequence[float]) -> str:
    """The runs as Markdown: rounds, best and last accuracy, rounds to each target.

    Args:
      results: results from `result`.
      targets: the targets passed to `result`.
    """
    heads = ["run", "rounds", "best", "last", *(f"to {t:.4g}" for t in targets), "seconds"]
    lines = [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
    for one in results:
        scores, measured = one["test_accuracy"], ["-", "-", "-"]
        if scores:
            best = one["best_test_accuracy"]
            measured = [str(one["round"][-1]), f"{best:.4f}", f"{scores[-1]:.4f}"]
        cells = [
            one["name"],
            *measured,
            *("-" if at is None else f"{at:.1f}" for at in one["rounds_to_target"]),
            "failed" if one["error"] else f"{one['seconds']:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
