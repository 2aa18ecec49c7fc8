"""What a command prints, to a terminal or pipe that cannot show or does not take all of it."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


class Tolerant:
    """A text stream that raises no error for what it cannot show, or when nobody reads it.

    Characters that its encoding does not have are written as escapes. When the reader has gone, as
    in `... | head -1`, the rest is dropped: a run should end for no want of readers.
    """

    def __init__(self, stream: Any) -> None:
        """Args: stream, a text stream such as `sys.stdout`, which everything else is handed to."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes `text`; returns how many characters were taken."""
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding or "ascii"
            return self.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except BrokenPipeError:
            self._drop()
        return len(text)

    def flush(self) -> None:
        """Hands what is held back to the system."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._drop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _drop(self) -> None:
        """Whatever comes now, and what is held back, goes nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def tolerant() -> Iterator[None]:
    """While it lasts, `sys.stdout` and `sys.stderr` are `Tolerant`; for commands."""
    _open_standard_streams()
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(Tolerant(sys.stdout or nowhere)),
        contextlib.redirect_stderr(Tolerant(sys.stderr or nowhere)),
    ):
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()


def show(text: str) -> None:
    """Prints a line to stdout; for functions that are called from Python as well."""
    if sys.stdout is not None:
        print(text, file=Tolerant(sys.stdout), flush=True)


def _open_standard_streams() -> None:
    """Opens those that the process was started without (`>&-`).

    Else a file of the run would get a stream's number, and lines of XLA, which writes to that
    number, with it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest number that is free
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
