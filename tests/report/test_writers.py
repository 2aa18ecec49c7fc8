"""metrics.jsonl: strict and whole."""

import json
import math

import numpy as np
import pytest

from fednas_jax.report.writers import MetricsFile, read_rows
from fednas_jax.runtime.errors import UserError

ROWS = [{"round": i, "train_loss": 2.0 / (i + 1), "test_accuracy": None} for i in range(3)]


def test_rows_come_back(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    for row in ROWS:
        file.append(row)
        assert read_rows(file.path)[-1] == row
    assert read_rows(file.path) == ROWS


def test_rewrite_takes_back_later_rounds_and_half_lines(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.rewrite(ROWS)
    with file.path.open("a") as raw:
        raw.write('{"round": 3, "train')
    assert read_rows(file.path) == ROWS
    file.rewrite(ROWS[:2])
    file.append(ROWS[2])
    assert read_rows(file.path) == ROWS
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_numbers_that_are_not_finite_become_null(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.append({"a": math.nan, "b": [math.inf, 1], "c": np.float32(np.nan), "d": np.int64(3)})

    def refuse(name):
        raise AssertionError(name)

    row = json.loads(file.path.read_text(), parse_constant=refuse)
    assert row == {"a": None, "b": [None, 1], "c": None, "d": 3}


@pytest.mark.parametrize(
    ("text", "match"),
    [('{"round": 0}\n{oops\n{}\n', "line 2 is not JSON"), ("[1]\n", "line 1 must be an object")],
)
def test_a_broken_file_is_named_with_its_line(tmp_path, text, match):
    path = tmp_path / "metrics.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=f"metrics.jsonl: {match}"):
        read_rows(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_rows(tmp_path / "none.jsonl")


def test_a_folder_that_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        MetricsFile(tmp_path / "file" / "metrics.jsonl").append({"round": 0})
