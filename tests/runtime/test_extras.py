"""Packages that not every run needs: a run without them works and says what it leaves out."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

import fednas_jax
from fednas_jax.report import page
from fednas_jax.runtime import extras
from tests.report import runs

ROOT = Path(fednas_jax.__file__).resolve().parents[1]
GROUP = "pip install 'fednas_jax[report]'"
# Not SciPy, without which there is no JAX.
ABSENT = (*("altair", "jinja2", "matplotlib", "tensorboardX", "vl_convert", "wandb"),)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if only what every run needs were installed, and this package by pip."""
    for name in ABSENT:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.1.0")


def test_where_all_is_installed_nothing_is_missing_or_left_out() -> None:
    of_dev = extras.FEATURES.keys() - {"wandb", "hugging_face"}
    assert extras.missing(*of_dev) == []
    report = {"plots": True, "page": True, "tensorboard": True}
    assert extras.left_out_of_run(report) == ""
    assert all(extras.enabled(report, name) for name in report)
    assert not extras.enabled({**report, "page": False}, "page")


@pytest.mark.usefixtures("bare")
def test_what_a_run_leaves_out_is_one_line() -> None:
    report = {"plots": True, "page": True, "tensorboard": True}
    assert not any(extras.enabled(report, name) for name in report)
    assert extras.left_out_of_run(report) == (
        "plots/, report.html, tensorboard/ left out: altair, Jinja2, matplotlib, tensorboardX, "
        f"vl-convert-python are not installed; {GROUP} is needed"
    )
    only = {"plots": False, "page": False, "tensorboard": True}
    assert extras.left_out_of_run(only) == (
        f"tensorboard/ left out: tensorboardX is not installed; {GROUP} is needed"
    )
    assert extras.left_out_of_run(dict.fromkeys(report, False)) == ""


@pytest.mark.usefixtures("bare")
def test_from_a_clone_that_is_not_installed_the_packages_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", unknown)
    assert extras.command("plots", "tensorboard") == "pip install matplotlib tensorboardX"


def test_a_folder_of_its_name_is_no_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "no_such_package").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not extras._installed("no_such_package")
    (tmp_path / "no_such_package" / "__init__.py").touch()
    assert extras._installed("no_such_package")


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("several", [False, True])
def test_a_page_that_is_asked_for_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], several: bool
) -> None:
    workdirs = [str(runs.average_run(tmp_path / name)) for name in ("a", "b")[: 1 + several]]
    assert page.main([*workdirs, f"--output={tmp_path / 'x.html'}"]) == 2
    assert capsys.readouterr().err == (
        "fednas_jax: error: report: altair, Jinja2, matplotlib, vl-convert-python are not "
        f"installed; {GROUP} is needed\n"
    )
    assert not (tmp_path / "x.html").exists()


PROGRAM = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))
from fednas_jax.cli import main
run, sweep, config = sys.argv[2:]
assert main(["train", f"--config={config}", f"--workdir={run}"]) == 0
assert main(["sweep", f"--config={config}", f"--workdir={sweep}"]) == 0
assert main(["evaluate", run]) == 0
assert main(["doctor", "--help"]) == 0
assert main(["report", run]) == 2
"""
CONFIG = """
from tests.tiny import fedavg_config
def get_config():
    config = fedavg_config()
    config.rounds = 1
    config.report.page = config.report.plots = config.report.tensorboard = True
    return config
"""


def test_commands_work_without_the_groups(tmp_path: Path) -> None:
    """In a process of its own, in which nothing of them can have been imported before."""
    (tmp_path / "tiny.py").write_text(CONFIG)
    arguments = [tmp_path / "run", tmp_path / "sweep", tmp_path / "tiny.py"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, ",".join(ABSENT), *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert said.count("plots/, report.html, tensorboard/ left out: ") == 2, "a line for each run"
    assert "confusion.png left out: matplotlib is not installed" in said
    assert "curves.png left out: matplotlib is not installed" in said
    assert "fednas_jax: error: report: altair, Jinja2, " in said
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".png", ".html")]
    assert json.loads((tmp_path / "run" / "evaluation" / "evaluation.json").read_text())["examples"]
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())["config"]["report"]
    assert recorded["plots"], "what was asked for is recorded, and drawn where the run goes on"
