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
"""Of the time that a run takes, at most; the pictures after the last round aside. With what else is
neither steps nor evaluation, a round of the paper's size so stays below 3 %: `round_share` in
`benchmarks/`."""


class Records:
    """All records of a run; what they hold is always that of the rounds in `rows`.

    Of which `rows` itself has no lists: with a value a client, those would fill the memory.
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
        """Brings the files to the round of a checkpoint: what is from later rounds goes.

        Args:
          folder: the workdir, with its folders made.
          report: `config.report`.
          rows_so_far: metrics of the rounds done.
          findings: of the run, which has taken over what the checkpoint says of them.
          state: of the server, after the last of these rounds, or its first.
          selected_by: what selects the best round, as of `rows.best_round`.
        """
        self.rows = [rows.without_lists(row) for row in rows_so_far]
        self.findings, self.selected_by = findings, selected_by
        self._folder, self._draws = folder, extras.enabled(report, "plots")
        # The first come after the first round: something to look at; memory grows no more later.
        self._drawn, self._drawing_seconds = -math.inf, 0.0
        done = rows.rounds_done(self.rows)
        self._metrics = MetricsFile(folder / METRICS_FILE)
        lines = self._metrics.rewrite(rows_so_far)
        self._ledger = ledger.Ledger(folder / CHECKPOINTS_FOLDER / ledger.FILE, lines)
        findings.begin(state, done)
        self._trackers = trackers(folder, report, self.rows)

    def append(self, row: rows.Row, state: Any) -> None:
        """Writes down a round: its metrics, and what was found besides.

        Args:
          row: its metrics.
          state: of the server, after it; None of round 0, which is before all that is found.
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
        """What a checkpoint is to say of the rows so far, which are then kept beside it, and of
        what was found."""
        return {ledger.KEY: self._ledger.mark(), IN_CHECKPOINT: self.findings.best}

    def draw(self, every_seconds: float = 0.0) -> None:
        """Draws the pictures, unless they are not wanted, or were drawn a short while ago.

        Args:
          every_seconds: what a short while is, or so long that drawing takes half a percent of
            the time, if that is more; 0 draws in any case.
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
        """Ends what tracks the run."""
        for tracker in self._trackers:
            tracker.close()
