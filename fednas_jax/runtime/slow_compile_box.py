"""Leaves XLA's box "Very slow compile?" out of what a command writes to stderr.

When XLA has compiled a program for two minutes, and again when it is done, it writes a box of
asterisks that asks for a bug report. The message is logged as an error, so that a level of
TF_CPP_MIN_LOG_LEVEL that hides it would hide all errors of XLA, and no option of XLA turns it off.
Here the command's descriptor 2, to which XLA writes, becomes a pipe to a small process that passes
everything else on, unchanged and in order. It outlives a command that crashes, so that the last
lines arrive. What Python itself writes does not pass through it, but waits until it has passed on
what was written before: so all lines keep their order. If the process does not start, or is killed,
descriptor 2 is restored at the next line that Python writes, and a line says so.
`runtime/compilation.py` says instead of XLA that a program is still being compiled.

Only commands do this (`environment.prepare`), never an import. This file is also the program of
that process, and therefore imports nothing of the package at its top.
"""

import atexit
import contextlib
import io
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
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
_ANSWERS_SECONDS = 5.0
"""Time to wait for the process; on an idle machine it starts in 0.05 s and answers in 0.0001 s."""
_ENDS_SECONDS = 0.3
"""Time in which the process ends after it has passed on all."""
_LOST = (
    'the process that leaves XLA\'s box "Very slow compile?" out of stderr {why}; the box may be '
    "shown from now on{missing}"
)


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


class _Stderr(io.TextIOWrapper):
    """The direct stderr; each write comes after what was written to descriptor 2 before."""

    def write(self, text: str) -> int:
        drain()
        return super().write(text)


class _Running:
    """The process that filters descriptor 2."""

    def __init__(
        self, process: subprocess.Popen[bytes], control: socket.socket, direct: int, read: int
    ) -> None:
        """Takes what `_start` has made."""
        self._process = process
        self._control = control
        self._direct = direct
        self._read: int | None = read  # kept until the process is known to read
        self._of = os.getpid()
        self._asked = 0
        self._free = threading.Lock()
        control.settimeout(_ANSWERS_SECONDS)

    def drain(self) -> None:
        """Waits until all is passed on; restores descriptor 2 if the process is lost."""
        # Not in a forked process, nor inside another call, such as in a destructor that warns.
        if os.getpid() != self._of or not self._free.acquire(blocking=False):
            return
        try:
            lost = self._lost()
        finally:
            self._free.release()
        if lost:
            _forget(self)
            self._restore(lost)

    def end(self) -> None:
        """Restores descriptor 2, and waits until all is passed on."""
        if os.getpid() != self._of:
            return
        os.dup2(self._direct, 2)
        self._free.acquire(timeout=_ANSWERS_SECONDS)  # another thread may still wait
        lost = self._lost()
        if lost:  # the usual case: it ends, since nothing can write into the pipe any more
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDS_SECONDS)
        if lost and self._process.returncode != 0:
            self._restore(lost)
        self._close()

    def _lost(self) -> str:
        """Asks the process whether all is passed on; why it is lost, "" if it is not."""
        self._asked = (self._asked + 1) % 256
        asked = bytes([self._asked])  # not the answer to a question that an exception cut short
        try:
            self._control.sendall(asked)
            while asked not in (answers := self._control.recv(256)):
                if not answers:
                    return "has ended"
        except (TimeoutError, BlockingIOError):  # the latter once the timeout is 0
            if self._read is not None:
                return f"has not started in {_ANSWERS_SECONDS:.0f} s"
            self._control.settimeout(0)  # such as when stderr's reader is stopped: wait only once
            return ""
        except OSError:
            return "has ended"
        self._control.settimeout(_ANSWERS_SECONDS)
        if self._read is not None:
            os.close(self._read)
            self._read = None
        return ""

    def _restore(self, why: str) -> None:
        """Makes descriptor 2 direct, passes on what nobody has read, and says so."""
        from fednas_jax.runtime.errors import warn

        os.dup2(self._direct, 2)
        missing = ", and lines of XLA before this one may be missing"
        if self._read is not None:
            missing = ""
            with contextlib.suppress(OSError):  # the reader is gone
                _pass_on_rest(self._read, self._direct)
        self._close()
        with contextlib.suppress(OSError):
            warn(_LOST.format(why=why, missing=missing))

    def _close(self) -> None:
        self._control.close()
        if self._read is not None:
            os.close(self._read)
            self._read = None
        # It may run on, for a process that the command has left: no ResourceWarning about that.
        if self._process.poll() is None:
            self._process.returncode = 0


