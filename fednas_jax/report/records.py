"""The files of a workdir that grow round by round: metrics, findings, pictures."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fednas_jax.report import ledger, pictures, rows
from fednas_jax.report.findings import IN_CHECKPOINT, Findings
from fednas_jax.report.tracking import trackers
from fednas_jax.report.writers import MetricsFile
from fednas_jax.runtime import extras
from fednas_jax.runtime.layout import CHECKPOINTS_FOLDER, METRICS_FILE, PLOTS_FOLDER

_DRAWING_SHARE = 0.005
"""The largest share of a run's time that is spent on pictures, without those after the last round.
So all work of a round besides steps and evaluation takes below 3 % of a round of the paper's size
(`round_share` in `benchmarks/`)."""


class Records:
    """All records of a run. The files always contain exactly the rounds in `rows`.

    `rows` leaves out lists: with a value for each client, these would fill the memory.
    """

    def __init__(
        self,
        folder: Path,
        report: Mapping[str, Any],
        rows_so_far: list[rows.Row],
        findings: Findings,
        state: Any,
        selected_by: Sequence[str] = rows.SELECTED_BY,
    ) -> None:
        """Removes rounds after the checkpoint from the files.

        Args:
          folder: the workdir, with its folders made.
          report: `config.report`.
          rows_so_far: metrics of the finished rounds.
          findings: the run's findings, restored from the checkpoint.
          state: the server state after the last finished round, or the first state.
          selected_by: what selects the best round, as for `rows.best_round`.
        """
        self.rows = [rows.without_lists(row) for row in rows_so_far]
        self.findings, self.selected_by = findings, selected_by
        self._folder, self._draws = folder, extras.enabled(report, "plots")
        # Draws after the first round, so that there is something to look at early, and so that
        # memory does not grow later.
        self._drawn, self._drawing_seconds = -math.inf, 0.0
        done = rows.rounds_done(self.rows)
        self._metrics = MetricsFile(folder / METRICS_FILE)
        lines = self._metrics.rewrite(rows_so_far)
        self._ledger = ledger.Ledger(folder / CHECKPOINTS_FOLDER / ledger.FILE, lines)
        findings.begin(state, done)
        self._trackers = trackers(folder, report, self.rows)

    def append(self, row: rows.Row, state: Any) -> None:
        """Records a round: its metrics and findings.

        Args:
          row: the round's metrics.
          state: the server state after the round; None for round 0, which has no findings.
        """
        self.rows.append(rows.without_lists(row))
        self._ledger.append(self._metrics.append(row))
        tracked = row
        if state is not None:
            number = row["round"]
            is_best = self.is_best(number)
            tracked = row | self.findings.append(number, state, is_best=is_best)
        for tracker in self._trackers:
            tracker.append(tracked)

    def is_best(self, number: int) -> bool:
        """Whether a round is the best so far."""
        return rows.best_round(self.rows, self.selected_by) == number

    def mark(self) -> dict[str, Any]:
        """What a checkpoint records of the rows so far, which are in a file beside it, and of the
        findings."""
        return {ledger.KEY: self._ledger.mark(), IN_CHECKPOINT: self.findings.best}

    def draw(self, every_seconds: float = 0.0) -> None:
        """Draws the pictures, unless they are switched off or were drawn a short time ago.

        Args:
          every_seconds: the shortest pause between drawings. The pause is longer if drawing would
            otherwise take more than half a percent of the time. 0 draws without a pause.
        """
        start = time.monotonic()
        pause = max(every_seconds, self._drawing_seconds / _DRAWING_SHARE) if every_seconds else 0
        if not self._draws or start - self._drawn < pause:
            return
        pictures.draw_progress(self._folder / PLOTS_FOLDER, self.rows)
        self.findings.draw(self._folder / PLOTS_FOLDER)
        self._drawn = time.monotonic()
        self._drawing_seconds = self._drawn - start

    def close(self) -> None:
        """Closes the trackers of the run."""
        for tracker in self._trackers:
            tracker.close()
