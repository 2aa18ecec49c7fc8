"""The workdir of a run with several ranks: only rank 0 reads and writes it, and informs the others.

Also checks that the ranks compute the same run.
"""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fednas_jax.checkpoints.checkpoint import Checkpoints, Restored
from fednas_jax.federated.ranks.communicator import Communicator
from fednas_jax.report import ledger
from fednas_jax.report.findings import Findings
from fednas_jax.report.records import Records
from fednas_jax.report.rows import SELECTED_BY, Row, best_round, without_lists
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.layout import METRICS_FILE


class SharedCheckpoints:
    """Checkpoints that only rank 0 reads and writes; the other ranks receive what they need."""

    def __init__(
        self, communicator: Communicator, folder: Path, keep: int, say: Callable[[str], None]
    ) -> None:
        """See `Checkpoints`."""
        self._communicator = communicator
        self._rows = folder / ledger.FILE, folder.parent / METRICS_FILE
        self._own = Checkpoints(folder, keep, say) if communicator.rank == 0 else None

    def rounds(self) -> list[int]:
        """The rounds with a checkpoint, on rank 0; an empty list on other ranks."""
        return self._own.rounds() if self._own else []

    def restore_latest(self, state: Any) -> Restored | None:
        """The newest checkpoint that is intact and has the metrics rows of all its rounds.

        Its `extra` contains these rows. On ranks other than 0, its state is `state`.
        """
        own = self._own
        restored = own.restore_latest(state, self._with_rows) if own else None
        found = self._communicator.decide(
            lambda: None if restored is None else [restored.round, restored.extra]
        )
        if found is None:
            return None
        return Restored(found[0], state if restored is None else restored.state, found[1])

    def _with_rows(self, restored: Restored) -> Any:
        extra = ledger.with_rows(restored.extra, *self._rows)
        return extra if ledger.is_of_round(extra, restored.round) else None

    def save(self, number: int, state: Any, extra: Any, **about: Any) -> None:
        """See `Checkpoints`."""
        if self._own:
            self._own.save(number, state, extra, **about)


class Unwritten:
    """The records on ranks other than 0: rows, which the next round depends on, but no files."""

    def __init__(
        self, rows_so_far: list[Row], findings: Findings, selected_by: Sequence[str]
    ) -> None:
        """See `Records`."""
        self.rows = [without_lists(row) for row in rows_so_far]
        self.findings, self.selected_by = findings, selected_by

    def append(self, row: Row, state: Any) -> None:
        """See `Records`."""
        self.rows.append(without_lists(row))

    def is_best(self, number: int) -> bool:
        """See `Records`."""
        return best_round(self.rows, self.selected_by) == number

    def mark(self) -> dict[str, Any]:
        """An empty mapping, since only rank 0 writes checkpoints."""
        return {}

    def draw(self, every_seconds: float = 0.0) -> None:
        """See `Records`."""

    def close(self) -> None:
        """See `Records`."""


def records(
    communicator: Communicator,
    folder: Path,
    report: Mapping[str, Any],
    rows_so_far: list[Row],
    findings: Findings,
    state: Any,
    selected_by: Sequence[str] = SELECTED_BY,
) -> Records | Unwritten:
    """The records of this rank; arguments as for `Records`."""
    if communicator.rank:
        return Unwritten(rows_so_far, findings, selected_by)
    return Records(folder, report, rows_so_far, findings, state, selected_by)


def check_same(communicator: Communicator, what: str, mine: Any) -> None:
    """Refuses ranks that would not compute the same run.

    Args:
      communicator: joins the ranks.
      what: what has to be the same on all ranks, in words.
      mine: its value on this rank, in JSON's types.

    Raises:
      UserError: the value on rank 0 is another.
    """
    theirs = communicator.decide(lambda: mine)
    if json.dumps(theirs) == json.dumps(mine):
        return
    if isinstance(mine, dict) and isinstance(theirs, dict):
        names = [n for n in {**theirs, **mine} if theirs.get(n) != mine.get(n)]
        what = f"{what} ({', '.join(names)})" if names else what
    raise UserError(f"{what} here and on rank 0 differ; the same are needed on every host")


def check_same_state(communicator: Communicator, number: int, state: Any) -> None:
    """Stops the run if the server state is not the same on all ranks.

    Args:
      communicator: joins the ranks.
      number: number of the round.
      state: the server state after the round.

    Raises:
      UserError: some rank's bits differ from rank 0's.
    """
    if communicator.size == 1:
        return
    digest = 0
    for leaf in jax.tree.leaves(jax.device_get(state)):
        digest = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), digest)
    digests = communicator.gather(np.array([digest], np.uint32))
    apart = np.flatnonzero(digests != digests[0])
    if len(apart):
        listed = ", ".join(map(str, apart))
        raise UserError(
            f"round {number}: the server state on rank {listed} is not that of rank 0; "
            "hosts with processors of one kind are needed"
        )
