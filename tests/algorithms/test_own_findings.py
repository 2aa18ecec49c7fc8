"""What an algorithm of a user's own finds: its columns, files, pictures, pages, inputs, origins."""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from fednas_jax import config as schema
from fednas_jax.algorithms import registry
from fednas_jax.algorithms.declared import Declared
from fednas_jax.experiment import next_steps, provenance, runner
from fednas_jax.experiment.rounds import Experiment
from fednas_jax.fields.field import TEXT, Field, anything
from fednas_jax.report import comparison, page, run_folder
from fednas_jax.report.findings import Findings
from fednas_jax.report.page_parts import Drawing, Section, Table
from fednas_jax.report.run_types import RunFolder
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime.errors import UserError
from tests.algorithms.test_brought import BLOCKS, NOISE, toy_room
from tests.tiny import fedavg_config

pytestmark = pytest.mark.usefixtures("tiny_runs")
FIELD = Field("toy.start", "", TEXT, anything, "file that the shares begin with", False)


class Shares(Findings):
    """Keeps the share of each class after each round, and that of the best round."""

    folders = ("shares",)
    title, scored, files, picture = "Best shares", "Table", ("shares/best.json",), "shares.txt"
    restored: ClassVar[list[Any]] = []
    """Of all starts, for the test."""

    def __init__(self, config: Any, folder: Path) -> None:
        super().__init__(config, folder)
        self._best: Any = None

    @property
    def best(self) -> Any:
        return self._best

    def check(self, best: Any, source: str) -> None:
        if not (isinstance(best, list) and all(isinstance(x, float) for x in best)):
            raise UserError(f"{source}: no list of shares; one is needed")

    def restore(self, best: Any, source: str) -> None:
        self.check(best, source)
        self.restored.append((best, source))
        self._best = best

    def begin(self, state: Any, done: int) -> None:
        for path in (self._folder / "shares").glob("0*.json"):
            if int(path.stem) > done:
                path.unlink()

    def columns(self, state: Any) -> dict[str, Any]:
        return {"largest_share": float(np.asarray(state["shares"]).max())}

    def append(self, number: int, state: Any, *, is_best: bool) -> dict[str, str]:
        shares = np.asarray(state["shares"]).tolist()
        self._best = shares if is_best else self._best
        for name in (f"{number:06d}", *(["best"] if is_best else [])):
            (self._folder / "shares" / f"{name}.json").write_text(json.dumps(shares))
        return {"shares": f"{shares}"}

    def draw(self, folder: Path) -> None:
        (folder / self.picture).write_text(f"{self.best}")

    def lines(self, best: Any) -> list[str]:
        return [f"  class {label}: {share:.2%}" for label, share in enumerate(best[:2])]

    def next_steps(self, dataset: str) -> list[str]:
        return [f"share {dataset}"]


def sections(run: RunFolder) -> list[Section]:
    """A table of the file of the best round, and a drawing."""
    shares = json.loads((run.folder / "shares" / "best.json").read_text())
    rows = [[str(label), f"{share:.3f}"] for label, share in enumerate(shares)]
    drawing = Drawing("Shares", f"<svg><title>{len(shares)} shares</title></svg>")
    return [
        Section("shares", "Shares", "Of the best round.", [Table(["class", ""], rows), drawing])
    ]


def own_room() -> Any:
    def inputs(config: Any) -> dict[str, Any]:
        path = config["toy"]["start"]
        return {"toy.start": Path(path).read_text() if path else None}

    def origins(config: Any) -> dict[str, Path | None]:
        return {"toy.start": None} if config["toy"]["start"] else {}

    more = {"findings": Shares, "sections": sections, "inputs": inputs, "origins": origins}
    return toy_room()._replace(**more)


OWN = Declared("shares", "Shares", own_room, fields=(NOISE, FIELD))
ROUNDS = 3


def config(**fields: Any) -> Any:
    registry.add(OWN)
    made, tiny = schema.default("shares"), fedavg_config()
    made.dataset, made.partition, made.augment = tiny.dataset, tiny.partition, tiny.augment
    made.batch_size, made.local_epochs, made.rounds = 4, 1, ROUNDS
    made.report.progress, made.report.tensorboard = False, False
    made.update_from_flattened_dict(fields)
    return made


def run(folder: Path, **fields: Any) -> dict[str, Any]:
    return runner.run(config(**fields), folder, algorithm=OWN)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_added", {"shares": OWN})
    monkeypatch.setattr(Shares, "restored", [])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("own") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_added", {"shares": OWN})
        run(folder)
    return folder


def shares(folder: Path, name: str) -> list[float]:
    found: list[float] = json.loads((folder / "shares" / f"{name}.json").read_text())
    return found


def extra(folder: Path, number: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (folder / "checkpoints" / f"{number:06d}" / "checkpoint.json").read_text()
    )
    return found["extra"]


def test_what_it_finds_is_in_the_rows_in_files_and_of_the_best_round(whole: Path) -> None:
    rows = [row for row in read_rows(whole / "metrics.jsonl") if row["round"]]
    largest = [max(shares(whole, f"{number:06d}")) for number in (1, 2, 3)]
    assert [row["largest_share"] for row in rows] == pytest.approx(largest)
    assert largest[0] < largest[1] < largest[2]
    summary = json.loads((whole / "summary.json").read_text())
    best = shares(whole, f"{summary['best_round']:06d}")
    assert summary["genotype"] == extra(whole, ROUNDS)["best_genotype"] == best
    assert shares(whole, "best") == best
    assert (whole / "plots" / "shares.txt").read_text() == f"{best}"
    assert not (whole / "genotypes").exists()
    record = json.loads((whole / "run.json").read_text())
    assert record["toy.start"] is None
    assert "genotype" not in record


