"""Makes several runs one after another, each in its own folder; finished ones are not repeated."""

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections

from fednas_jax.algorithms import registry
from fednas_jax.data import datasets, partition_file
from fednas_jax.experiment import resumption, runner, stage_runner
from fednas_jax.experiment import workdir as folders
from fednas_jax.report import run_record
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime import layout, user_code
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import read_json
from fednas_jax.studies import estimates


class Planned(NamedTuple):
    """A run to make."""

    name: str
    """Name of its folder."""
    config: ml_collections.FrozenConfigDict
    """Resolved."""


class Outcome(NamedTuple):
    """The outcome of a run, which may have failed."""

    planned: Planned
    folder: Path
    summary: dict[str, Any] | None
    """The content of summary.json; None if the run failed."""
    error: str
    """Why it failed, in one line; "" if it did not fail."""


def run_all(
    planned: Sequence[Planned], workdir: Path, weights: Mapping[str, float] | None = None
) -> Iterator[Outcome]:
    """Makes the runs in order, and resumes those that were interrupted.

    If a run fails, the others are made nevertheless. It prints how many runs there are, and after
    each that it makes, how long the others will take.

    Args:
      planned: the runs, with different names.
      workdir: folder for the folders of the runs.
      weights: name of a run -> the cost of an example, such as multiply-adds, for the estimates;
        None if no cost is known.

    Raises:
      UserError: before the first run, if a folder holds a run of another config, or there is no
        such data set.
    """
    seen: dict[str, tuple[str, str]] = {}
    done = [_is_finished(run, workdir / run.name) for run in planned]
    for run in planned:
        stage_runner.check_same_run(workdir / run.name, run.config)
    _check_data(planned, done)
    clock = _Clock(planned, done, workdir, weights or {})
    for number, (run, finished) in enumerate(zip(planned, done, strict=True), start=1):
        folder = workdir / run.name
        state = "is already finished" if finished else str(folder)
        print(f"fednas_jax: run {number} of {len(planned)}: {run.name}: {state}", flush=True)
        summary, error = None, ""
        try:
            if finished:
                resumption.tell(resumption.look(folder, run.config))
                findings = registry.room(run.config["algorithm"]).findings(run.config, folder)
                summary = run_record.read_summary(folder, findings)
            else:
                summary = runner.run(run.config, folder)
                summary = _of_all_stages(folder) or summary
            of_rounds = layout.of_rounds(folder)
            _check_same_data(run, of_rounds, seen)
            _check_same_partition(run, of_rounds, seen)
        except UserError as failure:
            summary, error = None, str(failure)
            print(f"fednas_jax: error: {run.name}: {error}", file=sys.stderr)
        if not finished:
            clock.after(number, summary)
        yield Outcome(run, folder, summary, error)


def _is_finished(run: Planned, folder: Path) -> bool:
    """Whether a run of one stage has done all rounds of its config.

    Raises:
      UserError: the folder holds a run of another config, or one of more rounds.
    """
    recorded = folders.recorded_run(folder, run.config)
    return recorded is not None and resumption.is_finished(folder, recorded, run.config)


def _check_data(planned: Sequence[Planned], done: Sequence[bool]) -> None:
    """Refuses runs whose data set does not exist, before hours are spent on those before them."""
    for run, finished in zip(planned, done, strict=True):
        if not finished:
            try:
                datasets.check_name(run.config["dataset"]["name"])
            except UserError as error:
                raise UserError(f"{run.name}: {error}") from error


