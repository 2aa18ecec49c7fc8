"""Reads the files of a run's folder for its page, also of a run in progress or of an old run."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fednas_jax.algorithms import registry
from fednas_jax.data.partition_file import Partition, class_counts
from fednas_jax.report import rows
from fednas_jax.report.rows import Row
from fednas_jax.report.run_record import read_summary, rules_of
from fednas_jax.report.run_types import ClassCounts, RunFolder
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import read_json, write_atomic
from fednas_jax.runtime.layout import METRICS_FILE, RUN_FILE, SUMMARY_FILE

if TYPE_CHECKING:
    from fednas_jax.algorithms.room import Room

PARTITION_FILE = "partition.json"
_RIGHT = "the workdir of a run is needed"


def read(folder: Path) -> RunFolder:
    """Reads a run's folder.

    Raises:
      UserError: the folder is not that of a run, a file in it is damaged, or no round is finished.
    """
    run = _read_run(folder / RUN_FILE)
    measured = _read_metrics(folder / METRICS_FILE)
    if not measured:
        raise UserError(f"{folder}: no round is finished yet; wait for the first")
    by = rules_of(run)["best_round_by"]
    ended = _read_summary(folder, run["config"])
    summary = ended or rows.summary(measured, None, by)
    if not any(row["round"] == summary["best_round"] for row in measured):
        raise UserError(f"{folder / SUMMARY_FILE}: best_round is not in {METRICS_FILE}; {_RIGHT}")
    return RunFolder(
        folder=folder,
        record=run,
        config=run["config"],
        starts=run.get("starts") or [{}],
        rows=measured,
        summary=summary,
        finished=ended is not None,
        partition=read_partition(folder),
    )


def room_of(config: dict[str, Any]) -> "Room | None":
    """The room of a run's algorithm; None for a user's own algorithm that no longer exists.

    Args:
      config: the run's config in run.json.
    """
    try:
        return registry.room(config["algorithm"])
    except UserError:
        return None


def _read_summary(folder: Path, config: dict[str, Any]) -> dict[str, Any] | None:
    """The summary; None for a run that is not finished."""
    if not (folder / SUMMARY_FILE).exists():
        return None
    room = room_of(config)
    return read_summary(folder, None if room is None else room.findings(config, folder))


def _read_run(path: Path) -> dict[str, Any]:
    run = read_json(path, _RIGHT)
    config = run.get("config") if isinstance(run, dict) else None
    if not isinstance(config, dict):
        raise UserError(f"{path}: not the record of a run; {_RIGHT}")
    dataset = config.get("dataset")
    if not (
        isinstance(config.get("rounds"), int)
        and isinstance(config.get("algorithm"), str)
        and isinstance(dataset, dict)
        and isinstance(dataset.get("name"), str)
    ):
        raise UserError(f"{path}: config lacks rounds, algorithm or dataset.name; {_RIGHT}")
    starts = run.get("starts", [])
    if not (isinstance(starts, list) and all(isinstance(start, dict) for start in starts)):
        raise UserError(f"{path}: starts is not a list of objects; {_RIGHT}")
    return run


def _read_metrics(path: Path) -> list[Row]:
    measured = read_rows(path)
    for index, row in enumerate(measured, start=1):
        if not isinstance(row.get("round"), int):
            raise UserError(f"{path}: line {index} has no round; {_RIGHT}")
        for name in ("held_out_accuracy", "test_accuracy"):
            if name not in row or not isinstance(row[name], int | float | None):
                raise UserError(f"{path}: line {index} has no {name}; {_RIGHT}")
    return measured


def write_partition(
    folder: Path,
    partition: Partition,
    labels: Any,
    class_names: tuple[str, ...],
    client_ids: list[int] | None = None,
    client_names: list[str] | None = None,
) -> None:
    """Writes how many examples of each class every client holds.

    Args:
      folder: the run's folder.
      partition: the indices of each client's examples.
      labels: [N], the class of each example.
      class_names: the name of each class.
      client_ids: the number of each client in the data; None if the data has none.
      client_names: the name of each client in the data; None if the data has none.
    """
    counts = class_counts(partition, labels, len(class_names))
    record: dict[str, Any] = {"class_names": list(class_names), "class_counts": counts.tolist()}
    if client_ids is not None:
        record["client_ids"] = client_ids
    if client_names is not None:
        record["client_names"] = client_names
    write_atomic(folder / PARTITION_FILE, _compact(record))


def _compact(record: dict[str, Any]) -> bytes:
    """JSON with one line for each client; `indent` would make one line for each number."""
    lines = ",\n".join(json.dumps(row) for row in record["class_counts"])
    others = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in record.items() if k != "class_counts"]
    first = ",\n".join(others)
    return f'{{{first},\n"class_counts": [\n{lines}\n]}}\n'.encode()


def read_partition(folder: Path) -> ClassCounts | None:
    """The class counts of each client in a run; None for a run of an earlier version.

    Raises:
      UserError: the file is damaged.
    """
    path = folder / PARTITION_FILE
    if not path.exists():
        return None
    value = read_json(path, _RIGHT)
    names, counts = (
        value.get(name) if isinstance(value, dict) else None
        for name in ("class_names", "class_counts")
    )
    if not (
        isinstance(names, list)
        and isinstance(counts, list)
        and counts
        and all(isinstance(row, list) and len(row) == len(names) for row in counts)
        and all(isinstance(count, int) for row in counts for count in row)
    ):
        raise UserError(f"{path}: class_counts has no line for each client; {_RIGHT}")
    ids = _of_each_client(value, "client_ids", int, len(counts), path)
    called = _of_each_client(value, "client_names", str, len(counts), path)
    return ClassCounts(names, counts, ids, called)


def _of_each_client(
    record: dict[str, Any], name: str, kind: type, clients: int, path: Path
) -> list[Any] | None:
    """A list with one value for each client; None where the record lacks it.

    Raises:
      UserError: the list is damaged.
    """
    found = record.get(name)
    if found is None:
        return None
    if not (
        isinstance(found, list)
        and len(found) == clients
        and all(isinstance(one, kind) for one in found)
    ):
        what = "number" if kind is int else "name"
        raise UserError(f"{path}: {name} has no {what} for each client; {_RIGHT}")
    return found
