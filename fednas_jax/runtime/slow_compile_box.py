"""Leaves XLA's box "Very slow compile?" out of what a command writes to stderr.

When XLA has compiled a program for two minutes, and again when it is done, it writes a box of
asterisks that asks for a bug report. The message is logged as an error, so that a level of
TF_CPP_MIN_LOG_LEVEL that hides it would hide all errors of XLA, and no option of XLA turns it off.
Here the command's descriptor 2, to which XLA writes, becomes a pipe to a small process that passes
everything else on, unchanged and in order. It outlives a command that crashes, so that the last
lines arrive. What Python itself writes does not pass through it. `runtime/compilation.py` says
instead that a program is still being compiled.

Only commands do this (`environment.prepare`), never an import. This file is also the program of
that process, and therefore imports nothing of the package at its top.
"""

import atexit
import contextlib
import os
import re
import select
import subprocess
import sys
from typing import Any

_HEAD = re.compile(
    rb"(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: E |E\d{4} \d\d:\d\d:[\d.]+ +\d+ )"
    rb"\S*slow_operation_alarm\.cc:\d+\]"
)
"""The beginning of a message of XLA's alarm, in its two forms."""
_TOOK = re.compile(rb" ?(?:(?:\[.*\] )?The operation took .*)?")
_STARS = re.compile(rb"\*{32}")
_ASKS = re.compile(rb".*Very slow compile\?.*")
_PARTIAL = re.compile(rb"(?:\d{1,4}|\d{4}-[^\n]{0,300}|E\d{0,4}|E\d{4} [^\n]{0,300})\Z")
"""An incomplete line that might become the beginning of such a message."""

_PATIENCE_SECONDS = 0.2
"""Time after which the beginning of a message is passed on if nothing follows it."""
_FILTER_ENDS_SECONDS = 2.0


class Filter:
    """Takes the boxes out of bytes that arrive in pieces."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Takes the next bytes; returns those to pass on by now."""
        data, passed = self._held + data, b""
        while head := _HEAD.search(data):
            end = _box_end(data, head.end())
            if end is None:  # it may still become a box
                self._held = data[head.start() :]
                return passed + data[: head.start()]
            passed += data[: head.start()] if end else data[: head.end()]
            data = data[end or head.end() :]
        start = data.rfind(b"\n") + 1
        keep = start if _PARTIAL.match(data, start) else len(data)
        self._held = data[keep:]
        return passed + data[:keep]

    @property
    def holds(self) -> bool:
        """Whether bytes wait for those that follow."""
        return bool(self._held)

    def flush(self) -> bytes:
        """The bytes that wait."""
        held, self._held = self._held, b""
        return held


def _box_end(data: bytes, place: int) -> int | None:
    """The end of the box whose head ends at a place; 0 if it is no box, None if it is not whole."""
    for number, pattern in enumerate((_TOOK, _STARS, _ASKS, _STARS)):
        end = data.find(b"\n", place)
        if end < 0:
            return None
        if number == 1 and end == place:  # an empty line before the asterisks
            place = end + 1
            if (end := data.find(b"\n", place)) < 0:
                return None
        if not pattern.fullmatch(data, place, end):
            return 0
        place = end + 1
    return place


def install() -> bool:
    """Begins to filter this process's descriptor 2; for the start of a command.

    Returns:
      Whether it is filtered: not where stderr is closed, or no process can be started.
    """
    try:
        direct = os.dup(2)
        read, write = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__], stdin=read, stdout=direct, stderr=direct,
            start_new_session=True,  # Ctrl-C ends the command, and with it this
        )  # fmt: skip
    except (OSError, ValueError):
        return False
    os.close(read)
    _write_directly(direct)
    os.dup2(write, 2)
    os.close(write)
    atexit.register(_end, direct, process)
    return True


def _write_directly(descriptor: int) -> None:
    """Lets Python write to the stderr of before, which may be a terminal."""
    before = sys.stderr
    if before is None:
        return
    before.flush()
    stream: Any = open(  # noqa: SIM115 (for the rest of the process)
        descriptor, "w", encoding=before.encoding, errors=before.errors, buffering=1, closefd=False
    )
    if hasattr(before, "write_to"):  # a stream of `console.tolerant`
        before.write_to(stream)
    else:
        sys.stderr = stream


def _end(direct: int, process: subprocess.Popen[bytes]) -> None:
    """Restores descriptor 2, and waits until all is passed on."""
    with contextlib.suppress(OSError):
        os.dup2(direct, 2)
    # A process that the command has started, and left, may still write into the pipe.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_FILTER_ENDS_SECONDS)


def _pass_on(source: int, sink: int) -> None:
    """Reads until the end of the pipe."""
    boxes = Filter()
    while True:
        waiting = boxes.holds and not select.select([source], [], [], _PATIENCE_SECONDS)[0]
        data = b"" if waiting else os.read(source, 1 << 16)
        _write(sink, boxes.flush() if waiting or not data else boxes.feed(data))
        if not data and not waiting:
            return


def _write(sink: int, data: bytes) -> None:
    while data:
        with contextlib.suppress(BlockingIOError):
            data = data[os.write(sink, data) :]


if __name__ == "__main__":
    with contextlib.suppress(OSError):  # the reader is gone
        _pass_on(0, 1)
