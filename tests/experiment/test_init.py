"""`experiment.run`, as users call it."""

import subprocess
import sys

import pytest

from fednas_jax import experiment
from fednas_jax.experiment import runner


def test_run_is_that_of_the_rounds() -> None:
    assert experiment.run is runner.run


def test_nothing_else_is_there() -> None:
    with pytest.raises(AttributeError, match=r"'fednas_jax\.experiment' has no attribute 'walk'"):
        experiment.walk  # noqa: B018


def test_stages_come_without_jax() -> None:
    """They are imported before JAX is, whose failure the command line explains."""
    program = "import sys; from fednas_jax.experiment import stages; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")