_running: _Running | None = None


def _forget(running: _Running) -> None:
    global _running
    if _running is running:
        _running = None


def install() -> bool:
    """Begins to filter this process's descriptor 2; for the start of a command.

    Returns:
      Whether it is filtered: not where stderr is closed, no process can be started, or the package
      is read from an archive.
    """
    global _running
    if _running is not None or not sys.executable or not os.path.isfile(__file__):
        return _running is not None
    try:
        direct = os.dup(2)
    except OSError:
        return False
    read, write = os.pipe()
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, str(theirs.fileno())],
                stdin=read, stdout=direct, stderr=direct, pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C ends the command, and with it this
            )  # fmt: skip
        except (OSError, ValueError):
            ours.close()
            for descriptor in (direct, read, write):
                os.close(descriptor)
            return False
    _running = _Running(process, ours, direct, read)
    _write_directly(direct)
    os.dup2(write, 2)
    os.close(write)
    atexit.register(end)
    return True


def drain() -> None:
    """Waits until what was written to descriptor 2 is passed on, for a few seconds at most.

    All that Python writes to stderr calls it first. If the process that passes it on is lost,
    descriptor 2 is restored. Without such a process it does nothing.
    """
    if (running := _running) is not None:
        running.drain()


def end() -> None:
    """Ends filtering: restores descriptor 2, and waits until all is passed on.

    It is called at the end of a command. A second call does nothing.
    """
    if (running := _running) is not None:
        _forget(running)
        running.end()


def _write_directly(descriptor: int) -> None:
    """Lets Python write to the stderr of before, which may be a terminal."""
    before = sys.stderr
    if before is None:
        return
    before.flush()
    buffer = open(descriptor, "wb", closefd=False)  # noqa: SIM115 (for the rest of the process)
    stream: Any = _Stderr(buffer, before.encoding, before.errors, line_buffering=True)
    if hasattr(before, "write_to"):  # a stream of `console.tolerant`
        before.write_to(stream)
    else:
        sys.stderr = stream


def _pass_on_rest(source: int, sink: int) -> None:
    """Passes on what a pipe holds, without the boxes."""
    boxes = Filter()
    while select.select([source], [], [], 0)[0] and (data := os.read(source, 1 << 16)):
        _write(sink, boxes.feed(data))
    _write(sink, boxes.flush())


def _pass_on(source: int, sink: int, control: int) -> None:
    """Reads until the end of the pipe, and answers when all is passed on."""
    boxes, asked, watched = Filter(), b"", [source, control]
    while True:
        if asked and not boxes.holds and not select.select([source], [], [], 0)[0]:
            with contextlib.suppress(OSError):  # the command has ended
                os.write(control, asked)
            asked = b""
        ready = select.select(watched, [], [], _PATIENCE_SECONDS if boxes.holds else None)[0]
        if source in ready:
            data = os.read(source, 1 << 16)
            _write(sink, boxes.feed(data) if data else boxes.flush())
            if not data:
                return
        elif not ready:
            _write(sink, boxes.flush())
        if control in ready:
            questions = _questions(control)
            asked += questions
            if not questions:  # the command has ended, but not all that it has started
                watched.remove(control)


def _questions(control: int) -> bytes:
    with contextlib.suppress(OSError):
        return os.read(control, 256)
    return b""


def _write(sink: int, data: bytes) -> None:
    while data:
        with contextlib.suppress(BlockingIOError):
            data = data[os.write(sink, data) :]


if __name__ == "__main__":
    # Batch systems send these to all processes; it ends when no process writes to it any more.
    for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(_number, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # the reader is gone
        _pass_on(0, 1, int(sys.argv[1]))
