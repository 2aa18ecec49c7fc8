"""Settings of JAX and Flax that affect the results of a run, and how runs treat them.

They come from the environment (JAX_ENABLE_X64=1) or from Python (`jax.config.update`). Some change
the meaning of a program: `fixed` gives these the values that the package is written for while it
computes. Others change only the compiler or the rounding. A run can use any values of these;
`recorded` lists them, and the run is resumed only with the same values.
"""

import contextlib
import enum
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import flax
import jax

from fednas_jax.runtime import gpu
from fednas_jax.runtime.errors import UserError, one_line, warn_once

OF_THREAD: dict[str, Any] = {
    "jax_enable_x64": False,
    "jax_default_matmul_precision": None,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    "jax_disable_jit": False,
    "jax_debug_nans": False,
    "jax_debug_infs": False,
}
"""Settings that are fixed only for the calling thread, by a context manager of JAX, so that what a
user computes in another thread does not change."""

OF_PROCESS: dict[str, Any] = {
    "jax_explicit_x64_dtypes": "warn",
    "jax_random_seed_offset": 0,
    "jax_high_dynamic_range_gumbel": False,
    "flax_fix_rng_separator": False,
    "flax_preserve_adopted_names": False,
    "flax_return_frozendict": False,
}
"""Settings that are fixed for the whole process, since JAX has no context manager for them."""

SWITCHES = (
    "eager_constant_folding",
    "jax_allow_f16_reductions",
    "jax_compiler_enable_remat_pass",
    "jax_custom_vjp3",
    "jax_disable_most_optimizations",
    "jax_enable_pgle",
    "jax_exec_time_optimization_effort",
    "jax_optimization_level",
    "jax_remat3",
    "jax_scan3",
    "jax_softmax_custom_jvp",
    "jax_threefry_gpu_kernel_lowering",
    "jax_use_direct_linearize",
)
"""Settings that decide how JAX traces or compiles a program; their defaults depend on the
release."""

