"""Runs: their parts, their rounds, their records, and how they are resumed.

`experiment.run(config, workdir)` runs one. It imports JAX, so it is loaded at its first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fednas_jax.experiment.runner import run as run


def __getattr__(name: str) -> Any:
    if name != "run":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fednas_jax.experiment import runner

    return runner.run
