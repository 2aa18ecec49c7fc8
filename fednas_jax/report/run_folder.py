"""The files of a run's folder, read back for its page: also while it runs, or from another year."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from fednas_jax.data.partition_file import Partition, class_counts
from fednas_jax.errors import UserError
from fednas_jax.files import read_json, write_atomic
from fednas_jax.report import pictures, rows
from fednas_jax.report.rows import Row
from fednas_jax.report.writers import read_rows
from fednas_jax.search import genotype as genotypes
from fednas_jax.search.genotype import Genotype
from fednas_jax.workdir import METRICS_FILE, RUN_FILE, SUMMARY_FILE

PARTITION_FILE = "partition.json"
_RIGHT = "the workdir of a run is needed"


class ClassCounts(NamedTuple):
    """Who holds what: `counts[k][c]` examples of class c, which is called `names[c]`."""

    names: list[str]
    counts: list[list[int]]


class RunFolder(NamedTuple):
    """What a run has written down so far."""

    folder: Path
    config: dict[str, Any]
    starts: list[dict[str, Any]]
    """Time, versions and device of each start; the latest is the last."""
    rows: list[Row]
    """Metrics, one row a round; at least one."""
    alphas: list[dict[str, Any]]
    """"round", "normal" and "reduce" [14, 8] of each round; empty where none are searched."""
    best: Genotype | None
    summary: dict[str, Any]
    """As in summary.json; what is known so far where the run has not ended."""
    finished: bool
    partition: ClassCounts | None
    """None of a run of a version that did not write it."""

    @property
    def name(self) -> str:
        """The folder's own name; of a stage of a run, the run's besides."""
        folder = self.folder.resolve()
        staged = folder.name in ("search", "train")
        return f"{folder.parent.name}/{folder.name}" if staged else folder.name

    @property
    def best_row(self) -> Row:
        """The metrics of the best round."""
        return next(row for row in self.rows if row["round"] == self.summary["best_round"])


def read(folder: Path) -> RunFolder:
    """Reads a run's folder.

    Raises:
      UserError: it is no run's, or a file in it is damaged, or no round is done yet.
    """
    run = read_json(folder / RUN_FILE, _RIGHT)
    if not isinstance(run, dict) or not isinstance(run.get("config"), dict):
        raise UserError(f"{folder / RUN_FILE}: not the record of a run; {_RIGHT}")
    measured = read_rows(folder / METRICS_FILE)
    if not measured:
        raise UserError(f"{folder}: no round is done yet; wait for the first")
    alphas = pictures.read_alphas(folder / "alphas.jsonl", measured[-1]["round"])
    best = _best_genotype(measured, alphas)
    finished = (folder / SUMMARY_FILE).exists()
    summary = read_json(folder / SUMMARY_FILE) if finished else rows.summary(measured, best)
    return RunFolder(
        folder=folder,
        config=run["config"],
        starts=run.get("starts") or [{}],
        rows=measured,
        alphas=alphas,
        best=best,
        summary=summary,
        finished=finished,
        partition=_read_partition(folder / PARTITION_FILE),
    )


def write_partition(
    folder: Path, partition: Partition, labels: Any, class_names: tuple[str, ...]
) -> None:
    """Writes down how many examples of which class each client holds.

    Args:
      folder: of the run.
      partition: who holds which example.
      labels: [N], the class of each example.
      class_names: one a class.
    """
    counts = class_counts(partition, labels, len(class_names))
    record = {"class_names": list(class_names), "class_counts": counts.tolist()}
    write_atomic(folder / PARTITION_FILE, _compact(record))


def _compact(record: dict[str, Any]) -> bytes:
    """JSON with a line a client: indented whole it would be a line a number."""
    lines = ",\n".join(json.dumps(row) for row in record["class_counts"])
    names = json.dumps(record["class_names"])
    return f'{{"class_names": {names},\n"class_counts": [\n{lines}\n]}}\n'.encode()


def _read_partition(path: Path) -> ClassCounts | None:
    if not path.exists():
        return None
    value = read_json(path)
    return ClassCounts(value["class_names"], value["class_counts"])


def _best_genotype(measured: list[Row], alphas: list[dict[str, Any]]) -> Genotype | None:
    best = rows.best_round(measured)
    return next((genotypes.derive(row) for row in alphas if row.get("round") == best), None)
