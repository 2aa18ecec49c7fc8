"""Compiling programs: options for XLA's CPU compiler, compiling ahead of time, and messages.

On a CPU, XLA recomputes whole stencils inside each of their consumers. Optimisation barriers
prevent this, but XLA removes them before it fuses, unless an option forbids it. With barriers a
local step of the supernet runs about four times faster (`benchmarks/local_step.py --plain-xla`
shows the difference).

Another option restricts a library to single products, since its fused products are wrong in some
releases; see `runtime/releases.py`.
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

from fednas_jax.runtime import cache, releases, settings

CPU_OPTIONS: dict[str, Any] = {
    "xla_disable_hlo_passes": "cse_barrier_expander",
    releases.OPTION: releases.CURE,
}

QUICK_OPTIONS: dict[str, Any] = {
    **CPU_OPTIONS,
    # The older emitters compile the many small loops of a supernet in half of the time.
    "xla_cpu_use_fusion_emitters": False,
    "xla_backend_optimization_level": 1,
}
"""Options for large programs, whose compile time dominates; small programs run 10 % slower."""


_WORTH_A_LINE = 2
"""Compile time from which a line is printed."""

_SLOW_SECONDS = 120.0
"""Compile time after which a line says that it goes on; and again after twice that, and so on."""

_SECONDS_FROM_CACHE = 3
"""Time after which a program that has not been read from the cache is taken to be not in it."""


def _known(option: str, value: Any) -> bool:
    """Whether this XLA accepts an option, tried on a small program."""
    options = {option: value}
    try:
        jax.jit(lambda x: x + 1, compiler_options=options).lower(jnp.float32(0)).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


@functools.cache
def compiler_options(*, quick: bool = False) -> dict[str, Any] | None:
    """Compiler options for `jax.jit` on the default device; None where it needs none.

    Args:
      quick: whether to compile in half of the time, for large programs.

    The names are internal to XLA. Options that this version does not know are left out; the program
    then runs slower.
    """
    if jax.default_backend() != "cpu":
        return None
    options = QUICK_OPTIONS if quick else CPU_OPTIONS
    return {name: value for name, value in options.items() if _known(name, value)} or None


def jit(function: Callable[..., Any], *, quick: bool = False, **arguments: Any) -> Any:
    """`jax.jit` with this module's options."""
    return jax.jit(function, compiler_options=compiler_options(quick=quick), **arguments)


def jit_once(function: Callable[..., Any]) -> Any:
    """`jax.jit` for a function that runs once, such as an initialisation; compiles 10 times
    faster."""
    options = compiler_options(quick=True)
    if options is not None:
        options = {**options, "xla_backend_optimization_level": 0}
    return jax.jit(function, compiler_options=options)


class Program:
    """A function that is compiled once, before or at its first call, and reports its
    compilation."""

    def __init__(self, name: str, jitted: Any) -> None:
        """Args: name, for messages; jitted, from `jit` or `jit_once`."""
        self.name = name
        self._jitted = jitted
        self._known = False
        self._pending: Future[None] | None = None

    def prepare(self, *arguments: Any, meanwhile: Callable[[], None] | None = None) -> Any:
        """Traces and compiles the function for given arguments; returns JAX's compiled program.

        A later call with arguments of the same shapes and types runs this program.

        Args:
          *arguments: arguments of a call; only their shapes and types matter.
          meanwhile: called after tracing and before compiling, to `prepare_meanwhile` other
            programs. These wait a little: tracing them would slow down a program that only has to
            be read from the cache.
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
        took = "" if before is None else f"; it took {before:.0f} s last time"
        try:
            with _said_while_slow(self.name, took):
                compiled = lowered.compile()
        finally:
            done.set()
        seconds = time.monotonic() - start
        if before is None or seconds > before / 2:  # otherwise it was in the cache
            cache.record_seconds(key, seconds)
        if seconds >= _WORTH_A_LINE:
            _listener.say(f"compiled {self.name} in {seconds:.0f} s")
        return compiled

    def prepare_meanwhile(self, arguments: Callable[[], tuple[Any, ...]]) -> None:
        """Calls `prepare` in a thread, one program after another; a call waits for its program.

        XLA compiles a large program on one core; other cores can prepare later programs meanwhile.
        """
        device = settings.chosen_device()

        def prepare() -> None:
            # The new thread does not inherit the settings and the device of this one.
            with settings.fixed(say=False), jax.default_device(device):
                self.prepare(*arguments())

        self._pending = _thread().submit(prepare)

    def __call__(self, *arguments: Any) -> Any:
        """Runs the program, and compiles it first if it was not prepared."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None
        if not self._known:
            self.prepare(*arguments)
        return self._jitted(*arguments)


@contextlib.contextmanager
def _said_while_slow(name: str, took: str) -> Iterator[None]:
    """Says, after two minutes, four, eight and so on, that a program is still being compiled."""
    done, start = threading.Event(), time.monotonic()

    def watch() -> None:
        after = _SLOW_SECONDS
        while not done.wait(start + after - time.monotonic()):
            _listener.say(f"still compiling {name}, for {after / 60:.0f} min so far{took}")
            after *= 2

    threading.Thread(target=watch, name="slow-compile", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _fingerprint(arguments: Any) -> str:
    """A key of shapes, types, options and versions, on which the compile time depends."""
    shapes = [(x.shape, str(x.dtype)) for x in map(jax.typeof, jax.tree.leaves(arguments))]
    about = (shapes, jax.tree.structure(arguments), CPU_OPTIONS, QUICK_OPTIONS, jax.__version__)
    return hashlib.sha256(repr(about).encode()).hexdigest()[:16]


@functools.cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "compile")


class _Listener:
    """The receiver of lines about compilations: none at first."""

    def say(self, line: str) -> None:
        """Receives a line, from any thread."""


_listener: Any = _Listener()


@contextlib.contextmanager
def reported(say: Callable[[str], None]) -> Iterator[None]:
    """Sends lines about compilations, from any thread, to `say` inside the context."""
    before = _listener.say
    _listener.say = say
    try:
        yield
    finally:
        _listener.say = before


def seconds() -> float:
    """Wall-clock seconds that this process has spent tracing, lowering or compiling so far."""
    with _lock:
        return sum(end - start for start, end in _spans)


_spans: list[tuple[float, float]] = []
"""Times of compilations (start, end), merged where they overlap, so that time is counted once."""
_lock = threading.Lock()


def _add(event: str, duration_secs: float, **_: str | int) -> None:
    """Called at the end of an event; events that it overlaps are therefore at the end of the
    list."""
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
