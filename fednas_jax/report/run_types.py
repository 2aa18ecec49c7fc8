"""The content of a run's folder, as pages show it."""

from pathlib import Path
from typing import Any, NamedTuple

from fednas_jax.report.rows import Row, is_selected
from fednas_jax.runtime import layout


class ClassCounts(NamedTuple):
    """Client k holds `counts[k][c]` examples of class c, whose name is `names[c]`."""

    names: list[str]
    counts: list[list[int]]
    ids: list[int] | None = None
    """The number of each client in the data's `client` column; None if there is no such column."""

    called: list[str] | None = None
    """The name of each client in the data; None if the data do not name them."""

    def client(self, k: int) -> str:
        """The name of client k: its name or its number in the data, or else k."""
        if self.called is not None and k < len(self.called):
            return self.called[k]
        return str(self.ids[k] if self.ids is not None and k < len(self.ids) else k)


class RunFolder(NamedTuple):
    """The records of a run so far."""

    folder: Path
    record: dict[str, Any]
    """The content of run.json."""
    config: dict[str, Any]
    """The config in run.json."""
    starts: list[dict[str, Any]]
    """Time, versions and device of each start; the latest is the last."""
    rows: list[Row]
    """Metrics, one row for each round; at least one."""
    summary: dict[str, Any]
    """The content of summary.json; computed from the rows so far if the run is not finished."""
    finished: bool
    partition: ClassCounts | None
    """None for a run of an earlier version, which did not record it."""

    @property
    def name(self) -> str:
        """The folder's name; for a stage of a run, the run's name and the stage's."""
        return layout.title(self.folder)

    @property
    def selected(self) -> bool:
        """Whether the best round was selected by its held-out accuracy; else it is the last."""
        return is_selected(self.rows)

    @property
    def note(self) -> str:
        """What the round that counts as the best is: "the best", or "the last"."""
        return "the best" if self.selected else "the last"

    @property
    def best_row(self) -> Row:
        """The metrics of the best round."""
        return next(row for row in self.rows if row["round"] == self.summary["best_round"])
