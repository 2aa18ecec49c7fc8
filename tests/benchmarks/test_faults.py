"""How faults are counted and made; `python -m benchmarks.faults` makes them to real runs."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import fault_runs, faults
from benchmarks.faults import DAMAGES, Ground, Tally
from fednas_jax.checkpoints.checkpoint import Checkpoints
from fednas_jax.report import ledger
from fednas_jax.report.writers import MetricsFile


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


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """As `benchmarks.faults` has it, with rounds a third as long."""
    folder = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(fault_runs.FIELDS, "local_epochs", "20")
        process = fault_runs.finish(folder / "undisturbed")
        assert process.process.returncode == 0, process.said
        wanted = fault_runs.result(folder / "undisturbed")
        yield Ground(folder, wanted, np.random.RandomState(0), 2)


def test_kills_at_random_moments_of_a_run(ground: Ground) -> None:
    """Two; `benchmarks.faults` sends twenty."""
    (tally,) = faults.killed(ground)
    assert (tally.survived, tally.tried) == (2, 2)


@pytest.mark.parametrize("fault", ["two_processes", "clock"])
def test_a_second_process_and_a_clock_that_jumps(fault: str, ground: Ground) -> None:
    (tally,) = faults.CASES[fault](ground._replace(repeats=1))
    assert (tally.survived, tally.tried) == (1, 1)


def test_metrics_that_do_not_agree_with_the_checkpoint_are_found(tmp_path: Path) -> None:
    assert fault_runs.agree(tmp_path)  # nothing is kept yet
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    rows = ledger.Ledger(tmp_path / "checkpoints" / "rows.jsonl", b"")
    rows.append(metrics.append({"round": 1}))
    Checkpoints(tmp_path / "checkpoints").save(
        1, {"w": np.ones(1)}, {ledger.KEY: rows.mark()}, is_best=True
    )
    metrics.append({"round": 2})
    assert fault_runs.agree(tmp_path)
    metrics.rewrite([{"round": 2}])
    assert not fault_runs.agree(tmp_path)
