"""Experiment trackers, which receive metrics besides metrics.jsonl: one small protocol.

A tracker receives the row of each round and is closed at the end. There are two, TensorBoard's
event file and Weights & Biases; a new one needs a class here and a field `report.<name>`.
"""

import contextlib
import hashlib
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from fednas_jax.report.writers import Row
from fednas_jax.runtime import extras
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import plain, read_json, reason
from fednas_jax.runtime.layout import RUN_FILE

_ORIGINALS = {
    "train_accuracy": "Train Accuracy",
    "train_loss": "Train Loss",
    "test_accuracy": "Validation Accuracy",
    "test_loss": "Validation Loss",
}
"""Metric -> its name in the authors' W&B project, where "validation" is the test set."""


class Tracker(Protocol):
    """Receives the metrics of each round."""

    def append(self, row: Row) -> None:
        """Adds a round, with `round` as the step; there may be texts beside the numbers."""

    def close(self) -> None:
        """Writes everything that is buffered."""


def check(report: Mapping[str, Any]) -> None:
    """Refuses a tracker whose package is not installed.

    Raises:
      UserError: `report.wandb` asks for Weights & Biases, which is not installed.
    """
    if report["wandb"] != "off" and extras.missing("wandb"):
        raise UserError(
            f"config.report.wandb: {report['wandb']!r}, but wandb is not installed; "
            f"{extras.command('wandb')}, or 'off', is needed"
        )


def trackers(folder: Path, report: Mapping[str, Any], rows: Iterable[Row]) -> list[Tracker]:
    """The trackers that a config asks for.

    Args:
      folder: folder of the run, which contains run.json.
      report: `config.report`.
      rows: the metrics of the rounds so far, when a run resumes.

    Raises:
      UserError: the folder cannot be written, or W&B cannot be reached.
    """
    names, found = report["names"], list[Tracker]()
    if extras.enabled(report, "tensorboard"):
        found.append(TensorBoardWriter(folder / "tensorboard", rows, names))
    if report["wandb"] != "off":
        found.append(WandbWriter(folder, report["wandb"], report["wandb_project"], rows, names))
    return found


def scalars(row: Row, names: str) -> dict[str, float]:
    """The numbers of a row, without `round`.

    Args:
      row: a row of metrics.jsonl.
      names: "ours", or "originals" for the names in the authors' code. The latter adds
        `search_train_valid_acc_gap`, `cnn_count` and `searching_cnn_count(10 n + r)`, which is the
        test accuracy of cells with n and r convolutions. Values do not change: losses are means,
        while the authors' test loss is a sum, from which they also compute the gap.
    """
    found = {
        name: value
        for name, value in plain(row).items()
        if name != "round" and isinstance(value, int | float)
    }
    if names == "ours":
        return found
    derived = {}
    if {"train_accuracy", "test_accuracy"} <= found.keys():
        gap = found["train_accuracy"] - found["test_accuracy"]
        derived["search_train_valid_acc_gap"] = gap
    if "normal_convolutions" in found:
        normal, reduce = found["normal_convolutions"], found["reduce_convolutions"]
        derived["cnn_count"] = normal + reduce
        if "test_accuracy" in found:
            key = f"searching_cnn_count({10 * normal + reduce})"
            derived[key] = found["test_accuracy"]
    return {_ORIGINALS.get(name, name): value for name, value in found.items()} | derived


class TensorBoardWriter:
    """Scalars for TensorBoard, with the round as the step.

    Each start removes the older event files in the folder and writes a new one, which begins with
    the rounds so far, so that a resumed run shows every round once.
    """

    def __init__(self, folder: Path | str, rows: Iterable[Row] = (), names: str = "ours") -> None:
        """Starts the event file.

        Args:
          folder: folder of the file, created if necessary. Event files in it are removed.
          rows: the metrics of the rounds so far, when a run resumes.
          names: as for `scalars`.

        Raises:
          UserError: the folder cannot be written.
        """
        # Imported here because it is slow to import and not every run needs it. Its SummaryWriter
        # is not used: its thread dies when the disk is full or the clock is set back by a month,
        # and the run would wait for it for ever.
        from tensorboardX.event_file_writer import EventsWriter

        self._names, self._path = names, Path(folder)
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            for old in Path(folder).glob("events.out.tfevents.*"):
                old.unlink()
            self._events = EventsWriter(str(self._path / "events"))
        except OSError as error:
            raise UserError(f"{folder}: cannot be written ({error.strerror})") from error
        self._write(rows)

    def append(self, row: Row) -> None:
        """Adds the metrics of a round.

        Raises:
          UserError: the file cannot be written.
        """
        self._write([row])

    def _write(self, rows: Iterable[Row]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        try:
            for row in rows:
                for name, value in scalars(row, self._names).items():
                    event = Event(step=int(row["round"]), summary=scalar(name, value))
                    event.wall_time = time.time()
                    self._events.write_event(event)
            self._events.flush()
        except OSError as error:
            raise UserError(
                f"{self._path}: cannot be written ({reason(error, self._path / 'events')})"
            ) from error

    def close(self) -> None:
        """Closes the file."""
        with contextlib.suppress(OSError):  # all is written, or `append` has raised an error
            self._events.close()


class WandbWriter:
    """A run of Weights & Biases, with the config, and with the round as the step.

    All starts of a run have the same id, so that W&B shows them as one run; offline starts after
    they are synced (`wandb sync WORKDIR/wandb/offline-run-*`). Rounds that an earlier start has
    sent are not sent again.
    """

    def __init__(
        self,
        folder: Path,
        mode: str,
        project: str,
        rows: Iterable[Row] = (),
        names: str = "ours",
    ) -> None:
        """Starts or resumes the run in W&B.

        Args:
          folder: folder of the run, which contains run.json; W&B's files go to `wandb/` in it.
          mode: "online" or "offline".
          project: name of the project in W&B.
          rows: the metrics of the rounds so far, when a run resumes.
          names: as for `scalars`.

        Raises:
          UserError: W&B refuses the run, for example without a login.
        """
        import wandb  # optional, and slow to import

        record = read_json(folder / RUN_FILE)
        first = f"{record['starts'][0]['time']} {record.get('data_sha256')} {folder.name}"
        self._names, self._sent = names, max((row["round"] for row in rows), default=-1)
        try:
            self._run = wandb.init(
                project=project,
                name=folder.name,
                id=hashlib.sha256(first.encode()).hexdigest()[:16],
                dir=str(folder),
                config=record["config"],
                mode="offline" if mode == "offline" else "online",
                resume="allow",
                settings=wandb.Settings(console="off", silent=True),
            )
        except wandb.Error as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"config.report.wandb: {reason}; a login, 'offline' or 'off' is needed"
            ) from error

    def append(self, row: Row) -> None:
        """Adds the metrics of a round."""
        if row["round"] > self._sent:
            texts = {name: value for name, value in row.items() if isinstance(value, str)}
            self._run.log({**scalars(row, self._names), **texts}, step=int(row["round"]))

    def close(self) -> None:
        """Sends or writes everything that is buffered."""
        self._run.finish()
