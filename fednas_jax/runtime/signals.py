"""Signals: Ctrl-C, SIGTERM and SIGUSR1 raise an exception, but not while a record is written.

Handlers are set explicitly: a shell starts background processes with SIGINT ignored, and SIGTERM
ends a Python process without a message. Batch systems send SIGUSR1 before SIGTERM.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Terminated(KeyboardInterrupt):
    """The process has received SIGTERM or SIGUSR1; handled like Ctrl-C."""


def exit_code(error: KeyboardInterrupt) -> int:
    """The exit code that a shell reports for a process ended by one of the signals."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def _raise(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Inside the context, SIGINT raises KeyboardInterrupt, and SIGTERM and SIGUSR1 `Terminated`.

    It does nothing in other threads than the main thread, where handlers cannot be set.
    """
    with _handled_by(_raise, _SIGNALS):
        yield


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Delays signals until the context ends, so that an action is not interrupted.

    It does nothing in other threads than the main thread, which receive no signals.
    """
    came: list[int] = []
    numbers = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    try:
        with _handled_by(lambda number, frame: came.append(number), numbers):
            yield
    finally:
        if came:
            signal.raise_signal(came[0])


@contextlib.contextmanager
def _handled_by(handler: Any, numbers: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, handler)
        yield
    finally:
        for number, earlier in before.items():
            # None: the handler was not set by Python, and cannot be restored from here.
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)
