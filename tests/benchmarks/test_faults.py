"""How faults are counted and made; `python -m benchmarks.faults` makes them to real runs."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import fault_runs
from benchmarks.faults import DAMAGES, Tally


def test_tries_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally("fault")
    tally.add(True, "all is well")
    tally.add(False, "not here")
    tally.add(True, "Traceback (most recent call last)")
    row = tally.row()
    assert (row.value, row.unit, row.met) == (1, "of 3", False)
    said = capsys.readouterr().err
    assert "not here" in said
    assert "all is well" not in said


@pytest.mark.parametrize("fault", DAMAGES)
def test_damage(fault: str, tmp_path: Path) -> None:
    path, whole = tmp_path / "file", bytes(range(100))
    for seed in range(20):
        path.write_bytes(whole)
        DAMAGES[fault](path, np.random.RandomState(seed))
        if fault == "missing":
            assert not path.exists()
            continue
        found = path.read_bytes()
        assert found != whole
        if fault == "cut short":
            assert whole.startswith(found)
        else:
            wrong = [a ^ b for a, b in zip(found, whole, strict=True) if a != b]
            assert len(wrong) == 1
            assert wrong[0].bit_count() == 1


def test_times_are_not_compared() -> None:
    row = {"round": 1, "seconds": 2.0, "client_steps_per_second": 3.0}
    assert fault_runs.untimed(row) == {"round": 1}