VARIABLES = ("CUBLAS_WORKSPACE_CONFIG", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE", "XLA_FLAGS")
"""Environment variables that compilers and libraries read."""

_GUARDS = tuple(
    f"jax_transfer_guard{of}"
    for of in ("", "_host_to_device", "_device_to_device", "_device_to_host")
)
_WITHOUT_EFFECT = (
    "xla_dump_", "xla_hlo_profile", "xla_force_host_platform_device_count",
    "xla_gpu_cuda_data_dir", "xla_cpu_experimental_ynn_fusion_type",
)  # fmt: skip
"""Prefixes of XLA flags that do not affect results; the last is set for each program."""

_PLATFORMS = ("jax_platforms", "jax_platform_name", "jax_xla_backend")


@contextlib.contextmanager
def fixed(*, say: bool = True) -> Iterator[None]:
    """Makes JAX and Flax use the values that the package is written for, inside the context.

    It can be nested, and entered by several threads; a thread that computes for another must enter
    it too. Other values of the user are overridden, which is reported once on stderr.

    Args:
      say: whether to report overridden values.

    Raises:
      UserError: JAX finds no device to compute on.
    """
    if say:
        _say_what_is_set_aside()
    with contextlib.ExitStack() as stack:
        for name, value in OF_THREAD.items():
            if _differs(name, value):
                stack.enter_context(getattr(jax, name.removeprefix("jax_"))(value))
        if any(_forbids(name) for name in _GUARDS):
            stack.enter_context(jax.transfer_guard("allow"))
        stack.enter_context(_process)
        check_devices()
        yield


def set_aside() -> dict[str, Any]:
    """The settings that `fixed` overrides, with their present values."""
    differing = [n for n, value in {**OF_THREAD, **OF_PROCESS}.items() if _differs(n, value)]
    guards = [name for name in _GUARDS if _forbids(name)]
    if guards[:1] == ["jax_transfer_guard"]:  # sets all the others, which need not be listed
        guards = guards[:1]
    return {name: _value(name) for name in (*differing, *guards)}


def check_devices() -> None:
    """Starts JAX's backend, if it has not started.

    Raises:
      UserError: it does not start, for example with JAX_PLATFORMS=cuda and without CUDA.
    """
    try:
        jax.devices()
    except Exception as error:  # of many types, such as an AssertionError without a text
        name = next((name for name in _PLATFORMS if jax.config.values.get(name)), _PLATFORMS[0])
        reason = one_line(error).partition(" (set JAX_PLATFORMS")[0]
        if not str(error):
            reason = "the installed JAX knows no such device"
        if {"cuda", "gpu"} & set(str(jax.config.values[name]).split(",")):
            reason = gpu.why_not()
        raise UserError(
            f"{name.upper()}: {jax.config.values[name]!r} cannot be used here ({reason}); "
            f"{name.upper()}=cpu computes on the CPU"
        ) from error


def recorded(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What affects the results of a run besides its config and the versions, as JSON values.

    Args:
      environment: environment of the process.

    Returns:
      JAX setting or environment variable -> its value; "" for a variable that is not set.
    """
    switches = {name: _value(name) for name in SWITCHES if name in jax.config.values}
    variables = {name: environment.get(name, "") for name in VARIABLES}
    return {**switches, **variables, "XLA_FLAGS": _flags(variables["XLA_FLAGS"])}


def device() -> jax.Device:
    """The default device: `jax_default_device` if set, else JAX's first device."""
    (found,) = jax.numpy.zeros(()).devices()
    return found


def chosen_device() -> Any:
    """The value of `jax_default_device` in this thread; None where it is not set."""
    return _value("jax_default_device")


def cores(environment: Mapping[str, str] = os.environ) -> int:
    """The number of threads that XLA uses on a CPU, into which it splits sums.

    Args:
      environment: environment of the process; NPROC replaces the number of cores.
    """
    told = environment.get("NPROC", "")
    if told.isdecimal() and int(told):
        return int(told)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _flags(text: str) -> str:
    """XLA_FLAGS without the flags that do not affect results, sorted; the last of duplicates."""
    if text and not text.lstrip().startswith("-"):  # the name of a file that contains the flags
        with contextlib.suppress(OSError):
            text = Path(text).read_text(encoding="utf-8", errors="replace")
    given = {flag.lstrip("-").partition("=")[0]: flag for flag in text.split()}
    return " ".join(given[n] for n in sorted(given) if not n.startswith(_WITHOUT_EFFECT))


def _value(name: str) -> Any:
    """The value of a setting in this thread, as a JSON value."""
    if name.startswith("flax_"):
        return getattr(flax.config, name)
    # It is an attribute where a context manager can change it for one thread.
    value = getattr(jax.config, name, jax.config.values.get(name))
    return value.name.lower() if isinstance(value, enum.Enum) else value


def _known(name: str) -> bool:
    """Whether the installed release has a setting."""
    return hasattr(flax.config, name) if name.startswith("flax_") else name in jax.config.values


def _differs(name: str, value: Any) -> bool:
    return _known(name) and _value(name) != value


def _forbids(guard: str) -> bool:
    return _known(guard) and str(_value(guard)).startswith("disallow")


def _say_what_is_set_aside() -> None:
    if given := set_aside():
        shown = ", ".join(f"{name}={value}" for name, value in given.items())
        warn_once(
            f"{shown}: ignored while fednas_jax computes; results are those of the default values"
        )


class _Process:
    """Fixes the settings of the process while at least one thread is inside `fixed`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before: dict[str, Any] = {}

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                differing = {n: v for n, v in OF_PROCESS.items() if _differs(n, v)}
                self._before = {name: _value(name) for name in differing}
                _update(differing)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                _update(self._before)


def _update(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if name.startswith("flax_"):
            flax.config.update(name, value)
        else:
            jax.config.update(name, value)


_process = _Process()
