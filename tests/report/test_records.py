"""The files that grow round by round hold the rounds of the checkpoint, whatever lay there."""

import json
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fednas_jax.report import records as module
from fednas_jax.report import records as report_records
from fednas_jax.report.records import Records
from fednas_jax.report.writers import read_rows
from fednas_jax.search import genotype as genotypes
from fednas_jax.search.genotype import Genotype

REPORT = {"plots": False, "tensorboard": False, "wandb": "off", "names": "ours"}
HELD_OUT = (None, 0.2, 0.5, 0.4)


def arch(number: int) -> dict[str, np.ndarray]:
    rng = np.random.RandomState(number)
    return {kind: rng.normal(size=(14, 8)) for kind in ("normal", "reduce")}


def row(number: int) -> dict[str, Any]:
    return {"round": number, "held_out_accuracy": HELD_OUT[number]}


def records(folder: Path, done: int, best: Genotype | None = None) -> Records:
    return Records(folder, REPORT, [row(i) for i in range(1, done + 1)], best, arch(done))


def derived(folder: Path) -> dict[str, Genotype]:
    return {path.stem: genotypes.load(path) for path in (folder / "genotypes").glob("*.json")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "genotypes").mkdir()
    (tmp_path / "plots").mkdir()
    return tmp_path


@pytest.fixture
def three_rounds(folder: Path) -> Path:
    made = records(folder, 0)
    for number in (1, 2, 3):
        made.append(row(number), arch(number))
    made.draw()
    made.close()
    return folder


def test_each_round_is_written_down(three_rounds: Path) -> None:
    assert read_rows(three_rounds / "metrics.jsonl") == [row(1), row(2), row(3)]
    alphas = read_rows(three_rounds / "alphas.jsonl")
    assert [a["round"] for a in alphas] == [0, 1, 2, 3]
    assert alphas[2]["normal"] == arch(2)["normal"].tolist()
    of = {number: genotypes.derive(arch(number)) for number in (1, 2, 3)}
    numbered = {f"{number:06d}": genotype for number, genotype in of.items()}
    assert derived(three_rounds) == numbered | {"best": of[2], "last": of[3]}
    assert not list((three_rounds / "plots").iterdir())


def test_going_on_takes_back_later_rounds_and_leaves_what_is_the_users(three_rounds: Path) -> None:
    folder = three_rounds / "genotypes"
    mine = {name: (folder / name) for name in ("2nd_try.json", "7.json", "000002.txt")}
    for path in mine.values():
        path.write_text("mine")
    records(three_rounds, 1, genotypes.derive(arch(1))).close()
    assert {path.read_text() for path in mine.values()} == {"mine"}
    for path in mine.values():
        path.unlink()
    assert read_rows(three_rounds / "metrics.jsonl") == [row(1)]
    assert [a["round"] for a in read_rows(three_rounds / "alphas.jsonl")] == [0, 1]
    # The best of the rounds that were taken back was another.
    first = genotypes.derive(arch(1))
    assert derived(three_rounds) == {"000001": first, "best": first, "last": first}


def test_going_on_mends_missing_and_damaged_files(three_rounds: Path) -> None:
    (three_rounds / "genotypes" / "best.json").unlink()
    (three_rounds / "genotypes" / "last.json").write_text("")
    (three_rounds / "alphas.jsonl").write_text("{}\n")
    (three_rounds / "metrics.jsonl").write_text('{"round": 1}\n{"rou')
    going_on = records(three_rounds, 2, genotypes.derive(arch(2)))
    going_on.append(row(3), arch(3))
    assert going_on.best == derived(three_rounds)["best"] == genotypes.derive(arch(2))
    assert derived(three_rounds)["last"] == genotypes.derive(arch(3))
    assert read_rows(three_rounds / "metrics.jsonl") == [row(1), row(2), row(3)]
    assert [a["round"] for a in read_rows(three_rounds / "alphas.jsonl")] == [2, 3]


def test_pictures_are_drawn_when_wanted_and_not_too_often(folder: Path) -> None:
    made = Records(folder, REPORT | {"plots": True, "tensorboard": True}, [], None, arch(0))
    made.append(row(1), arch(1))
    made.draw(every_seconds=1000.0)
    drawn = list((folder / "plots").iterdir())
    assert {path.name for path in drawn} == {
        "accuracy_and_loss.png", "alphas.png", "alphas_over_rounds.png", "cells.png",
    }  # fmt: skip
    for path in drawn:
        path.unlink()
    made.draw(every_seconds=1000.0)
    assert not list((folder / "plots").iterdir())
    made.draw()
    made.close()
    assert len(list((folder / "plots").iterdir())) == 4
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))
    assert json.loads((folder / "metrics.jsonl").read_text()) == row(1)


def test_pictures_take_half_a_percent_of_the_time_at_most(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, drawn = [0.0], []

    def draw(*_: Any) -> None:
        drawn.append(clock[0])
        clock[0] += 2.0

    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(module.pictures, "draw_progress", draw)
    made = Records(folder, REPORT | {"plots": True}, [], None, arch(0))
    for second in range(0, 1000, 10):
        clock[0] = max(clock[0], float(second))
        made.draw(every_seconds=60.0)
    # One took 2 s: the next may begin 400 s later.
    assert drawn == [0.0, 410.0, 820.0]
    made.draw()
    assert len(drawn) == 4
    made.close()


def test_trackers_are_told_the_genotype_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    tracker = types.SimpleNamespace(append=told.append)
    monkeypatch.setattr(report_records, "trackers", lambda folder, report, rows: [tracker])
    records(folder, 0).append(row(1), arch(1))
    assert told == [row(1) | {"genotype": str(genotypes.derive(arch(1)))}]
    assert read_rows(folder / "metrics.jsonl") == [row(1)]
