"""The script of all checks, with a stand-in for each check: what runs, and how it ends."""

import shutil
import subprocess
from pathlib import Path

import pytest

import fednas_jax

SCRIPTS = Path(fednas_jax.__file__).resolve().parents[1] / "scripts"
# Writes down what it is asked for; ends as the environment says: FIRST of the workers, SECOND of
# those marked `alone`, MYPY, RUFF, GROUP of the group cuda12.
PYTHON = """#!/usr/bin/env bash
echo "$*" >> asked
case "$*" in
  *"pytest"*"-m not alone"*)
    echo "FAILED tests/test_a.py::test_b - of the workers"; echo "1 failed in 3.21s"
    exit "${FIRST:-0}" ;;
  *"pytest"*) echo "2 passed in 60.5s (0:01:00)"; exit "${SECOND:-0}" ;;
  *"mypy"*) echo "what mypy says"; exit "${MYPY:-0}" ;;
  *"cuda12"*) exit "${GROUP:-0}" ;;
  *"uv pip"*) ;;
  *) exit "${RUFF:-0}" ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("VENV", "FIRST", "SECOND", "MYPY", "RUFF", "GROUP"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPTS / "test.sh", tmp_path / "scripts")
    (tmp_path / "scripts" / "setup.sh").write_text('echo "setup $*" >> asked\n')
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def check(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(project / "scripts" / "test.sh"), *arguments],
        cwd="/", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_all_checks_run_and_both_kinds_of_tests_get_the_arguments(project: Path) -> None:
    done = check(project, "--mpi", "tests/data", "-k", "a or b")
    assert (done.returncode, done.stderr) == (0, "")
    setup, *asked = (project / "asked").read_text().splitlines()
    assert setup == "setup --dev --mpi"
    tools = [line.split()[1] for line in asked]
    assert sorted(tools) == ["mypy", "pytest", "pytest", "ruff", "ruff"]
    first, second = [line for line in asked if "pytest" in line]
    assert first.endswith("-m not alone tests/data -k a or b")
    assert " -n " in first
    assert second.endswith("-m alone tests/data -k a or b")
    assert " -n " not in second
    closing = done.stdout.split("test: pytest said:\n")[1]
    assert closing.splitlines() == [
        "FAILED tests/test_a.py::test_b - of the workers",
        "1 failed in 3.21s",
        "2 passed in 60.5s (0:01:00)",
        "test: all passed",
    ]
    assert "what mypy says" in done.stdout


def test_without_arguments_groups_are_checked(project: Path) -> None:
    assert check(project).returncode == 0
    asked = (project / "asked").read_text().splitlines()
    groups = [line.rpartition(" ")[2] for line in asked if "uv pip install --quiet --dry" in line]
    assert groups == [".[report]", ".[wandb]", ".[huggingface]", ".[mpi]", ".[cuda12]", ".[cuda13]"]


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        ({"FIRST": "1"}, "pytest"),
        ({"SECOND": "1"}, "pytest"),
        ({"FIRST": "5", "SECOND": "2"}, "pytest"),
        ({"MYPY": "1"}, "mypy"),
        ({"RUFF": "1"}, "ruff ruff"),
        ({"GROUP": "1"}, "uv"),
        ({"FIRST": "5", "SECOND": "5"}, "pytest, which found no tests"),
    ],
)
def test_what_fails_is_named_and_hides_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, ends: dict[str, str], says: str
) -> None:
    for name, code in ends.items():
        monkeypatch.setenv(name, code)
    done = check(project)
    assert (done.returncode, done.stderr) == (1, f"test: failed: {says}\n")
    assert len((project / "asked").read_text().splitlines()) == 12


@pytest.mark.parametrize("chosen", ["FIRST", "SECOND"])
def test_the_arguments_may_choose_tests_of_one_kind_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch, chosen: str
) -> None:
    monkeypatch.setenv("SECOND" if chosen == "FIRST" else "FIRST", "5")
    assert check(project, "tests/data").returncode == 0
