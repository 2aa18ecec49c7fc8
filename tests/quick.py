"""Compiling for tests: what runs once should compile fast rather than run fast."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax

from fednas_jax.runtime import compilation


def quick_jit(function: Callable[..., Any], *, quick: bool = True, **arguments: Any) -> Any:
    """`compilation.jit` without LLVM's optimisation: half its compile time for large programs."""
    options = (compilation.compiler_options(quick=True) or {}) | {
        "xla_backend_optimization_level": 0
    }
    return jax.jit(function, compiler_options=options, **arguments)


def compile_quickly(level: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Lets the package compile everything as it compiles large programs.

    Args:
      level: of LLVM's optimisation: 1, the package's own for large programs, where images are of
        real size; 0 for the tiniest runs, in which compiling takes all the time.

    Returns:
      The package's options before, for small and for large programs.
    """
    before = compilation.CPU_OPTIONS, compilation.QUICK_OPTIONS
    options = {**compilation.QUICK_OPTIONS, "xla_backend_optimization_level": level}
    _set(options, options)
    return before


@contextlib.contextmanager
def compiled_quickly(level: int) -> Iterator[None]:
    """`compile_quickly` while it lasts."""
    before = compile_quickly(level)
    try:
        yield
    finally:
        _set(*before)


def _set(small: dict[str, Any], large: dict[str, Any]) -> None:
    compilation.CPU_OPTIONS, compilation.QUICK_OPTIONS = small, large
    compilation.compiler_options.cache_clear()
