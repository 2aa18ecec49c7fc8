"""The progress of a run: a progress bar on a terminal, otherwise a line for each round."""

import math
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from tqdm import tqdm

_SHOWN = {
    "loss": "train_loss",
    "train": "train_accuracy",
    "held-out": "held_out_accuracy",
    "test": "test_accuracy",
}


class Progress:
    """The progress over all rounds of a run."""

    def __init__(self, rounds: int, done: int, *, shown: bool, file: TextIO | None = None) -> None:
        """Args: rounds, in all; done, rounds of earlier starts; shown, whether to show anything."""
        self._file = file or sys.stderr
        self._rounds = rounds
        self._lines = shown and not self._file.isatty()
        self._bar = tqdm(
            total=rounds,
            initial=done,
            unit="round",
            file=self._file,
            disable=not shown or self._lines,
            dynamic_ncols=True,
            bar_format="{desc}{bar}| {n:.1f}/{total} rounds [{elapsed}<{remaining}]{postfix}",
        )

    def say(self, text: str) -> None:
        """Prints a line that stays above the bar."""
        if self._lines:
            print(text, file=self._file, flush=True)
        else:
            self._bar.write(text, file=self._file)

    def within(self, done: int, of: int) -> None:
        """Shows progress inside a round: `done` of `of` steps."""
        self._bar.n = math.floor(self._bar.n + 1e-6) + min(done / of, 0.999)
        self._bar.refresh()

    def finish_round(self, row: Mapping[str, Any]) -> None:
        """Shows a round's metrics."""
        shown = {
            label: f"{row[name]:.3f}" for label, name in _SHOWN.items() if row.get(name) is not None
        }
        if self._lines:
            values = "  ".join(f"{label} {value}" for label, value in shown.items())
            width = len(str(self._rounds))
            line = f"round {row['round']:>{width}}/{self._rounds}  {values}  {row['seconds']:.1f} s"
            print(line, file=self._file, flush=True)
        self._bar.n = row["round"]
        self._bar.set_postfix(shown)

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.close()
