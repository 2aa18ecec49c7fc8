"""How programs are compiled: a cache on disk, and what XLA's CPU compiler needs to be told.

On a CPU, XLA recomputes whole stencils inside each of their consumers unless optimisation barriers
stop it, and removes those barriers before it fuses unless told not to. With them kept, a local step
of the supernet runs about four times faster (`benchmarks/local_step.py --plain-xla` shows the
difference).
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

CPU_OPTIONS: dict[str, Any] = {
    "xla_disable_hlo_passes": "cse_barrier_expander",
    # The older emitters compile these many small loops in half the time.
    "xla_cpu_use_fusion_emitters": False,
    "xla_backend_optimization_level": 1,
}


@functools.cache
def compiler_options() -> dict[str, Any] | None:
    """Options for `jax.jit` on the default device; None where this XLA does not know them.

    They are internal names of XLA, tried once on a small program: a version without them still
    runs, only slower.
    """
    if jax.default_backend() != "cpu":
        return None
    try:
        jax.jit(lambda x: x + 1, compiler_options=CPU_OPTIONS).lower(jnp.float32(0)).compile()
    except jax.errors.JaxRuntimeError:
        return None
    return CPU_OPTIONS


def jit(function: Callable[..., Any], **arguments: Any) -> Any:
    """`jax.jit` with this module's options."""
    return jax.jit(function, compiler_options=compiler_options(), **arguments)


def jit_once(function: Callable[..., Any]) -> Any:
    """`jax.jit` for what runs once, such as an initialisation: compiles in a tenth of the time."""
    options = compiler_options()
    if options is not None:
        options = {**options, "xla_backend_optimization_level": 0}
    return jax.jit(function, compiler_options=options)


def use_cache() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX was told where already."""
    if jax.config.values.get("jax_compilation_cache_dir") is not None:
        return
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    jax.config.update("jax_compilation_cache_dir", str(Path(home) / "fednas_jax" / "xla"))


def seconds() -> float:
    """Wall-clock seconds this process has spent in tracing, lowering and compiling so far."""
    return _spent["seconds"]


_spent = {"seconds": 0.0}


def _add(event: str, duration_secs: float, **_: str | int) -> None:
    if event.startswith("/jax/core/compile/"):
        _spent["seconds"] += duration_secs


jax.monitoring.register_event_duration_secs_listener(_add)
