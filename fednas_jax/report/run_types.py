"""What the folder of a run says, as pages show it."""

from pathlib import Path
from typing import Any, NamedTuple

from fednas_jax.report.rows import Row
from fednas_jax.runtime import layout


class ClassCounts(NamedTuple):
    """Who holds what: `counts[k][c]` examples of class c, which is called `names[c]`."""

    names: list[str]
    counts: list[list[int]]
    ids: list[int] | None = None
    """What the data's `client` column calls each client; None where it calls them nothing."""

    def client(self, k: int) -> str:
        """The name of a client, from its number."""
        return str(self.ids[k] if self.ids is not None and k < len(self.ids) else k)


class RunFolder(NamedTuple):
    """What a run has written down so far."""

    folder: Path
    record: dict[str, Any]
    """All of run.json."""
    config: dict[str, Any]
    """As it is there."""
    starts: list[dict[str, Any]]
    """Time, versions and device of each start; the latest is the last."""
    rows: list[Row]
    """Metrics, one row a round; at least one."""
    summary: dict[str, Any]
    """As in summary.json; what is known so far where the run has not ended."""
    finished: bool
    partition: ClassCounts | None
    """None of a run of a version that did not write it."""

    @property
    def name(self) -> str:
        """The folder's own name; of a stage of a run, the run's besides."""
        return layout.title(self.folder)

    @property
    def best_row(self) -> Row:
        """The metrics of the best round."""
        return next(row for row in self.rows if row["round"] == self.summary["best_round"])
