"""Whole runs on data whose examples belong to clients, and the round that such runs choose."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fednas_jax import config as schema
from fednas_jax.checkpoints import model_file
from fednas_jax.checkpoints.checkpoint import Checkpoints
from fednas_jax.data import datasets
from fednas_jax.experiment import assembly, runner
from fednas_jax.experiment.rounds import Experiment
from fednas_jax.federated.round import RoundEngine
from fednas_jax.report import run_folder, run_record
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import read_json
from tests.tiny import fedavg_config

IDS = (10, 20, 30, 40, 55)
RULES = ("cut_by", "best_round_by")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits of five clients: 60, 20, 10, 1 and 1."""
    digits = datasets.load("digits").train
    path = tmp_path_factory.mktemp("data") / "own.npz"
    client = np.repeat(IDS, (60, 20, 10, 1, 1))[::-1]
    np.savez(path, images=digits.images[:92], labels=digits.labels[:92], client=client)
    return path


def config(data: Path) -> Any:
    """Five rounds that change next to nothing, so that their accuracies are equal."""
    config = fedavg_config()
    config.dataset.name, config.dataset.max_train_examples = str(data), 0
    config.dataset.max_test_examples = 0
    config.partition.name, config.clients_per_round = "natural", 0
    config.held_out_every = config.checkpoint_every = 1
    config.optimizer.learning_rate = 1e-30
    config.report.tensorboard = config.report.plots = False
    return config


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clients") / "run"
    runner.run(config(data), folder)
    return folder


