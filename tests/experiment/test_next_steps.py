"""The suggestions after a run: they fit what it has made, and can be typed as they are."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fednas_jax import config as schema
from fednas_jax import main, sweep
from fednas_jax.experiment import next_steps
from fednas_jax.fields import config_file
from fednas_jax.report import page
from fednas_jax.runtime import extras
from fednas_jax.spaces.darts import genotype as genotypes
from tests.report import runs
from tests.stand_in import FAILING_SEED, stand_in
from tests.test_docs_commands import kind_of


def search(folder: Path, config: Any = None) -> Path:
    """A finished search of a config, by default of `digits_quick`."""
    runs.search_run(folder)
    recorded = schema.to_json(config or config_file.load("digits_quick"))
    (folder / "run.json").write_text(json.dumps({"config": recorded, "starts": [{}]}))
    (folder / "genotypes").mkdir()
    genotypes.save(folder / "genotypes" / "best.json", genotypes.load("DARTS_V2"))
    return folder


def training(folder: Path, test: float | None = 0.5) -> Path:
    """A finished FedAvg run."""
    runs.average_run(folder)
    costs = {"seconds": 90.0, "compile_seconds": 10.0, "peak_memory_bytes": 1.5e9}
    numbers = dict.fromkeys(("rounds", "best_round", "test_accuracy_round"), 2)
    found = {"held_out_accuracy": None, "test_accuracy": test, "genotype": None}
    (folder / "summary.json").write_text(json.dumps(numbers | found | costs))
    return folder


def checked(steps: list[next_steps.Step], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands of the steps, after each is parsed as far as those of the documents are."""
    commands = [step.command for step in steps if step.command]
    for command in commands:
        kind, arguments = kind_of(tuple(shlex.split(command)))
        with monkeypatch.context() as patch:
            kind.check(arguments, patch)
    return commands


def trained(command: str) -> tuple[Any, Path]:
    """The config and the workdir of a suggested training."""
    planned, workdir = main._parse(shlex.split(command)[3:])
    assert planned.train is None
    return planned.first, workdir


def test_after_a_search_its_genotype_is_trained_on_the_same_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_file.load("digits_quick")
    config.partition.num_clients, config.seed, config.augment.flip = 5, 3, True
    folder = search(tmp_path / "my search", config)
    (command,) = checked(next_steps.of_run(folder), monkeypatch)
    found, workdir = trained(command)
    assert workdir == tmp_path / "my search-train"
    assert found["genotype"] == str(folder / "genotypes" / "best.json")
    assert found["algorithm"] == "fedavg"
    for part in ("dataset", "partition", "augment", "seed"):
        assert found[part] == schema.resolve(config)[part], part
    assert found["rounds"] == config_file.load("digits_train").rounds


