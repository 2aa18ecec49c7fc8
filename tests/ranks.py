"""Runs programs on several ranks, where MPI is installed."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIMIT_SECONDS = 240
"""For a launch: ranks compile beside each other, on few cores."""
HALF_WRITTEN = "Error reading persistent compilation cache entry"
"""By another rank, at this moment; JAX then compiles the program itself."""


def _mpirun() -> str | None:
    beside = Path(sys.executable).with_name("mpirun")
    return str(beside) if beside.exists() else shutil.which("mpirun")


def _missing() -> str:
    names = [name for name in ("mpi4py", "mpi4jax") if importlib.util.find_spec(name) is None]
    names += [] if _mpirun() else ["mpirun"]
    return f"not installed: {', '.join(names)}; bash scripts/setup.sh --mpi" if names else ""


needs_mpi = pytest.mark.skipif(bool(_missing()), reason=_missing())


def command(size: int, arguments: Sequence[str]) -> list[str]:
    """mpirun's, for so many ranks of a Python with the arguments."""
    launcher = [str(_mpirun()), "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
    warnings = ["-W", "error", "-W", f"ignore:{HALF_WRITTEN}"]
    return [*launcher, "-n", str(size), sys.executable, *warnings, *arguments]


def environment(**more: str) -> dict[str, str]:
    """Of a launch: the package is found, and ranks that fall silent are given up soon."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "FEDNAS_JAX_MPI_SECONDS": "60",
        "FEDNAS_JAX_ENVIRONMENT": "off",
        **more,
    }


def run(size: int, arguments: Sequence[str], **more: str) -> subprocess.CompletedProcess[str]:
    """Runs Python on so many ranks, to its end.

    Args:
      size: how many.
      arguments: for Python.
      **more: environment.
    """
    return subprocess.run(
        command(size, arguments), env=environment(**more), cwd=ROOT,
        capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False,
    )  # fmt: skip