def interrupted(run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, rounds: int) -> None:
    """A run that is stopped after so many rounds."""
    engine, begun = RoundEngine.run, []

    def stops(*arguments: Any, **named: Any) -> Any:
        begun.append(1)
        if len(begun) > rounds:
            raise KeyboardInterrupt
        return engine(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(RoundEngine, "run", stops)
        with pytest.raises(KeyboardInterrupt):
            runner.run(run, folder)


def test_every_client_is_there_by_the_name_that_the_data_has(finished: Path) -> None:
    record = json.loads((finished / "partition.json").read_text())
    assert record["client_ids"] == list(IDS)
    # A fifth of each client goes into the test set, and nothing of one with one example.
    assert [sum(row) for row in record["class_counts"]] == pytest.approx([48, 16, 8, 1, 1], abs=1)
    partition = run_folder.read_partition(finished)
    assert partition is not None
    assert [partition.client(k) for k in range(5)] == [str(one) for one in IDS]


def test_clients_have_the_names_that_the_data_has(data: Path, tmp_path: Path) -> None:
    with np.load(data) as arrays:
        named = {name: arrays[name] for name in arrays.files}
    named["client"] = np.array([f"site {one}" for one in named["client"]])
    np.savez(tmp_path / "named.npz", **named)
    begun = config(tmp_path / "named.npz")
    population, _ = assembly.prepare(schema.resolve(begun))
    assert population.client_names() == tuple(f"site {one}" for one in IDS)
    labels, names = population.dataset.train.labels, population.dataset.class_names
    called = list(population.client_names())
    run_folder.write_partition(tmp_path, population.partition, labels, names, None, called)
    partition = run_folder.read_partition(tmp_path)
    assert partition is not None
    assert [partition.client(k) for k in range(5)] == called
    # A client that is left without examples takes its name with it.
    begun.dataset.max_train_examples = 4
    population, _ = assembly.prepare(schema.resolve(begun))
    left = np.unique(population.dataset.train.client)
    assert population.client_names() == tuple(population.dataset.client_names[k] for k in left)
    gone = sorted({f"site {one}" for one in IDS} - set(population.client_names()))
    assert gone
    assert any(f"(`client` {', '.join(map(repr, gone))})" in line for line in population.remarks)


def test_run_json_has_what_selects_the_best_round_and_what_was_said(finished: Path) -> None:
    run = read_json(finished / "run.json")
    held_out = [len(n) for n in assembly.prepare(schema.resolve(run["config"]))[0].held_out]
    assert run["held_out"] == {
        "images": sum(held_out),
        "clients": sum(n > 0 for n in held_out),
        "of_clients": 5,
    }
    assert any("the best round is selected by" in line for line in run["remarks"])
    assert run["best_round_by"] == ["held_out_accuracy", "held_out_loss", "round"]
    assert run["cut_by"] == "client"


def test_what_is_left_out_is_said_once_before_the_rounds(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config(data)
    run.dataset.max_train_examples = 4
    monkeypatch.setattr(Experiment, "run", lambda self: self._records.close() or {})
    runner.run(run, tmp_path / "run")
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("fednas_jax: warning: config.") for line in lines)
    assert sum("max_train_examples: 4 leaves" in line for line in lines) == 2  # clients, classes
    assert sum("holds out no examples" in line for line in lines) == 1


def test_of_rounds_of_the_same_accuracy_the_last_of_the_least_loss(finished: Path) -> None:
    rows = read_rows(finished / "metrics.jsonl")[1:]
    assert len({row["held_out_accuracy"] for row in rows}) == 1  # or this shows nothing
    best = min(rows, key=lambda row: (row["held_out_loss"], -row["round"]))["round"]
    summary = read_json(finished / "summary.json")
    assert summary["best_round"] == best
    assert summary["tied_rounds"] == [number for number in range(1, 6) if number != best]
    assert summary["tie_decided_by"] in ("held_out_loss", "round")
    assert Checkpoints(finished / "checkpoints").best_round() == best


def test_a_run_that_goes_on_chooses_the_same_round(
    data: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    interrupted(config(data), folder, monkeypatch, rounds=3)
    again = runner.run(config(data), folder)
    first = read_json(finished / "summary.json")
    for name in ("best_round", "tied_rounds", "tie_decided_by", "test_accuracy"):
        assert again[name] == first[name]
    assert Checkpoints(folder / "checkpoints").best_round() == first["best_round"]


def test_a_run_of_an_earlier_version_ends_by_the_rules_it_began_with(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, run = tmp_path / "run", config(data)
    with monkeypatch.context() as patch:
        rules = {"cut_by": "class", "best_round_by": ["held_out_accuracy"]}
        patch.setattr(run_record, "rules_of", lambda run: rules)
        interrupted(run, folder, monkeypatch, rounds=3)
    recorded = read_json(folder / "run.json")
    (folder / "run.json").write_text(
        json.dumps({name: value for name, value in recorded.items() if name not in RULES})
    )
    assert run_folder.read(folder).summary["best_round"] == 1
    summary = runner.run(run, folder)
    assert (summary["best_round"], summary["tied_rounds"]) == (1, [2, 3, 4, 5])
    assert Checkpoints(folder / "checkpoints").best_round() == 1
    assert run_folder.read(folder).summary["best_round"] == 1


def test_rules_that_this_version_does_not_know(finished: Path) -> None:
    run = read_json(finished / "run.json") | {"best_round_by": ["test_accuracy"]}
    with pytest.raises(UserError, match=r"run\.json: best_round_by is \['test_accuracy'\], which"):
        run_record.rules_of(run)


@pytest.mark.parametrize("cut_by", ["client", "class"])
def test_a_model_is_tested_on_what_its_run_did_not_learn_from(data: Path, cut_by: str) -> None:
    """Also one of an earlier version, which cut otherwise and recorded nothing of it."""
    resolved = schema.resolve(config(data))
    cut = assembly.load_dataset(resolved, cut_by)
    model = model_file.to_json(assembly.describe_model(resolved, cut))
    assert model["data"].get("cut_by") == (None if cut_by == "class" else cut_by)
    again = datasets.load(**{"cut_by": "class"} | model["data"])
    np.testing.assert_array_equal(again.test.images, cut.test.images)
    other = assembly.load_dataset(resolved, "class" if cut_by == "client" else "client")
    assert not np.array_equal(other.test.images, cut.test.images)
