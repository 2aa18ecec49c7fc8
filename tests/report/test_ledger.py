"""Rows beside the checkpoints: what a mark stands for, and which damage it survives."""

import json
from pathlib import Path
from typing import Any

import pytest

from fednas_jax.report.ledger import KEY, Ledger, is_of_round, with_rows
from fednas_jax.runtime.errors import UserError


def line(number: int) -> bytes:
    return json.dumps({"round": number, "test_accuracy": number / 7}).encode() + b"\n"


def lines(*numbers: int) -> bytes:
    return b"".join(map(line, numbers))


def rounds(extra: Any, *paths: Path) -> list[int] | None:
    found = with_rows(extra, *paths)
    return None if found is None else [row["round"] for row in found["rows"]]


def test_a_mark_stands_for_the_rows_up_to_it(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "rows.jsonl"
    ledger, marks = Ledger(path, b""), []
    assert not path.parent.exists()
    for number in (1, 2, 3):
        ledger.append(line(number))
        if number != 2:  # no checkpoint after that one
            marks.append({KEY: ledger.mark(), "costs": 3})
    assert path.read_bytes() == lines(1, 2, 3)
    assert with_rows(marks[0], path) == {"costs": 3, "rows": [json.loads(line(1))]}
    assert rounds(marks[1], path) == [1, 2, 3]


@pytest.mark.parametrize("done", [0, 1, 3])
@pytest.mark.parametrize("held", [(), (1, 2, 3), (1, 2, 9), (7,)])
def test_going_on(done: int, held: tuple[int, ...], tmp_path: Path) -> None:
    """Whatever the file holds, and rounds that are done again leave no trace."""
    path, so_far = tmp_path / "rows.jsonl", lines(*range(1, done + 1))
    path.write_bytes(lines(*held) + b'{"half')
    ledger = Ledger(path, so_far)
    assert path.read_bytes().startswith(so_far)
    ledger.append(line(4))
    mark = {KEY: ledger.mark()}
    assert path.read_bytes() == so_far + line(4)
    assert rounds(mark, path) == [*range(1, done + 1), 4]


DAMAGES: dict[str, Any] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "flipped": lambda path: path.write_bytes(b"[" + path.read_bytes()[1:]),
    "missing": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_either_file_serves(damage: str, tmp_path: Path) -> None:
    one, two = tmp_path / "rows.jsonl", tmp_path / "metrics.jsonl"
    ledger = Ledger(one, lines(1))
    ledger.append(line(2))
    mark = {KEY: ledger.mark()}
    two.write_bytes(lines(1, 2, 3))
    for harmed, other in ((one, two), (two, one)):
        whole = harmed.read_bytes()
        if harmed == two:
            two.write_bytes(lines(1, 2))  # else what is damaged is behind the mark
        DAMAGES[damage](harmed)
        assert rounds(mark, harmed) is None
        assert rounds(mark, one, two) == rounds(mark, other) == [1, 2]
        if harmed.is_dir():
            harmed.rmdir()
        harmed.write_bytes(whole)


def test_rows_of_an_earlier_version_are_in_the_checkpoint_itself(tmp_path: Path) -> None:
    extra = {"rows": [{"round": 1}], "costs": 3}
    assert with_rows(extra, tmp_path / "rows.jsonl") == extra
    assert with_rows(None) is None


@pytest.mark.parametrize(
    "mark", [None, [], {}, {"bytes": -1}, {"bytes": 1e3}, {"bytes": 10**30, "sha256": 1}]
)
def test_what_is_no_mark(mark: Any, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(lines(1))
    assert with_rows({KEY: mark}, tmp_path / "rows.jsonl") is None


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").mkdir()
    ledger = Ledger(tmp_path / "rows.jsonl", b"")
    told = r"rows\.jsonl: cannot be written \(Is a directory\)"
    with pytest.raises(UserError, match=told):
        ledger.append(line(1))
    with pytest.raises(UserError, match=told):
        ledger.mark()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"rows\.jsonl: cannot be written"):
        Ledger(tmp_path / "file" / "rows.jsonl", lines(1))


WHOLE = {"rows": [{"round": 1}, {"round": 2}], "costs": {}, "best_genotype": None}


@pytest.mark.parametrize(
    "extra",
    [5, {}, None, *({k: v for k, v in WHOLE.items() if k != name} for name in WHOLE),
     WHOLE | {"rows": []}, WHOLE | {"rows": [2]}, WHOLE | {"rows": {}}, WHOLE | {"costs": 1}],
)  # fmt: skip
def test_what_no_run_says_of_a_round(extra: Any) -> None:
    assert not is_of_round(extra, 2)


def test_rows_of_another_round_are_not_a_checkpoints() -> None:
    assert is_of_round(WHOLE, 2)
    assert not is_of_round(WHOLE, 3)
    assert not is_of_round(WHOLE, 1)
