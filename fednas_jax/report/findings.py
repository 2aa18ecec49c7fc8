"""Findings: what an algorithm finds besides metrics, recorded each round and for the best round."""

from pathlib import Path
from typing import Any

from fednas_jax.report.writers import Row

IN_CHECKPOINT, IN_SUMMARY = "best_genotype", "genotype"
"""The names of `Findings.best` in a checkpoint and in summary.json, whatever an algorithm finds.
Older runs have only genotypes, and their files have to stay readable."""


class Findings:
    """The findings of one start of a run; this base class finds nothing.

    An algorithm with findings has a subclass, which `Room.findings` makes. All ranks call `restore`
    and `columns`; only rank 0 calls the methods that write files.
    """

    folders: tuple[str, ...] = ()
    """Folders for its files in the run's folder; made before the first round."""
    title: str = "Best network"
    """First words of the lines printed at the end of a run; "Best " is left out if no round was
    selected."""
    scored: str = "Network"
    """The name of what is scored, before the printed accuracies."""
    files: tuple[str, ...] = ()
    """Its files in the run's folder that the last lines name."""
    picture: str = "accuracy_and_loss.png"
    """The file in `plots/` to look at first."""

    def __init__(self, config: Any, folder: Path) -> None:
        """Reads and writes no files.

        Args:
          config: the resolved config; for a finished run, the config in run.json.
          folder: the run's folder.
        """
        self._folder = folder

    @property
    def best(self) -> Any:
        """The findings of the best round so far, in JSON's types; None if there are none."""
        return None

    def check(self, best: Any, source: str) -> None:
        """Checks a value of `best` that was read from a file.

        Args:
          best: the value.
          source: the name of the value in an error.

        Raises:
          UserError: it is not a possible value of `best`.
        """

    def restore(self, best: Any, source: str) -> None:
        """Restores `best` from the checkpoint that a run resumes from.

        Args:
          best: the value in the checkpoint.
          source: the name of the value in an error.

        Raises:
          UserError: it is not a possible value of `best`.
        """

    def begin(self, state: Any, done: int) -> None:
        """Removes the records of later rounds from the files.

        Args:
          state: the server state after the last finished round, or the first state.
          done: number of the last finished round; 0 before the first.
        """

    def columns(self, state: Any) -> Row:
        """Further columns of a round's row in metrics.jsonl: name -> number.

        Args:
          state: the server state after the round.
        """
        return {}

    def append(self, number: int, state: Any, *, is_best: bool) -> dict[str, str]:
        """Records a round.

        Args:
          number: number of the round.
          state: the server state after the round.
          is_best: whether the round is the best so far. If so, `best` has to become its findings.

        Returns:
          Texts for trackers such as W&B: name -> text.
        """
        return {}

    def draw(self, folder: Path) -> None:
        """Draws pictures of the rounds so far.

        Args:
          folder: the folder of the pictures; `picture` is one of them.
        """

    def lines(self, best: Any) -> list[str]:
        """The findings as lines that are printed below `title`.

        Args:
          best: the value of `best` in summary.json.
        """
        return []

    def next_steps(self, dataset: str) -> list[str]:
        """Suggestions for after the run, each the rest of a line that begins with "Next: " or
        "Then ".

        Args:
          dataset: the name of the data set.
        """
        return []