def test_the_end_of_a_run_tells_of_it(whole: Path, capsys: Any) -> None:
    run(whole, **{"report.progress": True})
    said = capsys.readouterr().out
    best = shares(whole, "best")
    lines = f"\nBest shares (round 3 of 3):\n  class 0: {best[0]:.2%}\n  class 1: {best[1]:.2%}\n"
    assert lines in said
    assert "\nTable: " in said
    assert f"Files in {whole}: shares/best.json, report.html, plots/" in said
    next_steps.tell(next_steps.of_run(whole))
    assert capsys.readouterr().out.endswith("\nThen share digits\n")


def test_its_page_shows_it_and_so_does_one_of_several_runs(whole: Path) -> None:
    text = page.write(whole).read_text()
    assert '<section id="shares"' in text
    assert "<title>10 shares</title>" in text
    assert "table, round" in text, "what the accuracy is of"
    assert 'id="cells"' not in text
    found = {s.id: s for s in comparison.page([run_folder.read(whole)] * 2).sections}
    titles = [part.title for part in found["shares"].parts if isinstance(part, Drawing)]
    assert titles == [f"{whole}: Shares"] * 2


def test_the_page_does_without_an_algorithm_that_is_gone(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_added", {})
    text = page.write(whole, tmp_path / "page.html").read_text()
    assert "network, round" in text
    assert 'id="shares"' not in text


def test_it_is_stopped_and_gone_on_with(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Experiment._record

    def stop(self: Any, row: Any) -> None:
        record(self, row)
        if row["round"] == 2:
            raise RuntimeError("stopped on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "_record", stop)
        with pytest.raises(RuntimeError, match="stopped on purpose"):
            run(tmp_path / "parts")
    kept = extra(tmp_path / "parts", 2)["best_genotype"]
    assert kept == shares(tmp_path / "parts", "best")
    (tmp_path / "parts" / "shares" / "000009.json").write_text("[]")  # of a later round
    summary = run(tmp_path / "parts")
    assert Shares.restored == [(kept, f"{tmp_path}/parts/checkpoints: best_genotype")]
    assert summary["genotype"] == json.loads((whole / "summary.json").read_text())["genotype"]
    names = {path.name for path in (whole / "shares").iterdir()}
    assert {path.name for path in (tmp_path / "parts" / "shares").iterdir()} == names
    for name in names:
        assert shares(tmp_path / "parts", Path(name).stem) == shares(whole, Path(name).stem)


def test_a_run_that_ended_with_something_else_is_refused(whole: Path) -> None:
    path = whole / "summary.json"
    content = path.read_text()
    path.write_text(json.dumps(json.loads(content) | {"genotype": "text"}))
    with pytest.raises(UserError, match=r"summary\.json: genotype: no list of shares; one is"):
        run(whole)
    path.write_text(content)


def test_what_a_field_stands_for_may_not_change(tmp_path: Path) -> None:
    start, moved = tmp_path / "start.txt", tmp_path / "moved.txt"
    start.write_text("1")
    moved.write_text("1")
    run(tmp_path / "run", rounds=1, **{"toy.start": str(start), "report.page": False})
    assert json.loads((tmp_path / "run" / "run.json").read_text())["toy.start"] == "1"
    again = {"rounds": 1, "toy.start": str(moved), "report.page": False}
    run(tmp_path / "run", **again)
    moved.write_text("2")
    message = r"^config\.toy\.start: .*moved\.txt is not the one that the run in .* began with; "
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", **again)


def test_where_a_run_comes_from_is_asked_of_its_room() -> None:
    of = provenance._sources
    assert list(of({"algorithm": "shares", "toy": {"start": ""}})) == []
    assert list(of({"algorithm": "shares", "toy": {"start": "x"}})) == [("toy.start", None)]


@pytest.mark.parametrize("name", ["round", "test_accuracy", "classes"])
def test_a_column_that_is_taken_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(Shares, "columns", lambda self, state: {name: 1})
    with pytest.raises(UserError, match=rf"^algorithm: its column '{name}' has the name of"):
        run(tmp_path / "run")


def test_an_input_that_is_no_field_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = own_room()._replace(inputs=lambda config: {"toy.stat": 1})
    monkeypatch.setitem(registry._added, "shares", OWN._replace(room=lambda: room))
    monkeypatch.setattr(registry, "add", lambda declared: None)
    says = r"name 'toy\.stat', which is not a field; did you mean 'toy\.start'"
    with pytest.raises(UserError, match=says):
        run(tmp_path / "run")


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    (block,) = [block for block in BLOCKS if "class Gates" in block]
    names: dict[str, Any] = {}
    exec(block, names)
    (tmp_path / "gates").mkdir()
    found = names["Gates"]({}, tmp_path)
    found.restore([True], "checkpoint")
    state = {"gates": np.array([0.5, -1.0, 2.0])}
    assert found.columns(state) == {"open_gates": 2}
    assert found.append(1, state, is_best=False) == {"gates": "[true, false, true]"}
    assert found.best == [True]
    found.append(2, state, is_best=True)
    assert json.loads((tmp_path / "gates" / "000002.json").read_text()) == found.best
    assert found.lines(found.best) == ["  2 of 3 open"]
