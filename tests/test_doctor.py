"""The report on this machine, and what it says where something is missing."""

import os
import stat
import sys
from pathlib import Path

import pytest

from fednas_jax import doctor
from fednas_jax.runtime import environment
from tests import ranks


def test_reports_and_finds_nothing_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mnist").mkdir()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(doctor, "mpirun", lambda: None)
    assert doctor.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = {line[4:].split()[0]: line for line in lines}
    assert found["mnist"] == f"ok  mnist        in {tmp_path / 'mnist'}"
    assert found["cifar10"].startswith(f"--  cifar10      not in {tmp_path} (TFDS_DATA_DIR); ")
    assert found["MPI"].endswith(f"or machines: {doctor._SETUP}")
    assert f"jax {sys.modules['jax'].__version__}" in found["fednas_jax"]
    assert {"Python", "machine", "memory", "disk", "device"} <= found.keys()


def stand_in(folder: Path, script: str) -> str:
    """A launcher."""
    path = folder / "mpirun"
    path.write_text(f"#!/usr/bin/env bash\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_ranks_that_do_not_come_round_are_told(tmp_path: Path) -> None:
    finding = doctor.round_trip(stand_in(tmp_path, "echo; echo no slots left >&2; exit 1"))
    assert str(finding) == (
        f"!!  two ranks    no slots left; {doctor._SETUP} installs compatible versions"
    )


def test_ranks_that_hang_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ROUND_TRIP_SECONDS", 0.2)
    finding = doctor.round_trip(stand_in(tmp_path, '[[ "$1" == --version ]] || exec sleep 60'))
    assert finding.mark == "!!"
    assert finding.text.startswith("no answer after 0.2 s; ")


@pytest.mark.alone
@ranks.needs_mpi
def test_two_ranks_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = doctor.mpirun()
    assert launcher is not None
    finding = doctor.round_trip(launcher)
    assert finding.mark == "ok", finding
    assert finding.text.startswith("4 MiB added up in ")


def test_other_arguments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--mpi"]) == 2
    assert capsys.readouterr().err == "fednas_jax: error: --mpi: not a flag; none is needed\n"
    assert doctor.main(["--help"]) == 0
    assert "python -m fednas_jax.doctor" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variables", "several"),
    [
        ({}, False),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"PMI_SIZE": "3"}, True),
        ({"PMI_SIZE": "many"}, False),
        ({"SLURM_STEP_NUM_TASKS": "4"}, False),
        ({"SLURM_STEP_NUM_TASKS": "4", "PMIX_RANK": "0"}, True),
    ],
)
def test_a_launcher_is_known_by_what_it_sets(variables: dict[str, str], several: bool) -> None:
    assert environment.of_several_ranks(variables) == several
    assert os.environ.get("OMPI_COMM_WORLD_SIZE") is None
