"""How programs are compiled: when, what is said of it, and what XLA's CPU compiler must be told.

On a CPU, XLA recomputes whole stencils inside each of their consumers unless optimisation barriers
stop it, and removes those barriers before it fuses unless told not to. With them kept, a local step
of the supernet runs about four times faster (`benchmarks/local_step.py --plain-xla` shows the
difference).

The compiler may hand a library single products only: fusions of them came out wrong in some
releases, see `runtime/releases.py`.
"""

import contextlib
import functools
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp

from fednas_jax import cache
from fednas_jax.runtime import releases, settings

CPU_OPTIONS: dict[str, Any] = {
    "xla_disable_hlo_passes": "cse_barrier_expander",
    releases.OPTION: releases.CURE,
}

QUICK_OPTIONS: dict[str, Any] = {
    **CPU_OPTIONS,
    # The older emitters compile the many small loops of a supernet in half the time.
    "xla_cpu_use_fusion_emitters": False,
    "xla_backend_optimization_level": 1,
}
"""Of programs so large that compiling them is what one waits for; small ones run 10 % slower."""


_WORTH_A_LINE = 2
"""Seconds of compiling that a user should know of."""

_SECONDS_FROM_CACHE = 3
"""A program that has not been read after so long is not in the cache."""


def _known(option: str, value: Any) -> bool:
    """Whether this XLA takes an option; tried on a small program."""
    options = {option: value}
    try:
        jax.jit(lambda x: x + 1, compiler_options=options).lower(jnp.float32(0)).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


@functools.cache
def compiler_options(*, quick: bool = False) -> dict[str, Any] | None:
    """Options for `jax.jit` on the default device; None where there are none for it.

    Args:
      quick: for a large program: compiles in half the time.

    They are internal names of XLA: one that this version does not know is left out, and the
    program still runs, slower.
    """
    if jax.default_backend() != "cpu":
        return None
    options = QUICK_OPTIONS if quick else CPU_OPTIONS
    return {name: value for name, value in options.items() if _known(name, value)} or None


def jit(function: Callable[..., Any], *, quick: bool = False, **arguments: Any) -> Any:
    """`jax.jit` with this module's options."""
    return jax.jit(function, compiler_options=compiler_options(quick=quick), **arguments)


def jit_once(function: Callable[..., Any]) -> Any:
    """`jax.jit` for what runs once, such as an initialisation: compiles in a tenth of the time."""
    options = compiler_options(quick=True)
    if options is not None:
        options = {**options, "xla_backend_optimization_level": 0}
    return jax.jit(function, compiler_options=options)


class Program:
    """A function that is compiled once, ahead of its first call or at it, and says so."""

    def __init__(self, name: str, jitted: Any) -> None:
        """Args: name, for people; jitted, what `jit` or `jit_once` made."""
        self.name = name
        self._jitted = jitted
        self._known = False
        self._pending: Future[None] | None = None

    def prepare(self, *arguments: Any, meanwhile: Callable[[], None] | None = None) -> Any:
        """Traces and compiles for arguments such as these; returns JAX's compiled program.

        A call with such arguments then runs the very program: JAX finds it again.

        Args:
          *arguments: of a call; only shapes and types count.
          meanwhile: called when all is traced, before it is compiled: to `prepare_meanwhile`
            others, which wait a little, since nobody should trace beside a program that only
            has to be read from the cache.
        """
        first, self._known = not self._known, True
        lowered = self._jitted.lower(*arguments)
        done = threading.Event()
        if meanwhile is not None:
            _thread().submit(done.wait, _SECONDS_FROM_CACHE)
            meanwhile()
        key = f"{self.name} {_fingerprint(arguments)}"
        before = cache.seconds_of(key)
        if first and (before is None or before >= _WORTH_A_LINE):
            took = "" if before is None else f" ({before:.0f} s last time)"
            _listener.say(f"compiling {self.name}{took}")
        start = time.monotonic()
        try:
            compiled = lowered.compile()
        finally:
            done.set()
        seconds = time.monotonic() - start
        if before is None or seconds > before / 2:  # else it was in the cache
            cache.record_seconds(key, seconds)
        if seconds >= _WORTH_A_LINE:
            _listener.say(f"compiled {self.name} in {seconds:.0f} s")
        return compiled

    def prepare_meanwhile(self, arguments: Callable[[], tuple[Any, ...]]) -> None:
        """`prepare` in a thread, one program after another; a call then waits for its own.

        XLA compiles a large program on one core; the other may trace and compile what comes later.
        """
        device = settings.chosen_device()

        def prepare() -> None:
            # What this thread computes with is not known to the other.
            with settings.fixed(say=False), jax.default_device(device):
                self.prepare(*arguments())

        self._pending = _thread().submit(prepare)

    def __call__(self, *arguments: Any) -> Any:
        """Runs; compiles if it was not prepared."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None
        if not self._known:
            self.prepare(*arguments)
        return self._jitted(*arguments)


def _fingerprint(arguments: Any) -> str:
    """Of shapes and types, of the options and of the versions: what decides over the time."""
    shapes = [(x.shape, str(x.dtype)) for x in map(jax.typeof, jax.tree.leaves(arguments))]
    about = (shapes, jax.tree.structure(arguments), CPU_OPTIONS, QUICK_OPTIONS, jax.__version__)
    return hashlib.sha256(repr(about).encode()).hexdigest()[:16]


@functools.cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "compile")


class _Listener:
    """Whom lines about what is compiled go to: nobody at first."""

    def say(self, line: str) -> None:
        """Takes a line, from whichever thread."""


_listener: Any = _Listener()


@contextlib.contextmanager
def told(say: Callable[[str], None]) -> Iterator[None]:
    """Lines about what is compiled go to `say` while it lasts, from whichever thread."""
    before = _listener.say
    _listener.say = say
    try:
        yield
    finally:
        _listener.say = before


def seconds() -> float:
    """Wall-clock seconds in which this process traced, lowered or compiled something so far."""
    with _lock:
        return sum(end - start for start, end in _spans)


_spans: list[tuple[float, float]] = []
"""When, without overlaps: two programs that compile beside each other take their time once."""
_lock = threading.Lock()


def _add(event: str, duration_secs: float, **_: str | int) -> None:
    """Called when something ends; what it overlaps with is therefore at the end of the list."""
    if not event.startswith("/jax/core/compile/"):
        return
    end = time.monotonic()
    start = end - duration_secs
    with _lock:
        while _spans and _spans[-1][1] >= start:
            earlier = _spans.pop()
            start, end = min(start, earlier[0]), max(end, earlier[1])
        _spans.append((start, end))


jax.monitoring.register_event_duration_secs_listener(_add)
