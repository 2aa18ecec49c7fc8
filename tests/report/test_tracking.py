"""TensorBoard and Weights & Biases have every round once, under the names asked for."""

import errno
import importlib.util
import itertools
import json
import math
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from fednas_jax.report import tracking
from fednas_jax.report.tracking import TensorBoardWriter, WandbWriter
from fednas_jax.runtime.errors import UserError

ROWS = [{"round": i, "train_loss": 2.0 / (i + 1), "test_accuracy": None} for i in range(3)]
FULL = {
    "round": 1, "train_accuracy": 0.75, "train_loss": 0.5, "test_accuracy": 0.5, "test_loss": 1.0,
    "normal_convolutions": 3, "reduce_convolutions": 4, "held_out_accuracy_of_clients": [0.5],
}  # fmt: skip


def test_names_are_ours_or_the_originals() -> None:
    ours = {k: v for k, v in FULL.items() if k not in ("round", "held_out_accuracy_of_clients")}
    assert tracking.scalars(FULL, "ours") == ours
    assert tracking.scalars(FULL, "originals") == {
        "Train Accuracy": 0.75, "Train Loss": 0.5, "Validation Accuracy": 0.5,
        "Validation Loss": 1.0, "search_train_valid_acc_gap": 0.25, "cnn_count": 7,
        "searching_cnn_count(34)": 0.5, "normal_convolutions": 3, "reduce_convolutions": 4,
    }  # fmt: skip


def events(folder: Path) -> list[tuple[int, str, float]]:
    """(step, name, value) of the event files, read as TFRecords."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in folder.glob("events.out.tfevents.*"):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
            content = content[16 + length :]
    return found


def test_tensorboard_has_every_round_once_after_resuming(tmp_path: Path) -> None:
    writer = TensorBoardWriter(tmp_path / "tensorboard")
    for row in ROWS:
        writer.append(row)
    writer.close()
    expected = [(0, "train_loss", 2.0), (1, "train_loss", 1.0)]
    assert events(tmp_path / "tensorboard")[:2] == expected
    resumed = TensorBoardWriter(tmp_path / "tensorboard", ROWS[:1])
    resumed.append({"round": 1, "train_loss": 1.0, "test_accuracy": math.nan})
    resumed.close()
    assert events(tmp_path / "tensorboard") == expected


def test_tensorboard_does_not_mind_a_clock_that_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By years, again and again; a row has more numbers than fit into a queue."""
    clock = itertools.cycle([2e9, 1e9, 1.5e9, 5e8])
    monkeypatch.setattr(time, "time", lambda: next(clock))
    writer = TensorBoardWriter(tmp_path)
    for number in range(3):
        writer.append({"round": number} | {f"value_{i}": float(i) for i in range(20)})
    writer.close()
    expected = [(n, f"value_{i}", float(i)) for n in range(3) for i in range(20)]
    assert events(tmp_path) == expected


def test_tensorboard_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = TensorBoardWriter(tmp_path)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer._events, "write_event", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device; free some"):
        writer.append(ROWS[0])
    writer.close()


def test_tensorboard_in_a_folder_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        TensorBoardWriter(tmp_path / "file" / "tensorboard")


def offline_records(folder: Path) -> list[list[Any]]:
    """The protobuf records of each offline run, oldest first: a log as LevelDB writes it."""
    from wandb.proto.wandb_internal_pb2 import Record

    runs = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        content, place, payload, records = path.read_bytes(), 7, b"", []
        while place + 7 <= len(content):
            if 32768 - place % 32768 < 7:  # what is left of a block is padding
                place += 32768 - place % 32768
                continue
            _, length, kind = struct.unpack("<IHB", content[place : place + 7])
            payload += content[place + 7 : place + 7 + length]
            place += 7 + length
            if kind in (1, 4):  # whole, or the last part
                records.append(Record.FromString(payload))
                payload = b""
        runs.append(records)
    return runs


def history(records: list[Any]) -> dict[int, dict[str, Any]]:
    """Step -> what was logged there."""
    found = {}
    for record in records:
        if record.HasField("history"):
            items = {
                item.key or ".".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            found[items["_step"]] = {k: v for k, v in items.items() if not k.startswith("_")}
    return found


def test_wandb_offline_has_every_round_once_in_one_run(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="the group dev installs it")
    start = {"time": "2026-01-02T03:04:05+00:00"}
    record = {"config": {"rounds": 3}, "starts": [start], "data_sha256": "0"}
    (tmp_path / "run.json").write_text(json.dumps(record))
    first = WandbWriter(tmp_path, "offline", "trial", names="originals")
    first.append(FULL | {"round": 0})
    first.append(FULL | {"genotype": "Genotype(normal=...)"})
    first.close()
    second = WandbWriter(
        tmp_path, "offline", "trial", [FULL | {"round": 0}, FULL], names="originals"
    )
    second.append(FULL)
    second.append(FULL | {"round": 2, "train_loss": 0.25})
    second.close()
    runs = offline_records(tmp_path)
    logged = [history(records) for records in runs]
    expected = tracking.scalars(FULL, "originals")
    found = expected | {"genotype": "Genotype(normal=...)"}
    assert logged == [{0: expected, 1: found}, {2: expected | {"Train Loss": 0.25}}]
    headers = [next(r.run for r in records if r.HasField("run")) for records in runs]
    assert {(run.project, run.display_name) for run in headers} == {("trial", tmp_path.name)}
    assert len({run.run_id for run in headers}) == 1
    config = {item.key: item.value_json for item in headers[0].config.update}
    assert config["rounds"] == "3"


def test_wandb_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    tracking.check({"wandb": "offline"})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    tracking.check({"wandb": "off"})
    with pytest.raises(UserError, match=r"config.report.wandb: 'offline', but wandb is not"):
        tracking.check({"wandb": "offline"})
