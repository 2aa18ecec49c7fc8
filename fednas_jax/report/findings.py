"""What an algorithm finds beside metrics: kept after each round, and of the best round."""

from pathlib import Path
from typing import Any

from fednas_jax.report.writers import Row

IN_CHECKPOINT, IN_SUMMARY = "best_genotype", "genotype"
"""Under which a checkpoint and summary.json hold `Findings.best`, whatever it is. The first
algorithm that found something found genotypes, and files of older runs have to stay readable."""


class Findings:
    """What one start of a run finds beside metrics; as it stands here: nothing.

    An algorithm that finds something has a class of its own, which `Room.findings` makes. All ranks
    call `restore` and `columns`; rank 0 alone calls what writes files.
    """

    folders: tuple[str, ...] = ()
    """That the run's folder needs for its files; made before the first round."""
    title: str = "Best network"
    """What the lines at a run's end begin with."""
    scored: str = "Network"
    """What accuracies are of."""
    files: tuple[str, ...] = ()
    """In the run's folder, for the line that names its files."""
    picture: str = "accuracy_and_loss.png"
    """The one in `plots/` that shows most."""

    def __init__(self, config: Any, folder: Path) -> None:
        """Looks at nothing and writes nothing.

        Args:
          config: resolved; or as run.json has it, where an ended run is told of.
          folder: of the run.
        """
        self._folder = folder

    @property
    def best(self) -> Any:
        """What is kept of the best round so far, as JSON holds it; None of an algorithm that keeps
        nothing."""
        return None

    def check(self, best: Any, source: str) -> None:
        """Refuses what cannot have been `best`.

        Args:
          best: as a file has it.
          source: what to call it in an error.

        Raises:
          UserError: it is something else.
        """

    def restore(self, best: Any, source: str) -> None:
        """Takes over what the checkpoint says that is gone on from.

        Args:
          best: as it was when the checkpoint was written.
          source: what to call it in an error.

        Raises:
          UserError: it cannot have been `best`.
        """

    def begin(self, state: Any, done: int) -> None:
        """Brings the files to a round: what they hold of later ones goes.

        Args:
          state: of the server, after that round, or its first.
          done: rounds done.
        """

    def columns(self, state: Any) -> Row:
        """Numbers that a round's row of metrics.jsonl has besides: name -> number.

        Args:
          state: of the server, after the round.
        """
        return {}

    def append(self, number: int, state: Any, *, is_best: bool) -> dict[str, str]:
        """Writes down a round.

        Args:
          number: of the round.
          state: of the server, after it.
          is_best: whether it is the best so far; then `best` is of it from now on.

        Returns:
          Texts for what tracks the run: name -> text.
        """
        return {}

    def draw(self, folder: Path) -> None:
        """Draws pictures of the rounds so far.

        Args:
          folder: where they go; `picture` is one of them.
        """

    def lines(self, best: Any) -> list[str]:
        """What was found, as lines below `title`.

        Args:
          best: as summary.json has it.
        """
        return []

    def next_steps(self, dataset: str) -> list[str]:
        """What may be done after the run, each for a sentence "Next: ..., then ...".

        Args:
          dataset: the name of the data.
        """
        return []
