"""How tests are shared: every file stays together, but for those that say otherwise."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import workers

ROOT = Path(__file__).resolve().parents[1]


def test_files_that_are_named_are_there() -> None:
    for name in {*workers.SLOWEST_FIRST, *workers.SHARE_NOTHING, *workers.TOGETHER}:
        assert (ROOT / name).is_file(), name


def test_the_slowest_begin_and_the_others_stay_in_their_order() -> None:
    first, second = workers.SLOWEST_FIRST[:2]
    given = ["tests/b.py::one", f"{second}::x", "tests/a.py::two", f"{first}::y", f"{first}::z"]
    assert workers.in_order(given) == [3, 4, 1, 0, 2]


def test_units() -> None:
    assert workers.unit_of("tests/data/test_a.py::test_b[x::y]") == "tests/data/test_a.py"
    alone = f"{workers.SHARE_NOTHING[0]}::test_b[x::y]"
    assert workers.unit_of(alone) == alone
    for name, other in workers.TOGETHER.items():
        assert workers.unit_of(f"{name}::test_b") == workers.unit_of(f"{other}::test_c") == other


def test_two_workers_run_each_file_whole(tmp_path: Path) -> None:
    """A small suite with this one's conftest: each test writes down in which process it ran."""
    pytest.importorskip("xdist", reason="the group dev installs it")
    (tmp_path / "tests").mkdir()
    for name in ("conftest.py", "workers.py"):
        (tmp_path / "tests" / name).write_text((ROOT / "tests" / name).read_text())
    body = "import os, pathlib, pytest, time\n" + "".join(
        f"def test_{n}():\n    time.sleep(0.05)\n"
        "    with open('ran', 'a') as file:\n"
        "        file.write(f'{pathlib.Path(__file__).name} {os.getpid()}\\n')\n"
        for n in range(3)
    )
    for name in "abcd":
        (tmp_path / "tests" / f"test_{name}.py").write_text(body)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n"
                                         "pythonpath = .\n")  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-n", "2", "--no-loadscope-reorder", "-q"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    ran = [line.split() for line in (tmp_path / "ran").read_text().splitlines()]
    assert len(ran) == 12
    processes = {name: {pid for file, pid in ran if file == name} for name, _ in ran}
    assert all(len(pids) == 1 for pids in processes.values())
    assert len(set.union(*processes.values())) == 2
