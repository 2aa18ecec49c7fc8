"""CONTRIBUTING.md's recipe, followed word by word: one file of 30 lines, and its four commands."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from fednas_jax.algorithms import registry
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime.files import read_json
from tests.documents import commands, files, text

pytestmark = pytest.mark.usefixtures("tiny_runs")
RECIPE = [c.words for c in commands("CONTRIBUTING.md") if c.words[:2] == ("python", "-m")]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder outside of the repository; pictures take most of so short a run's time."""
    from fednas_jax.report import page, pictures

    for drawing in ("draw_partition", "draw_progress"):
        monkeypatch.setattr(pictures, drawing, lambda *_, **__: None)
    monkeypatch.setattr(page, "write", lambda *_, **__: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_added", {})
    return tmp_path


def test_the_file_is_short_and_that_of_the_documents() -> None:
    ((name, content),) = files("CONTRIBUTING.md").items()
    assert name == "uniform.py"
    assert len(content.splitlines()) <= 30
    assert files("docs/extending.md")[name] == content
    assert len(text("CONTRIBUTING.md").splitlines()) <= 130


def test_the_recipe_trains_compares_and_follows_a_search(elsewhere: Path) -> None:
    for name, content in files("CONTRIBUTING.md").items():
        (elsewhere / name).write_text(content)
    modules = [words[2] for words in RECIPE]
    assert modules == [f"fednas_jax.{name}" for name in ("main", "compare", "sweep", "main")]
    for _, _, module, *arguments in RECIPE:
        assert importlib.import_module(module).main(arguments) == 0
    mine = "uniform.py:ALGORITHM"
    run = read_json(Path("runs/uniform/run.json"))
    assert run["config"]["algorithm"] == mine
    assert Path(run["user_code"]["algorithm"]["path"]).samefile("uniform.py")

    rows = read_json(Path("runs/uniform_networks/comparison.json"))["rows"]
    assert [(row["network"], row["config"]["algorithm"]) for row in rows] == [
        ("2nn", mine),
        ("cnn", mine),
    ]
    # The same config and seed: the first run and this row are the same run.
    assert rows[0]["accuracy_mean"] == last(Path("runs/uniform"))["test_accuracy"]

    fedavg, uniform = (
        last(Path(f"runs/uniform_fedavg/algorithm={name}")) for name in ("fedavg", mine)
    )
    assert uniform == {**last(Path("runs/uniform")), **times(uniform)}
    assert fedavg["test_loss"] != uniform["test_loss"]
    assert "algorithm=fedavg" in Path("runs/uniform_fedavg/table.md").read_text()

    search, train = Path("runs/uniform_search/search"), Path("runs/uniform_search/train")
    trained = read_json(train / "run.json")
    assert trained["config"]["algorithm"] == mine
    assert trained["genotype"] == json.loads((search / "genotypes/best.json").read_text())


def last(folder: Path) -> dict[str, Any]:
    return dict(read_rows(folder / "metrics.jsonl")[-1])


def times(row: dict[str, Any]) -> dict[str, Any]:
    """What two runs of the same bits do not share."""
    return {name: row[name] for name in ("seconds", "client_steps_per_second")}
