"""What checkpoint.json says, and that no file is trusted without its checksum."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
import pytest

from fednas_jax.checkpoints import checkpoint, checkpoint_folder
from fednas_jax.checkpoints.checkpoint import read_saved
from fednas_jax.runtime.errors import UserError
from tests.checkpoints.test_checkpoint import assert_same_bits, make_state, saved


def rewrite_facts(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes checkpoint.json, and its checksum."""
    facts, sums = (path / f"{name}.json" for name in ("checkpoint", "checksums"))
    changed = json.loads(facts.read_text())
    change(changed)
    facts.write_text(json.dumps(changed))
    sums.write_text(
        json.dumps({**json.loads(sums.read_text()), facts.name: checkpoint_folder._sha256(facts)})
    )


@pytest.mark.parametrize("number", [99, 0, "one"])
def test_a_later_format(tmp_path: Path, number: object) -> None:
    checkpoints, _ = saved(tmp_path, 1)
    rewrite_facts(tmp_path / "000001", lambda facts: facts.update(format=number))
    with pytest.raises(UserError, match=f"written in format {number}; format 2 or an earlier"):
        checkpoints.restore_latest(make_state())


def test_an_earlier_format_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints, _ = saved(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "FORMAT", 3)
    restored = checkpoints.restore_latest(make_state())
    assert restored is not None
    assert_same_bits(restored.state.params, make_state(1).params)


@pytest.mark.parametrize("name", ["round", "leaves", "keys", "extra", "best_round"])
def test_facts_that_do_not_say_all(tmp_path: Path, name: str) -> None:
    checkpoints, lines = saved(tmp_path, 2)
    rewrite_facts(tmp_path / "000002", lambda facts: facts.pop(name))
    restored = checkpoints.restore_latest(make_state())
    assert restored is not None
    assert restored.round == 1
    assert lines[0].startswith(f"{tmp_path / '000002'}: checkpoint.json ")
    assert len(lines) == 1


def test_examples_are_held_against_their_checksum(tmp_path: Path) -> None:
    """Also where somebody has put them there, with no checksum of their own."""
    checkpoints = checkpoint.Checkpoints(tmp_path)
    checkpoints.save(1, make_state(), None, is_best=True, examples=b"examples")
    path = tmp_path / "000001"
    assert (path / "examples.npz").read_bytes() == b"examples"
    checkpoint_folder.verify(path)
    with pytest.raises(
        checkpoint_folder.Damaged, match=r"examples\.npz does not have the expected content"
    ):
        checkpoint_folder.read_learnt(path)
    sums = json.loads((path / "checksums.json").read_text())
    del sums["examples.npz"]
    (path / "checksums.json").write_text(json.dumps(sums))
    with pytest.raises(checkpoint_folder.Damaged, match=r"has no checksum of examples\.npz"):
        checkpoint_folder.verify(path)
    (path / "examples.npz").unlink()
    checkpoint_folder.verify(path)
    assert checkpoint_folder.read_learnt(path) is None


def sums_left(path: Path, keep: Callable[[str], bool]) -> None:
    """Takes the checksums of all other files away."""
    file = path / "checksums.json"
    sums = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in sums.items() if keep(name)}))


@pytest.mark.parametrize(
    ("keep", "lacks"),
    [
        (lambda name: False, "checkpoint.json"),
        (lambda name: name == "checkpoint.json", "model.json"),
        (lambda name: not name.startswith("state/"), "state/_CHECKPOINT_METADATA"),
        (lambda name: name != "state/manifest.ocdbt", "state/manifest.ocdbt"),
    ],
)
def test_a_file_without_its_checksum_is_not_trusted(
    tmp_path: Path, keep: Callable[[str], bool], lacks: str
) -> None:
    checkpoints, lines = saved(tmp_path, 2)
    path = tmp_path / "000002"
    sums_left(path, keep)
    restored = checkpoints.restore_latest(make_state())
    assert restored is not None
    assert restored.round == 1
    assert lines == [f"{path}: checksums.json has no checksum of {lacks}; it is skipped"]
    with pytest.raises(UserError, match=f"no checksum of {lacks}; a whole checkpoint is needed"):
        read_saved(path, ("params",))


def test_arrays_that_are_gone_with_their_checksums_are_missed(tmp_path: Path) -> None:
    checkpoints, lines = saved(tmp_path, 2)
    path = tmp_path / "000002"
    sums_left(path, lambda name: not name.startswith("state/"))
    shutil.rmtree(path / "state")
    restored = checkpoints.restore_latest(make_state())
    assert restored is not None
    assert restored.round == 1
    assert lines == [
        f"{path}: checksums.json has no checksum of state/manifest.ocdbt; it is skipped"
    ]


@pytest.mark.parametrize("error", [ValueError("NOT_FOUND"), KeyError("w"), FileNotFoundError()])
def test_arrays_that_orbax_cannot_read_are_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    # As where a file is gone with its checksum. Orbax itself leaves threads that complain later.
    checkpoints, lines = saved(tmp_path, 2)
    read = ocp.Checkpointer.restore

    def restore(self: Any, folder: Path, *arguments: Any, **options: Any) -> Any:
        if "000002" in str(folder):
            raise error
        return read(self, folder, *arguments, **options)

    monkeypatch.setattr(ocp.Checkpointer, "restore", restore)
    restored = checkpoints.restore_latest(make_state())
    assert restored is not None
    assert restored.round == 1
    assert lines == [f"{tmp_path / '000002'}: its arrays cannot be read; it is skipped"]
    with pytest.raises(UserError, match=r"000002: its arrays cannot be read; a whole checkpoint"):
        read_saved(tmp_path / "000002", ("params",))


def test_a_checksum_of_what_cannot_be_a_file(tmp_path: Path) -> None:
    checkpoints, lines = saved(tmp_path, 2)
    sums = tmp_path / "000002" / "checksums.json"
    sums.write_text(json.dumps(json.loads(sums.read_text()) | {"a\0b": "0"}))
    restored = checkpoints.restore_latest(make_state())
    assert restored is not None
    assert restored.round == 1
    assert "cannot be read (embedded null byte); it is skipped" in lines[0]


def test_what_others_put_beside_the_files_does_no_harm(tmp_path: Path) -> None:
    checkpoints, lines = saved(tmp_path, 1)
    (tmp_path / "000001" / "notes.txt").write_text("of mine")
    (tmp_path / "000001" / "state" / ".DS_Store").write_bytes(b"\0")
    restored = checkpoints.restore_latest(make_state())
    assert restored is not None
    assert_same_bits(restored.state.params, make_state(1).params)
    assert lines == []
