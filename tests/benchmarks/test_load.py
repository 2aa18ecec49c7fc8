"""The loads of `benchmarks.load`, on a small scale: what is sampled, and what is made of it."""

from typing import Any

import pytest

from benchmarks import load
from benchmarks.harness import Row


def facts(resident: list[int], files: int = 7) -> dict[str, Any]:
    """Of a run whose rounds take 1 s at first and 2 s in the last half, on one core."""
    samples, at = [], 100.0
    for number, value in enumerate(resident):
        at += 1.0 if number < len(resident) // 2 else 2.0
        samples.append((at, at - 50, value, files + (number == len(resident) - 1)))
    return {"samples": samples, "metrics_bytes": 3e6, "checkpoint_bytes": 2e3}


def named(rows: list[Row]) -> dict[str, Row]:
    return {row.name.partition(": ")[2]: row for row in rows}


def test_growth_is_counted_from_the_tenth_round() -> None:
    resident = [1] * 9 + [1_000_000] + [2] * 49 + [1_060_000]
    rows = named(load.rows_of_run("rounds", facts(resident)))
    assert rows["resident memory after round 10"].value == 1
    assert rows["resident memory after round 60"].value == 1.06
    growth = rows["resident memory, growth"]
    assert growth.value == pytest.approx(6)
    assert growth.met is False
    assert rows["open files more"].value == 1
    assert rows["open files more"].met is False
    assert (rows["an early round"].value, rows["a late round"].value) == (1000, 2000)
    for name in ("late round against early", "late round against early, time of all cores"):
        assert rows[name].value == 2
        assert rows[name].met is False


def test_of_3000_rounds_300_are_early_and_300_late() -> None:
    # The 101st to the 400th take 3 s, the last 300 take 5 s, all others 40 s.
    each = [40.0] * 100 + [3.0] * 300 + [40.0] * 2300 + [5.0] * 300
    times = [sum(each[: number + 1]) for number in range(len(each))]
    assert load.early_and_late(times) == (3, 5)


def test_a_run_is_sampled_after_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = {"report.plots": False, "report.page": False, "report.tensorboard": False}
    monkeypatch.setitem(load.RUNS, "rounds", load.SMALLEST | quiet)
    draw = load.rounds.Records.draw
    found = load.run("rounds", 12)
    assert load.rounds.Records.draw is draw
    samples = found["samples"]
    assert len(samples) == 12
    assert [s.at for s in samples] == sorted(s.at for s in samples)
    assert min(s.resident for s in samples) > 10**7
    assert found["metrics_bytes"] > 12 * 100
    assert found["checkpoint_bytes"] > 100


@pytest.mark.parametrize("name", load.PARTITIONS)
def test_partitions_are_made_and_stored(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "DEALT", 200)
    facts = load.deal(name)
    assert facts["peak"] >= facts["before"] > 0
    assert facts["bytes"] > 200 * load.EACH
    rows = named(load.rows_of_partition(name, facts))
    assert rows["peak of the process"].value == facts["peak"] / 1e6
    assert str(rows["peak of the process"].bar) == "<= 1000"