class _Clock:
    """Prints how many runs there are, and how long those that are left will take."""

    def __init__(
        self,
        planned: Sequence[Planned],
        done: Sequence[bool],
        workdir: Path,
        weights: Mapping[str, float],
    ) -> None:
        """Prints the number of runs.

        Args:
          planned: as for `run_all`.
          done: whether each has been finished before.
          workdir: as for `run_all`.
          weights: as for `run_all`.
        """
        self._whole = [estimates.job(run.config, weights.get(run.name)) for run in planned]
        self._left: dict[int, estimates.Job] = {}
        self._done: list[estimates.Done] = []
        begun = 0
        for number, (run, finished) in enumerate(zip(planned, done, strict=True), start=1):
            folder = workdir / run.name
            if finished:
                with contextlib.suppress(UserError):  # `run_all` reports it
                    self._add(number, run_record.read_summary(folder))
                continue
            made = _rounds_made(folder)
            begun += made > 0
            self._left[number] = estimates.job(run.config, weights.get(run.name), done=made)
        print(f"fednas_jax: {_counted(len(planned), len(self._left), begun)}", flush=True)
        self._tell()

    def after(self, number: int, summary: Mapping[str, Any] | None) -> None:
        """Prints how long the others will take, after a run was made or has failed.

        Args:
          number: of the run, from 1.
          summary: of the run; None if it failed.
        """
        del self._left[number]
        if summary is not None:
            self._add(number, summary)
        self._tell()

    def _add(self, number: int, summary: Mapping[str, Any]) -> None:
        costs = float(summary["seconds"]), float(summary["compile_seconds"])
        self._done.append(estimates.Done(self._whole[number - 1], *costs))

    def _tell(self) -> None:
        if line := estimates.told(self._done, list(self._left.values())):
            print(f"fednas_jax: {line}", flush=True)


def _counted(runs: int, left: int, begun: int) -> str:
    """The number of runs in words, such as "6 runs: 2 finished, 1 begun, 3 to begin"."""
    parts = {"finished": runs - left, "begun": begun, "to begin": left - begun}
    shown = ", ".join(f"{count} {what}" for what, count in parts.items() if count)
    return f"{runs} {'run' if runs == 1 else 'runs'}: {shown}"


def _rounds_made(folder: Path) -> int:
    """Rounds that an interrupted run has made; 0 if it has not begun, or cannot be read."""
    with contextlib.suppress(UserError):
        rows = read_rows(layout.of_rounds(folder) / layout.METRICS_FILE)
        return max((int(row.get("round", 0)) for row in rows), default=0)
    return 0


def _of_all_stages(folder: Path) -> dict[str, Any] | None:
    """The summary of the last stage of rounds, with what all stages cost; None of a run of one."""
    if layout.read_stages(folder) is None:
        return None
    stages = layout.stages(folder)
    summary = run_record.read_summary(layout.of_rounds(folder))
    costs = [read_json(stage.folder / layout.SUMMARY_FILE) for stage in stages]
    summed = {name: sum(one[name] for one in costs) for name in ("seconds", "compile_seconds")}
    return summary | summed | {"peak_memory_bytes": max(one["peak_memory_bytes"] for one in costs)}


def _check_same_data(run: Planned, folder: Path, seen: dict[str, tuple[str, str]]) -> None:
    """Refuses a run whose data have changed since an earlier run, since the two are not comparable.

    Args:
      run: a finished run.
      folder: folder of the run.
      seen: for the earlier runs, settings of the data -> name of the run, and digest of its
        examples.

    Raises:
      UserError: an earlier run with the same settings has other examples.
    """
    found = folders.recorded_examples(folder)
    data = run.config["dataset"]
    # Of an earlier version; or made by a user's function, which may depend on any field.
    if not found or user_code.is_reference(data["name"]):
        return
    key = json.dumps([data[name] for name in ("name", "data_dir", "test_path")])
    first, there = seen.setdefault(key, (run.name, found))
    if there != found:
        raise UserError(
            f"{folder}: its data are not those of {first}, although both are {data['name']!r}: the "
            "data have changed between the two; the original data, or another --workdir for all "
            "runs, is needed"
        )


def _check_same_partition(run: Planned, folder: Path, seen: dict[str, tuple[str, str]]) -> None:
    """Refuses a run whose saved partition has changed since an earlier run.

    Args:
      run: a finished run.
      folder: folder of the run.
      seen: as for `_check_same_data`.

    Raises:
      UserError: clients hold other examples than in an earlier run with the same file.
    """
    options = run.config["partition"]
    if options["name"] != "file" or not (folder / layout.INDICES_FILE).exists():
        return
    partition, _ = partition_file.read(folder / layout.INDICES_FILE)
    digest = hashlib.sha256()
    for indices in partition.clients:
        digest.update(len(indices).to_bytes(8, "little") + indices.astype("<i8").tobytes())
    found = digest.hexdigest()
    first, there = seen.setdefault(f"partition {options['path']}", (run.name, found))
    if there != found:
        raise UserError(
            f"{folder}: its partition is not that of {first}, although both are from "
            f"{options['path']}: the file has changed between the two; the original file, or "
            "another --workdir for all runs, is needed"
        )
