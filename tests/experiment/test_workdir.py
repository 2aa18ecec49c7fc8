"""The workdir: who may go on in it, one process at a time, and one line for what is wrong."""

import errno
import fcntl
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fednas_jax import config as schema
from fednas_jax.data.datasets import Dataset, Split
from fednas_jax.experiment import workdir
from fednas_jax.runtime.errors import UserError

CONFIG = schema.to_json(schema.default())
FACTS = {"config": CONFIG, "clients_per_chunk": 1, "data_sha256": "ab"}


def changed_config(**values: Any) -> dict[str, Any]:
    config = schema.default()
    config.update(values)
    return schema.to_json(config)


def run_file(folder: Path) -> Any:
    return json.loads((folder / "run.json").read_text())


def test_folders_are_made(tmp_path: Path) -> None:
    with workdir.opened(tmp_path / "a" / "run", ("genotypes", "gates")):
        made = {path.name for path in (tmp_path / "a" / "run").iterdir() if path.is_dir()}
    assert made == {"genotypes", "gates", "plots"}
    with workdir.opened(tmp_path / "other"):
        assert [path.name for path in (tmp_path / "other").iterdir() if path.is_dir()] == ["plots"]


def test_second_process_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    with (
        workdir.opened(tmp_path),
        pytest.raises(UserError, match="another process is running"),
        workdir.opened(tmp_path),
    ):
        pass
    with workdir.opened(tmp_path):
        pass


def test_a_file_system_without_locks_is_named_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match=r"cannot lock \(No locks"), workdir.opened(tmp_path):
        pass


@pytest.mark.parametrize("name", ["plots", "genotypes"])
def test_a_file_in_the_way_of_a_folder_is_named_and_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with (
        pytest.raises(UserError, match=rf"{name} cannot be made a folder \(File exists\)"),
        workdir.opened(tmp_path, ("genotypes",)),
    ):
        pass
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("below", ["file/run", "x" * 300])
def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"), workdir.opened(tmp_path / below):
        pass


def test_a_folder_that_cannot_be_looked_into_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, **_: Any) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\)"):
        workdir.recorded_run(tmp_path, CONFIG)


def test_nothing_is_recorded_in_a_new_folder(tmp_path: Path) -> None:
    assert workdir.recorded_run(tmp_path, CONFIG) is None
    assert workdir.recorded_run(tmp_path / "none", CONFIG) is None


@pytest.mark.parametrize("name", ["metrics.jsonl", "summary.json", "checkpoints"])
def test_results_without_a_record_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(UserError, match=rf"holds {name} but no run\.json"):
        workdir.recorded_run(tmp_path, CONFIG)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        json.dumps({"config": CONFIG, "starts": []}),
        json.dumps({"config": CONFIG, "clients_per_chunk": 0, "starts": []}),
        json.dumps({"config": CONFIG, "clients_per_chunk": 1}),
    ],
)
def test_a_damaged_record_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json: .*; another workdir is needed$"):
        workdir.recorded_run(tmp_path, CONFIG)


def test_each_start_is_recorded_with_what_it_changes(tmp_path: Path) -> None:
    workdir.write_run(tmp_path, None, FACTS)
    first = workdir.recorded_run(tmp_path, CONFIG)
    assert first is not None
    assert {name: first[name] for name in FACTS} == FACTS
    config = changed_config(clients_per_chunk=2, checkpoint_every=5)
    again = workdir.recorded_run(tmp_path, config)
    workdir.write_run(tmp_path, again, FACTS | {"config": config, "clients_per_chunk": 2})
    record = run_file(tmp_path)
    assert {name: record[name] for name in FACTS} == FACTS
    before, after = record["starts"]
    assert (before["clients_per_chunk"], before["changed"]) == (1, {})
    assert after["clients_per_chunk"] == 2
    assert after["changed"] == {"clients_per_chunk": 2, "checkpoint_every": 5}
    assert {"time", "versions", "device", "devices"} <= after.keys()


def test_another_config_is_refused(tmp_path: Path) -> None:
    workdir.write_run(tmp_path, None, FACTS)
    with pytest.raises(UserError, match=r"config \(config\.local_epochs: 5 there, 7 here\)"):
        workdir.recorded_run(tmp_path, changed_config(local_epochs=7))


def test_other_data_are_refused(tmp_path: Path) -> None:
    workdir.check_same_data(tmp_path, FACTS, "ab")
    with pytest.raises(UserError, match="data or its partition has changed"):
        workdir.check_same_data(tmp_path, FACTS, "cd")


@pytest.mark.parametrize(
    ("path", "recorded", "told"),
    [("test.npz", {}, True), ("", {}, False), ("test.npz", {"cut_by": "client"}, False)],
)
def test_an_earlier_run_is_told_how_test_labels_are_matched_now(
    tmp_path: Path, path: str, recorded: dict[str, Any], told: bool
) -> None:
    run = FACTS | {"config": {"dataset": {"test_path": path}}} | recorded
    with pytest.raises(UserError, match="has changed since the run in") as caught:
        workdir.check_same_data(tmp_path, run, "cd")
    assert ("now they are matched by class_names" in str(caught.value)) == told


def test_fingerprint_changes_with_every_part() -> None:
    def split(value: int) -> Split:
        images = np.full((2, 1, 1, 1), value, np.uint8)
        return Split(images, np.array([0, value], np.int32), None)

    def dataset(train: int, test: int) -> Dataset:
        return Dataset("x", split(train), split(test), 2, ("a", "b"), (0.0,), (1.0,))

    one, other = (np.array([0]), np.array([1])), (np.array([0, 1]), np.array([], int))
    made = [
        workdir.fingerprint(dataset(*values), clients)
        for values, clients in [((0, 0), one), ((1, 0), one), ((0, 1), one), ((0, 0), other)]
    ]
    assert len(set(made)) == 4
    assert workdir.fingerprint(dataset(0, 0), one) == made[0]


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["python", "-m", "fednas_jax.main", "a b"], "python -m fednas_jax.main 'a b'"),
        (["python", "-X", "dev", "-m", "fednas_jax", "search"], "python -m fednas_jax search"),
        (["python", "/x/bin/fednas-jax", "train", "--config=c"], "fednas-jax train --config=c"),
        (["python", "-m", "pytest"], ""),
        (["python", "-m", "fednas_jax_more"], ""),
        (["python", "-m"], ""),
        (["python"], ""),
    ],
)  # fmt: skip
def test_the_command_of_the_process_is_recorded(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], command: str
) -> None:
    monkeypatch.setattr(sys, "orig_argv", arguments)
    assert workdir._command() == command
