"""What checkpoint.json says: of which format it is, and whether it says all that is needed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fednas_jax import checkpoint, checkpoint_folder
from fednas_jax.errors import UserError
from tests.test_checkpoint import assert_same_bits, make_state, saved


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
    with pytest.raises(UserError, match=f"written in format {number}; format 2 is needed, or one"):
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
    with pytest.raises(checkpoint_folder.Damaged, match=r"examples\.npz is not what was written"):
        checkpoint_folder.read_learnt(path)
    sums = json.loads((path / "checksums.json").read_text())
    del sums["examples.npz"]
    (path / "checksums.json").write_text(json.dumps(sums))
    with pytest.raises(checkpoint_folder.Damaged, match=r"examples\.npz is cut short or has been"):
        checkpoint_folder.verify(path)
    (path / "examples.npz").unlink()
    checkpoint_folder.verify(path)
    assert checkpoint_folder.read_learnt(path) is None
