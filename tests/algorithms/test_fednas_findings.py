"""What a search leaves beside metrics holds the rounds of the checkpoint, whatever lay there."""

import json
import math
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fednas_jax import config as schema
from fednas_jax.algorithms.fednas import findings
from fednas_jax.algorithms.fednas.config import DECLARED
from fednas_jax.algorithms.fednas.findings import SearchFindings
from fednas_jax.report import plots
from fednas_jax.report import records as report_records
from fednas_jax.report.records import Records
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime.errors import UserError
from fednas_jax.spaces.darts import genotype as genotypes
from fednas_jax.spaces.darts.genotype import Genotype

REPORT = {"plots": False, "tensorboard": False, "wandb": "off", "names": "ours"}
HELD_OUT = (None, 0.2, 0.5, 0.4)


def arch(number: int) -> dict[str, np.ndarray]:
    rng = np.random.RandomState(number)
    return {kind: rng.normal(size=(14, 8)) for kind in ("normal", "reduce")}


def row(number: int) -> dict[str, Any]:
    return {"round": number, "held_out_accuracy": HELD_OUT[number]}


def state(number: int) -> Any:
    """Of a server, as far as a search looks at it."""
    return types.SimpleNamespace(arch=arch(number))


def records(folder: Path, done: int, best: Genotype | None = None) -> Records:
    found = SearchFindings({}, folder)
    found.restore(None if best is None else genotypes.to_json(best), "checkpoint")
    return Records(folder, REPORT, [row(i) for i in range(1, done + 1)], found, state(done))


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
        made.append(row(number), state(number))
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
    going_on.append(row(3), state(3))
    assert derived(three_rounds)["best"] == genotypes.derive(arch(2))
    assert going_on.findings.best == genotypes.to_json(genotypes.derive(arch(2)))
    assert derived(three_rounds)["last"] == genotypes.derive(arch(3))
    assert read_rows(three_rounds / "metrics.jsonl") == [row(1), row(2), row(3)]
    assert [a["round"] for a in read_rows(three_rounds / "alphas.jsonl")] == [2, 3]


def test_the_alphas_have_the_scale_of_all_rounds(
    three_rounds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = SearchFindings({}, three_rounds)
    found.restore(genotypes.to_json(genotypes.derive(arch(1))), "checkpoint")
    found.begin(state(3), 3)
    given: list[float] = []
    monkeypatch.setattr(plots, "alphas", lambda *_, most, **__: given.append(most))
    found.draw(three_rounds)
    largest = [genotypes.softmax([*arch(n).values()]).max() for n in range(4)]
    assert given == [max(largest)]
    assert largest[1] < max(largest), "the best round has not the largest"


def test_pictures_are_drawn_when_wanted_and_not_too_often(folder: Path) -> None:
    made = Records(
        folder,
        REPORT | {"plots": True, "tensorboard": True},
        [],
        SearchFindings({}, folder),
        state(0),
    )
    made.append(row(1), state(1))
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


def test_trackers_are_told_the_genotype_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    tracker = types.SimpleNamespace(append=told.append)
    monkeypatch.setattr(report_records, "trackers", lambda folder, report, rows: [tracker])
    records(folder, 0).append(row(1), state(1))
    assert told == [row(1) | {"genotype": str(genotypes.derive(arch(1)))}]
    assert read_rows(folder / "metrics.jsonl") == [row(1)]


def test_columns_count_what_alphas_stand_for() -> None:
    arch = {kind: np.zeros((14, 8)) for kind in ("normal", "reduce")}
    arch["normal"][:, genotypes.PRIMITIVES.index("skip_connect")] = 9.0
    arch["reduce"][:, genotypes.PRIMITIVES.index("dil_conv_5x5")] = 9.0
    found = findings.columns(arch)
    assert (found["normal_skips"], found["reduce_skips"]) == (8, 0)
    assert (found["normal_convolutions"], found["reduce_convolutions"]) == (0, 8)
    total = math.exp(9) + 7
    chances = [math.exp(9) / total] + 7 * [1 / total]
    assert found["normal_entropy"] == pytest.approx(-sum(p * math.log(p) for p in chances))


def alphas_row(number: int) -> dict[str, Any]:
    rng = np.random.RandomState(number)
    return {"round": number, **{k: rng.normal(size=(14, 8)).tolist() for k in ("normal", "reduce")}}


def write(path: Path, values: list[Any]) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


def test_alphas_of_later_rounds_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "alphas.jsonl", [alphas_row(number) for number in range(5)])
    found = findings.read_alphas(tmp_path / "alphas.jsonl", 2)
    assert found == [alphas_row(number) for number in range(3)]


@pytest.mark.parametrize(
    "damage",
    [
        {"round": 1},
        {**alphas_row(1), "normal": [[1.0, 2.0], [3.0]]},
        {**alphas_row(1), "reduce": [[0.0] * 8] * 13},
        {**alphas_row(1), "reduce": None},
        {**alphas_row(1), "reduce": {}},
        "text",
    ],
)
def test_damaged_alphas_are_none(tmp_path: Path, damage: Any) -> None:
    write(tmp_path / "alphas.jsonl", [alphas_row(0), damage])
    assert findings.read_alphas(tmp_path / "alphas.jsonl", 2) == []
    assert findings.read_alphas(tmp_path / "none.jsonl", 2) == []


def test_what_is_no_genotype_is_refused_as_the_best(tmp_path: Path) -> None:
    found = SearchFindings({}, tmp_path)
    found.check(None, "genotype")
    for refuse in (found.check, found.restore):
        with pytest.raises(UserError, match=r"^checkpoints: best: must be an object with the keys"):
            refuse("text", "checkpoints: best")
    assert found.best is None


def test_a_training_is_given_the_genotype_of_the_best_round() -> None:
    assert DECLARED.finds is not None
    assert (DECLARED.finds.file,) == SearchFindings.files
    assert DECLARED.finds.field in {field.name for field in schema.FIELDS}


def test_a_genotype_in_words() -> None:
    found = SearchFindings({}, Path("x"))
    best = genotypes.random_genotype(np.random.RandomState(0))
    normal, reduce = found.lines(genotypes.to_json(best))
    pairs = [f"{name}({state})" for name, state in best.normal]
    assert normal.startswith(f"  normal  {pairs[0]} {pairs[1]} | {pairs[2]} ")
    assert reduce.startswith("  reduce  ")
