"""All pictures of a run, and the alphas they are drawn from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fednas_jax.data.partition import Partition
from fednas_jax.report import pictures
from fednas_jax.search.genotype import derive


def alphas_row(number: int) -> dict[str, Any]:
    rng = np.random.RandomState(number)
    return {"round": number, **{k: rng.normal(size=(14, 8)).tolist() for k in ("normal", "reduce")}}


def write(path: Path, values: list[Any]) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


def test_every_picture_appears(tmp_path: Path) -> None:
    alphas = [alphas_row(0), alphas_row(1)]
    pictures.draw_progress(tmp_path, [{"round": 1, "test_loss": 1.0}], alphas, derive(alphas[1]))
    clients = Partition((np.array([0, 2], np.int32), np.array([1], np.int32)))
    pictures.draw_partition(tmp_path, clients, np.array([0, 1, 1]), ("a", "b"), [10, 55])
    names = ["accuracy_and_loss", "alphas", "alphas_over_rounds", "cells", "partition"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n}.png" for n in names]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())


def test_alphas_of_later_rounds_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "alphas.jsonl", [alphas_row(number) for number in range(5)])
    found = pictures.read_alphas(tmp_path / "alphas.jsonl", 2)
    assert found == [alphas_row(number) for number in range(3)]


@pytest.mark.parametrize(
    "damage",
    [
        {"round": 1},
        {**alphas_row(1), "normal": [[1.0, 2.0], [3.0]]},
        {**alphas_row(1), "reduce": [[0.0] * 8] * 13},
        {**alphas_row(1), "reduce": None},
        {**alphas_row(1), "reduce": {}},
        "text",
    ],
)
def test_damaged_alphas_are_none(tmp_path: Path, damage: Any) -> None:
    write(tmp_path / "alphas.jsonl", [alphas_row(0), damage])
    assert pictures.read_alphas(tmp_path / "alphas.jsonl", 2) == []
    assert pictures.read_alphas(tmp_path / "none.jsonl", 2) == []
