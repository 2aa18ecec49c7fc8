"""Which lists of stages a run may consist of, and which are refused in one line."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fednas_jax import config as schema
from fednas_jax.algorithms import registry, stage_types
from fednas_jax.algorithms.stage_types import RoundsStage, ServerStage, Stage
from fednas_jax.runtime.errors import UserError


def rounds(name: Any) -> RoundsStage:
    return RoundsStage(name, lambda before: schema.default())


def server(name: Any) -> ServerStage:
    return ServerStage(name, lambda stage: {})


def refusal(stages: Any) -> str:
    with pytest.raises(UserError) as raised:
        stage_types.check(stages, "mine")
    text = str(raised.value)
    assert text.startswith("config.algorithm: the stages of 'mine'")
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    "stages",
    [
        (rounds(""),),
        (rounds("search"),),
        (server("extract"), rounds("train")),
        (rounds("search"), server("select"), rounds("train/tier-1"), rounds("train/tier-10")),
    ],
)
def test_usable(stages: tuple[Stage, ...]) -> None:
    assert stage_types.check(list(stages), "mine") == stages
    assert stage_types.is_whole(stages) == (stages[0].name == "")


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a/", "/a", "../a", "a//b", "a/..", ".hidden", "a.json", "plots", "a/checkpoints",
     "Checkpoints", "export", 3, "ä", "-a", "a\n"],
)  # fmt: skip
def test_names_that_no_folder_may_have(name: Any) -> None:
    text = refusal((rounds("a"), server(name)))
    assert f": {name!r} cannot be the name of a folder; letters, digits, '-' and '_' are" in text


def test_alone_on_the_server_it_needs_a_folder_of_its_own() -> None:
    assert ": '' cannot be the name of a folder" in refusal((server(""),))


@pytest.mark.parametrize(
    ("one", "two"),
    [("train", "train"), ("train", "Train"), ("train", "train/tier-1"), ("a/b/c", "a/b")],
)
def test_folders_that_would_be_shared(one: str, two: str) -> None:
    text = refusal((rounds(one), rounds("other"), rounds(two)))
    assert f"{one!r} and {two!r} would share a folder; each stage needs its own name" in text


@pytest.mark.parametrize("stages", [(), [], None, rounds("a"), "ab"])
def test_no_list_of_stages(stages: Any) -> None:
    assert "; a tuple of at least one stage is needed" in refusal(stages)


def test_what_is_no_stage() -> None:
    assert ": 'search' is not a stage; a RoundsStage or ServerStage of" in refusal(
        (rounds("a"), "search")
    )


def test_algorithms_of_the_package_run_in_the_workdir_itself() -> None:
    for declared in registry.ALGORITHMS:
        config = schema.resolve(schema.default(declared.name))
        (stage,) = registry.room(declared.name).stages(config)
        assert stage_types.check((stage,), declared.name) == (stage,)
        assert isinstance(stage, RoundsStage)
        assert (stage.name, stage.config({})) == ("", config)
        stage_types.check_one((stage,), declared.name, "--search")


def test_one_stage_where_one_is_asked_for() -> None:
    message = r"^--search: 'mine' runs in its own stages \(a, b\); an algorithm of one stage is "
    with pytest.raises(UserError, match=message):
        stage_types.check_one((rounds("a"), server("b")), "mine", "--search")


def test_errors_name_their_stage_where_there_are_several() -> None:
    for name, text in (("", "config.x: bad"), ("a/b", "stage a/b: config.x: bad")):
        with pytest.raises(UserError) as raised, stage_types.named(rounds(name)):
            raise UserError("config.x: bad")
        assert str(raised.value) == text


def test_it_imports_no_jax() -> None:
    code = (
        "import fednas_jax.algorithms.stage_types, fednas_jax.runtime.layout, sys; sys.exit('jax' "
        "in sys.modules)"
    )
    root = Path(stage_types.__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
