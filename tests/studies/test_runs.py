"""Runs one after another: those that are compared have the same data."""

from pathlib import Path
from typing import Any

import pytest

from fednas_jax import config as schema
from fednas_jax.data import datasets, partition
from fednas_jax.runtime import layout
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import read_json, write_json
from fednas_jax.studies import runs
from tests.stand_in import stand_in
from tests.tiny import fedavg_config


def planned(name: str, **fields: Any) -> runs.Planned:
    config = fedavg_config()
    config.dataset.max_train_examples = config.dataset.max_test_examples = 0
    config.update_from_flattened_dict(fields)
    return runs.Planned(name, schema.resolve(config))


def record(folder: Path, examples: str) -> None:
    """Says in run.json of which examples a run was."""
    path = folder / layout.RUN_FILE
    write_json(path, {**read_json(path), "examples_sha256": examples})


def errors(plan: list[runs.Planned], workdir: Path) -> list[str]:
    return [outcome.error for outcome in runs.run_all(plan, workdir)]


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"optimizer.learning_rate": 0.2}, True),
        ({"seed": 1}, True),  # which cuts another test set, of the same examples
        ({"dataset.name": "mnist"}, False),
        ({"dataset.test_path": ""}, True),
        ({"dataset.max_test_examples": 5}, True),  # of the same examples
    ],
)
def test_runs_on_data_that_have_changed_are_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], refused: bool
) -> None:
    stand_in(monkeypatch)
    plan = [planned("one"), planned("two", **fields)]
    assert errors(plan, tmp_path) == ["", ""]  # of an earlier version: nothing is recorded
    for name in ("one", "two"):
        record(tmp_path / name, "ab")
    assert errors(plan, tmp_path) == ["", ""]
    record(tmp_path / "two", "cd")
    found = list(runs.run_all(plan, tmp_path))
    assert not found[0].error
    assert bool(found[1].error) == refused
    if refused:
        assert found[1].summary is None
        message = f"{tmp_path / 'two'}: its data are not those of one, although both are 'digits'"
        assert found[1].error.startswith(message)
        assert found[1].error.endswith("or another --workdir for all runs, is needed")


def test_runs_on_a_partition_that_has_changed_are_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    split = datasets.load("digits").train
    fields = {"partition.name": "file", "partition.path": str(tmp_path / "p.npz")}
    plan = [planned(name, **fields) for name in ("one", "two")]
    assert errors(plan, tmp_path) == ["", ""]
    for name, seed in (("one", 0), ("two", 0)):
        dealt = partition.make("homo", split, num_clients=3, seed=seed)
        partition.save(tmp_path / name / layout.INDICES_FILE, dealt, split)
    assert errors(plan, tmp_path) == ["", ""]
    dealt = partition.make("homo", split, num_clients=3, seed=1)
    partition.save(tmp_path / "two" / layout.INDICES_FILE, dealt, split)
    one, two = errors(plan, tmp_path)
    assert not one
    assert two.startswith(
        f"{tmp_path / 'two'}: its partition is not that of one, although both are"
    )


def test_unknown_data_of_the_last_run_are_refused_before_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    for wrong, message in (
        ("digts", r"^two: config\.dataset\.name: unknown data set 'digts'; did you mean 'digits'"),
        ("no/data.npz", r"^two: config\.dataset\.name: no/data\.npz does not exist; an \.npz file"),
    ):
        plan = [planned("one"), planned("two", **{"dataset.name": wrong})]
        with pytest.raises(UserError, match=message):
            next(runs.run_all(plan, tmp_path))
        assert not list(tmp_path.iterdir())


def test_data_of_a_finished_run_need_not_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    data = tmp_path / "data.npz"
    data.touch()
    plan = [planned("one", **{"dataset.name": str(data)})]
    assert errors(plan, tmp_path / "runs") == [""]
    data.unlink()
    assert errors(plan, tmp_path / "runs") == [""]
