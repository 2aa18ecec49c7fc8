"""Compiling for tests: what runs once should compile fast rather than run fast."""

from collections.abc import Callable
from typing import Any

import jax

from fednas_jax import compilation


def quick_jit(function: Callable[..., Any], *, quick: bool = True, **arguments: Any) -> Any:
    """`compilation.jit` without LLVM's optimisation: half its compile time for large programs."""
    options = (compilation.compiler_options(quick=True) or {}) | {
        "xla_backend_optimization_level": 0
    }
    return jax.jit(function, compiler_options=options, **arguments)
