"""The files of a workdir that grow round by round: metrics, alphas, genotypes, pictures.

Alphas and genotypes are there only where an algorithm searches.
"""

import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fednas_jax import extras
from fednas_jax.layout import CHECKPOINTS_FOLDER, GENOTYPES_FOLDER, METRICS_FILE, PLOTS_FOLDER
from fednas_jax.report import ledger, pictures, rows
from fednas_jax.report.tracking import trackers
from fednas_jax.report.writers import MetricsFile
from fednas_jax.search import genotype as genotypes
from fednas_jax.search.genotype import Genotype

_DRAWING_SHARE = 0.005
"""Of the time that a run takes, at most; the pictures after the last round aside. With what else is
neither steps nor evaluation, a round of the paper's size so stays below 3 %: `round_share` in
`benchmarks/`."""

_NUMBERED = re.compile(r"\d{6,}")


class Records:
    """All records of a run; what they hold is always that of the rounds in `rows`.

    Of which `rows` itself has no lists: with a value a client, those would fill the memory.
    """

    def __init__(
        self,
        folder: Path,
        report: Mapping[str, Any],
        rows_so_far: list[rows.Row],
        best: Genotype | None,
        arch: Mapping[str, np.ndarray] | None,
        selected_by: Sequence[str] = rows.SELECTED_BY,
    ) -> None:
        """Brings the files to the round of a checkpoint: what is from later rounds goes.

        Args:
          folder: the workdir, with its folders made.
          report: `config.report`.
          rows_so_far: metrics of the rounds done.
          best: genotype of the best of them; None where none is done.
          arch: the alphas after the last of them, or the first alphas; None where there are none.
          selected_by: what selects the best round, as of `rows.best_round`.
        """
        self.rows = [rows.without_lists(row) for row in rows_so_far]
        self.best, self.selected_by = best, selected_by
        self._folder, self._draws = folder, extras.wanted(report, "plots")
        # The first come after the first round: something to look at; memory grows no more later.
        self._drawn, self._drawing_seconds = -math.inf, 0.0
        done = rows.rounds_done(self.rows)
        self._metrics = MetricsFile(folder / METRICS_FILE)
        lines = self._metrics.rewrite(rows_so_far)
        self._ledger = ledger.Ledger(folder / CHECKPOINTS_FOLDER / ledger.FILE, lines)
        self._alphas: list[dict[str, Any]] = []
        if arch is not None:
            self._go_on_searching(arch, done)
        self._trackers = trackers(folder, report, self.rows)

    def _go_on_searching(self, arch: Mapping[str, np.ndarray], done: int) -> None:
        self.best = self.best or genotypes.derive(arch)
        self._alphas_file = MetricsFile(self._folder / "alphas.jsonl")
        if done:
            found = pictures.read_alphas(self._alphas_file.path, done)
            self._alphas = [
                _alphas_row(a["round"], {kind: a[kind] for kind in arch}) for a in found
            ]
        if not self._alphas:
            self._alphas = [_alphas_row(done, arch)]
        self._alphas_file.rewrite(self._alphas)
        for path in (self._folder / GENOTYPES_FOLDER).glob("*.json"):
            if _NUMBERED.fullmatch(path.stem) and int(path.stem) > done:
                path.unlink()
        if done:  # a kill may have left those of a round that no checkpoint knows
            genotypes.save(self._genotype("best"), self.best)
            genotypes.save(self._genotype("last"), genotypes.derive(arch))

    def append(self, row: rows.Row, arch: Mapping[str, np.ndarray] | None) -> None:
        """Writes down a round: its metrics, and the alphas after it with their genotype."""
        self.rows.append(rows.without_lists(row))
        self._ledger.append(self._metrics.append(row))
        tracked = row
        if arch is not None:
            tracked = row | {"genotype": str(self._append_architecture(row["round"], arch))}
        for tracker in self._trackers:
            tracker.append(tracked)

    def is_best(self, number: int) -> bool:
        """Whether a round is the best so far."""
        return rows.best_round(self.rows, self.selected_by) == number

    def mark(self) -> dict[str, Any]:
        """What a checkpoint is to say of the rows so far, which are then kept beside it."""
        return {ledger.KEY: self._ledger.mark()}

    def _append_architecture(self, number: int, arch: Mapping[str, np.ndarray]) -> Genotype:
        self._alphas.append(_alphas_row(number, arch))
        self._alphas_file.append(self._alphas[-1])
        derived = genotypes.derive(arch)
        names = [f"{number:06d}", "last"]
        if self.is_best(number):
            self.best = derived
            names.append("best")
        for name in names:
            genotypes.save(self._genotype(name), derived)
        return derived

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
        pictures.draw_progress(self._folder / PLOTS_FOLDER, self.rows, self._alphas, self.best)
        self._drawn = time.monotonic()
        self._drawing_seconds = self._drawn - start

    def close(self) -> None:
        """Ends what tracks the run."""
        for tracker in self._trackers:
            tracker.close()

    def _genotype(self, name: str) -> Path:
        return self._folder / GENOTYPES_FOLDER / f"{name}.json"


def _alphas_row(number: int, arch: Mapping[str, Any]) -> dict[str, Any]:
    # Arrays of their own, which take a tenth of the memory of lists, and hold no device's.
    return {"round": number, **{kind: np.array(alphas) for kind, alphas in arch.items()}}
