"""Which run of several stages counts."""

import json
from pathlib import Path
from typing import Any

import pytest

from fednas_jax.runtime import layout
from fednas_jax.runtime.errors import UserError


@pytest.mark.parametrize(
    ("made", "counts"),
    [(["."], "."), (["search", "train"], "train"), (["train"], "train"), ([], "."),
     ([".", "search"], ".")],
)  # fmt: skip
def test_which_run_counts(tmp_path: Path, made: list[str], counts: str) -> None:
    for name in made:
        (tmp_path / name / "checkpoints" / "000003").mkdir(parents=True)
    assert layout.last(tmp_path) == tmp_path / counts


@pytest.mark.parametrize("begun", [False, True])
def test_a_training_without_a_checkpoint_is_not_the_search(tmp_path: Path, begun: bool) -> None:
    (tmp_path / "search" / "checkpoints" / "000003").mkdir(parents=True)
    if begun:
        (tmp_path / "train" / "checkpoints" / ".tmp-1-5").mkdir(parents=True)
    with pytest.raises(UserError, match=r"training has no checkpoint yet; .*search is needed$"):
        layout.last(tmp_path)


def recorded(workdir: Path, **kinds: str) -> None:
    """Writes stages.json; a name's `_` stands for a slash."""
    workdir.mkdir(parents=True, exist_ok=True)
    stages = [{"name": n.replace("_", "/"), "kind": kind} for n, kind in kinds.items()]
    (workdir / "stages.json").write_text(json.dumps({"stages": stages}))


def checkpoint(folder: Path, *, finished: bool = False) -> None:
    (folder / "checkpoints" / "000003").mkdir(parents=True)
    if finished:
        (folder / "summary.json").write_text("{}")


def test_of_recorded_stages_the_last_with_a_model_counts(tmp_path: Path) -> None:
    recorded(tmp_path, search="rounds", pick="server", train_one="rounds", train_two="rounds")
    assert layout.last(tmp_path) == tmp_path, "nothing has begun"
    needed = r"its stage train/two has no checkpoint yet; for the model of stage {} .*{} is needed$"
    for name in ("search", "train/one"):
        checkpoint(tmp_path / name)
        with pytest.raises(UserError, match=needed.format(name, name)):
            layout.last(tmp_path)
    checkpoint(tmp_path / "train/two")
    assert layout.last(tmp_path) == tmp_path / "train/two"
    assert [s.name for s in layout.stages(tmp_path) if s.has_model] == [
        "search", "train/one", "train/two",
    ]  # fmt: skip


def test_what_the_server_saves_counts_when_it_is_finished(tmp_path: Path) -> None:
    recorded(tmp_path, search="rounds", extract="server")
    checkpoint(tmp_path / "search")
    checkpoint(tmp_path / "extract")
    with pytest.raises(UserError, match="its stage extract has no checkpoint yet; for the model"):
        layout.last(tmp_path)
    (tmp_path / "extract" / "summary.json").write_text("{}")
    assert layout.last(tmp_path) == tmp_path / "extract"


def test_a_server_that_saves_no_model_is_passed_over(tmp_path: Path) -> None:
    recorded(tmp_path, search="rounds", score="server")
    checkpoint(tmp_path / "search")
    (tmp_path / "score").mkdir()
    (tmp_path / "score" / "summary.json").write_text("{}")
    assert layout.last(tmp_path) == tmp_path / "search"


def test_stages_of_a_stage_are_among_those_of_the_run(tmp_path: Path) -> None:
    recorded(tmp_path / "both", search="rounds", train="rounds")
    recorded(tmp_path / "both" / "train", first="rounds", pick="server")
    found = [(s.name, s.folder, s.kind) for s in layout.stages(tmp_path / "both")]
    assert found == [
        ("search", tmp_path / "both/search", "rounds"),
        ("train/first", tmp_path / "both/train/first", "rounds"),
        ("train/pick", tmp_path / "both/train/pick", "server"),
    ]
    for name, title in (("search", "both/search"), ("train/pick", "both/train/pick"),
                        ("train/other", "other"), ("", "both")):  # fmt: skip
        assert layout.title(tmp_path / "both" / name) == title


def test_titles_of_an_earlier_version_have_no_record(tmp_path: Path) -> None:
    names = ("run", "run/search", "run/train", "run/other")
    assert [layout.title(tmp_path / n) for n in names] == [
        "run",
        "run/search",
        "run/train",
        "other",
    ]


def test_rounds_that_can_be_drawn(tmp_path: Path) -> None:
    assert layout.of_rounds(tmp_path) == tmp_path
    recorded(tmp_path, search="rounds", pick="server", train="rounds")
    assert layout.of_rounds(tmp_path) == tmp_path
    for name in ("search", "train"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text("")
        assert layout.of_rounds(tmp_path) == tmp_path / name


@pytest.mark.parametrize(
    "record",
    [3, {}, {"stages": []}, {"stages": [{"name": "../a", "kind": "rounds"}]},
     {"stages": [{"name": "a", "kind": "other"}]}, {"stages": [{"name": "a"}]},
     {"stages": [{"name": "a", "kind": "server", "after": 3}]}],
)  # fmt: skip
def test_a_damaged_record_is_named(tmp_path: Path, record: Any) -> None:
    (tmp_path / "stages.json").write_text(json.dumps(record))
    for read in (layout.stages, layout.last):
        with pytest.raises(
            UserError, match=r"stages\.json: not the record of a run's stages; the u"
        ):
            read(tmp_path)
