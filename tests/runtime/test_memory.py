"""How many clients fit side by side: arithmetic, and where its numbers come from."""

import resource
import sys
import types

import jax
import psutil
import pytest

from fednas_jax.runtime import memory


class Device:
    """A device with the given memory statistics."""

    def __init__(self, stats: dict[str, int] | None) -> None:
        self._stats = stats

    def memory_stats(self) -> dict[str, int] | None:
        return self._stats


@pytest.mark.parametrize(
    ("needed", "free", "most", "fitting"),
    [
        (100, 1000, 16, 6),  # 0.6 of the free memory
        (100, 1000, 4, 4),
        (100, 10, 16, 1),  # one always: there is no other way
        (0, 1000, 16, 16),
        (601, 1000, 16, 1),
        (600, 1000, 16, 1),
        (300, 1000, 16, 2),
    ],
)
def test_clients_that_fit(needed: int, free: int, most: int, fitting: int) -> None:
    assert memory.clients_that_fit(needed, free, most) == fitting


def test_free_memory_is_the_devices_where_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory.free_bytes(Device({"bytes_limit": 1000, "bytes_in_use": 300})) == 700
    assert memory.free_bytes(Device({"bytes_limit": 1000})) == 1000
    machine = types.SimpleNamespace(available=12345)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    assert memory.free_bytes(Device(None)) == 12345
    assert memory.free_bytes(Device({})) == 12345


@pytest.mark.parametrize(("backend", "most"), [("cpu", 1), ("gpu", 16)])
def test_one_at_a_time_on_a_cpu(monkeypatch: pytest.MonkeyPatch, backend: str, most: int) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert memory.most_side_by_side(16) == most


def test_peak_is_the_devices_where_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "local_devices", lambda: [Device({"peak_bytes_in_use": 77})])
    assert memory.peak_bytes() == 77


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_peak_of_the_process_is_in_the_systems_unit(
    monkeypatch: pytest.MonkeyPatch, platform: str, unit: int
) -> None:
    usage = types.SimpleNamespace(ru_maxrss=500)
    monkeypatch.setattr(jax, "local_devices", lambda: [Device(None)])
    monkeypatch.setattr(resource, "getrusage", lambda who: usage)
    monkeypatch.setattr(sys, "platform", platform)
    assert memory.peak_bytes() == 500 * unit
