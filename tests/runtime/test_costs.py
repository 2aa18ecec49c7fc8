"""What a run costs: from its start on, summed over starts."""

import time

import pytest

from fednas_jax.runtime import compilation, memory
from fednas_jax.runtime.costs import Costs


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What the clock, the compiler and the system say."""
    says = {"time": 100.0, "compile": 7.0, "peak": 50.0}
    monkeypatch.setattr(time, "monotonic", lambda: says["time"])
    monkeypatch.setattr(compilation, "seconds", lambda: says["compile"])
    monkeypatch.setattr(memory, "peak_bytes", lambda: says["peak"])
    return says


def test_what_was_before_the_run_does_not_count(clocks: dict[str, float]) -> None:
    costs = Costs()
    clocks |= {"time": 110.0, "compile": 9.0}
    assert costs.so_far() == {"seconds": 10.0, "compile_seconds": 2.0, "peak_memory_bytes": 50.0}


def test_starts_add_up_and_the_highest_peak_stays(clocks: dict[str, float]) -> None:
    costs = Costs()
    costs.go_on({"seconds": 5.0, "compile_seconds": 1.0, "peak_memory_bytes": 80})
    clocks |= {"time": 110.0, "compile": 9.0}
    assert costs.so_far() == {"seconds": 15.0, "compile_seconds": 3.0, "peak_memory_bytes": 80}
