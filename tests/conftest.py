"""What all tests share: a cache of compiled programs, workers, float64, room for more programs."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fednas_jax  # noqa: F401  # before jax: it sets what some releases need
from fednas_jax.runtime import user_code
from tests import workers

# Compiling takes most of the suite's time, and a second run need not do it again. As environment,
# set before anything imports jax, so that the processes which tests start find the cache too.
CACHE = Path(__file__).resolve().parent.parent / ".cache" / "jax-tests"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
# Eager references consist of thousands of programs that each compile in milliseconds.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest files first."""
    items[:] = [items[i] for i in workers.in_order([item.nodeid for item in items])]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several workers share the tests."""
    return workers.scheduler(config, log)


@pytest.fixture
def x64() -> Iterator[None]:
    """Arrays are float64 in the test."""
    import jax  # not above: tests without jax should not pay for it

    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def tiny_runs() -> Iterator[None]:
    """The file's runs are so small that compiling takes all their time: nothing is optimised.

    Notebooks, `digits_quick` and what starts processes run as users compile.
    """
    from tests.quick import compiled_quickly

    with compiled_quickly(0):
        yield


@pytest.fixture(autouse=True)
def _forget_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects that a test gives are not numbered by those of the tests before it."""
    monkeypatch.setattr(user_code, "_given", dict(user_code._given))


@pytest.fixture(scope="session")
def finished_search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of an undisturbed search, with all reports on; to be left as it is.

    Who compares bits with it compiles as it did: with `tiny_runs`.
    """
    from fednas_jax import experiment
    from tests.quick import compiled_quickly
    from tests.tiny import search_config

    folder = tmp_path_factory.mktemp("finished") / "run"
    config = search_config()
    config.report.plots = config.report.tensorboard = config.report.progress = True
    config.report.page = True
    with compiled_quickly(0):
        experiment.run(config, folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _drop_programs() -> Iterator[None]:
    """Drops compiled programs after each file.

    Each holds memory maps, of which a Linux process may have 65,530: at the limit LLVM fails, and
    then the process.
    """
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
        gc.collect()
