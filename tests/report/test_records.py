"""The files that grow round by round hold the rounds of the checkpoint, whatever lay there."""

import types
from pathlib import Path
from typing import Any

import pytest

from fednas_jax.report import records as module
from fednas_jax.report.findings import IN_CHECKPOINT, Findings
from fednas_jax.report.records import Records
from fednas_jax.report.writers import read_rows

REPORT = {"plots": False, "tensorboard": False, "wandb": "off", "names": "ours"}
HELD_OUT = (None, 0.2, 0.5, 0.4)


class Notes(Findings):
    """Notes down what it is told; the best is the state of the best round."""

    def __init__(self, config: Any, folder: Path) -> None:
        super().__init__(config, folder)
        self.told: list[Any] = []
        self._best: Any = None

    @property
    def best(self) -> Any:
        return self._best

    def begin(self, state: Any, done: int) -> None:
        self.told.append(("begin", state, done))

    def append(self, number: int, state: Any, *, is_best: bool) -> dict[str, str]:
        self.told.append((number, state, is_best))
        self._best = state if is_best else self._best
        return {"note": f"of {number}"}

    def draw(self, folder: Path) -> None:
        (folder / "notes.txt").write_text(f"{self.told}")


def row(number: int) -> dict[str, Any]:
    return {"round": number, "held_out_accuracy": HELD_OUT[number]}


def records(folder: Path, done: int, **report: Any) -> Records:
    so_far = [row(i) for i in range(1, done + 1)]
    return Records(folder, REPORT | report, so_far, Notes({}, folder), f"state {done}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plots").mkdir()
    return tmp_path


def test_findings_are_told_of_each_round_and_of_the_best(folder: Path) -> None:
    made = records(folder, 1)
    for number in (2, 3):
        made.append(row(number), f"state {number}")
    assert made.findings.told == [
        ("begin", "state 1", 1), (2, "state 2", True), (3, "state 3", False),
    ]  # fmt: skip
    assert made.mark()[IN_CHECKPOINT] == "state 2"
    assert read_rows(folder / "metrics.jsonl") == [row(1), row(2), row(3)]
    made.draw()
    assert not list((folder / "plots").iterdir())
    made.close()


def test_round_0_is_before_all_that_is_found(folder: Path) -> None:
    made = records(folder, 0)
    made.append({"round": 0, "held_out_accuracy": None}, None)
    assert made.findings.told == [("begin", "state 0", 0)]
    assert [row["round"] for row in made.rows] == [0]


def test_pictures_are_drawn_where_they_are_wanted(folder: Path) -> None:
    records(folder, 1, plots=True).draw()
    drawn = {path.name for path in (folder / "plots").iterdir()}
    assert drawn == {"accuracy_and_loss.png", "notes.txt"}


def test_pictures_take_half_a_percent_of_the_time_at_most(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, drawn = [0.0], []

    def draw(*_: Any) -> None:
        drawn.append(clock[0])
        clock[0] += 2.0

    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(module.pictures, "draw_progress", draw)
    made = records(folder, 0, plots=True)
    for second in range(0, 1000, 10):
        clock[0] = max(clock[0], float(second))
        made.draw(every_seconds=60.0)
    # One took 2 s: the next may begin 400 s later.
    assert drawn == [0.0, 410.0, 820.0]
    made.draw()
    assert len(drawn) == 4
    made.close()


def test_trackers_are_told_the_texts_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    tracker = types.SimpleNamespace(append=told.append)
    monkeypatch.setattr(module, "trackers", lambda folder, report, rows: [tracker])
    records(folder, 0).append(row(1), "state 1")
    assert told == [row(1) | {"note": "of 1"}]
    assert read_rows(folder / "metrics.jsonl") == [row(1)]
