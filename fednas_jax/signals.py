"""Ctrl-C, SIGTERM, SIGUSR1: they end a command by an exception, never in the middle of a record.

Set explicitly: a shell starts what it runs in the background with SIGINT ignored, and SIGTERM ends
a Python process without a word. SIGUSR1 is what batch systems send ahead of it.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGUSR1 came. What reacts to Ctrl-C reacts to it in the same way."""


def exit_code(error: KeyboardInterrupt) -> int:
    """What a shell reports of a process that one of the signals has ended."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def _raise(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """While it lasts SIGINT raises KeyboardInterrupt, SIGTERM and SIGUSR1 `Terminated`.

    In the main thread; in another, in which no handler can be set, it does nothing.
    """
    with _handled_by(_raise, _SIGNALS):
        yield


@contextlib.contextmanager
def held() -> Iterator[None]:
    """What comes while it lasts is delivered when it ends: for what should be done wholly.

    In another than the main thread it does nothing, as none is delivered there.
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
            # None: set by something else than Python, which cannot be set again from here.
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)
