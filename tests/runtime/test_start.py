"""Values of variables that JAX does not know end a command with one line."""

import os
import subprocess
import sys

import pytest

from tests.tiny import ROOT

COMMANDS = {
    "main": ["--config=configs/digits_quick.py:quick", "--workdir={}"],
    "evaluate": ["{}"],
    "export": ["{}"],
    "report.page": ["{}"],
    "sweep": ["--config=configs/digits_quick.py:quick", "--workdir={}"],
    "compare": ["--config=configs/digits_train.py", "--workdir={}", "--networks=2nn"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_jax_cannot_be_imported_with(command, tmp_path):
    arguments = [argument.format(tmp_path / "run") for argument in COMMANDS[command]]
    done = subprocess.run(
        [sys.executable, "-m", f"fednas_jax.{command}", *arguments],
        cwd=ROOT, env={**os.environ, "JAX_ENABLE_X64": "abc", "FEDNAS_JAX_ENVIRONMENT": "off"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("fednas_jax: error: JAX cannot be imported: ")
    assert "JAX_ENABLE_X64" in line
    assert not (tmp_path / "run").exists()
