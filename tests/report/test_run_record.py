"""What run.json and summary.json say, read back: whole, or refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fednas_jax.algorithms.fednas.findings import SearchFindings
from fednas_jax.report import run_record
from fednas_jax.report.findings import Findings
from fednas_jax.runtime.errors import UserError
from fednas_jax.spaces.darts import genotype

SUMMARY = {
    "rounds": 2,
    "best_round": 1,
    "test_accuracy_round": 1,
    "held_out_accuracy": None,
    "test_accuracy": 0.5,
    "seconds": 1.5,
    "compile_seconds": 1.0,
    "peak_memory_bytes": 10,
    "genotype": genotype.to_json(genotype.random_genotype(np.random.RandomState(0))),
}


def test_a_summary_comes_back(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    assert run_record.read_summary(tmp_path, SearchFindings({}, tmp_path)) == SUMMARY


@pytest.mark.parametrize("name", sorted(SUMMARY))
@pytest.mark.parametrize("damage", ["missing", {}, "text"])
def test_a_damaged_summary_is_refused(tmp_path: Path, name: str, damage: Any) -> None:
    summary = {key: value for key, value in SUMMARY.items() if key != name}
    if damage != "missing":
        summary[name] = damage
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UserError, match=rf"summary\.json: {name}.*; remove it to resume") as caught:
        run_record.read_summary(tmp_path, SearchFindings({}, tmp_path))
    assert "\n" not in str(caught.value)


def test_what_another_algorithm_found_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY | {"genotype": {"gates": [3]}}))
    for findings in (Findings({}, tmp_path), None):
        assert run_record.read_summary(tmp_path, findings)["genotype"] == {"gates": [3]}
    with pytest.raises(UserError, match=r"summary\.json: genotype: unknown key 'gates'"):
        run_record.read_summary(tmp_path, SearchFindings({}, tmp_path))


@pytest.mark.parametrize("content", ["", '{"rounds": 2,', "[]"])
def test_half_a_summary_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(UserError, match=r"summary\.json: .*; remove it to resume the run$"):
        run_record.read_summary(tmp_path, SearchFindings({}, tmp_path))