@pytest.mark.parametrize(
    ("spec", "fitting"),
    [
        ("digits_quick", "digits_train"),
        ("digits_quick:quick", "digits_train:quick"),
        ("cifar_hetero", "cifar_hetero_train"),
        ("cifar_hetero:quick", "cifar_hetero_train:quick"),
        ("cifar_hetero:paper", "cifar_hetero_train:paper"),
        ("cifar_homo", "cifar_hetero_train"),
        ("cifar_homo:paper", "cifar_hetero_train:paper"),
    ],
)
def test_the_training_is_that_of_the_package_which_differs_least(
    tmp_path: Path, spec: str, fitting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_file.load(spec)
    (command,) = checked(next_steps.of_run(search(tmp_path / "run", config)), monkeypatch)
    assert f" --config={fitting} " in command
    found, _ = trained(command)
    for part in ("dataset", "partition"):
        assert found[part] == schema.resolve(config)[part], part


def test_on_data_of_a_users_own_it_trains_as_long_and_as_large_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "my data.npz"
    np.savez(data, images=np.zeros((9, 8, 8, 1), np.uint8), labels=np.arange(9) % 3)
    config = config_file.load("own_npz:quick")
    config.dataset.name = str(data)
    (command,) = checked(next_steps.of_run(search(tmp_path / "run", config)), monkeypatch)
    found, _ = trained(command)
    wanted = schema.resolve(config)
    assert found["dataset"] == wanted["dataset"]
    assert found["partition"] == wanted["partition"]
    assert [found[name] for name in ("rounds", "local_epochs", "batch_size")] == [5, 2, 16]
    sizes = ("init_channels", "layers")
    assert [found["network"][name] for name in sizes] == [wanted["supernet"][n] for n in sizes]


def test_after_a_training_its_network_is_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = training(tmp_path / "my run")
    (folder / "report.html").touch()
    steps = next_steps.of_run(folder)
    assert [step.what for step in steps] == [
        f"look at {folder / 'report.html'}",
        "see the accuracy of each class, and the confusion matrix",
    ]
    quoted = shlex.quote(str(folder))
    assert checked(steps, monkeypatch) == [f"python -m fednas_jax.evaluate {quoted}"]
    record = json.loads((folder / "run.json").read_text())
    record["config"]["dataset"]["name"] = "mine.py:sentences"  # which may have no classes
    (folder / "run.json").write_text(json.dumps(record))
    assert next_steps.of_run(folder)[1].what == "evaluate the network on the test set"
    not_tested = training(tmp_path / "not tested", test=None)
    assert next_steps.of_run(not_tested) == []


def test_after_a_search_and_its_training_both_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = tmp_path / "both"
    search(workdir / "search")
    training(workdir / "train")
    steps = next_steps.of_run(workdir)
    show, evaluate = checked(steps, monkeypatch)
    assert "fednas_jax.main" not in f"{show}{evaluate}", "its genotype is trained already"
    assert evaluate == f"python -m fednas_jax.evaluate {workdir}"
    assert page.main(shlex.split(show)[3:]) == 0
    text = (workdir / "report.html").read_text()
    assert "<p>both/search, both/train</p>" in text


def test_after_a_study_its_runs_are_shown_on_one_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [runs.average_run(tmp_path / f"run {n}") for n in range(2)]
    (tmp_path / "curves.png").touch()
    look, show = next_steps.of_study(folders, tmp_path, picture="curves.png")
    assert look == next_steps.Step(f"look at {tmp_path / 'curves.png'}")
    assert page.main(shlex.split(show.command)[3:]) == 0
    assert "<h1>2 runs compared</h1>" in (tmp_path / "comparison.html").read_text()
    empty = next_steps.of_study([], tmp_path, picture="curves.png", table="a.md")
    assert empty == [], "the picture shows nothing"
    table = [next_steps.Step(f"look at {tmp_path / 'a.md'}")]
    assert next_steps.of_study(folders[:1], tmp_path, table="a.md") == table
    assert next_steps.of_study(folders * 7, tmp_path, table="a.md") == table, "too many for a line"
    monkeypatch.setattr(extras, "missing", lambda *features: ["altair"])
    assert next_steps.of_study(folders, tmp_path, table="a.md") == table


def test_after_a_study_of_many_runs_one_of_each_network_is_shown(tmp_path: Path) -> None:
    folders = [runs.average_run(tmp_path / f"run {n}") for n in range(13)]
    (one,) = next_steps.of_study(folders, tmp_path, table="a.md", firsts=folders[::6])
    assert one.what == "see one run of each network on one page"
    assert page.main(shlex.split(one.command)[3:]) == 0
    assert "<h1>3 runs compared</h1>" in (tmp_path / "comparison.html").read_text()


def test_a_sweep_suggests_once_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch)
    arguments = ["--config=mnist_fedavg:quick", "--config.rounds=1,2", f"--workdir={tmp_path}"]
    assert sweep.main(arguments) == 0
    said = capsys.readouterr().out
    assert said.count("Next:") == 1
    assert "\nThen see all runs on one page:\n  python -m fednas_jax.report.page " in said
    command = next(line for line in said.splitlines() if line.startswith("  python"))
    assert [Path(word).parent for word in shlex.split(command)[3:5]] == [tmp_path] * 2


def test_they_are_told_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    next_steps.tell([next_steps.Step("look at x"), next_steps.Step("train", "python -m y")])
    assert capsys.readouterr().out == "\nNext: look at x\nThen train:\n  python -m y\n"
    next_steps.tell([])
    assert capsys.readouterr().out == ""


def test_a_sweep_whose_runs_all_fail_suggests_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch)
    arguments = ["--config=mnist_fedavg:quick", f"--config.seed={FAILING_SEED}"]
    assert sweep.main([*arguments, "--config.rounds=1,2", f"--workdir={tmp_path}"]) == 2
    assert (tmp_path / "curves.png").exists()
    assert "Next:" not in capsys.readouterr().out
