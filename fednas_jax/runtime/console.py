"""Printing to terminals and pipes that cannot show every character, or that are closed early."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


class Tolerant:
    """A text stream that raises no error for characters it cannot show, or when its reader is gone.

    Characters that its encoding lacks are written as escapes. When the reader is gone, as in
    `... | head -1`, the rest is dropped, so that the run does not end.
    """

    def __init__(self, stream: Any) -> None:
        """Args: stream, the text stream to write to, such as `sys.stdout`."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes `text`; returns the number of characters written."""
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding or "ascii"
            return self.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except BrokenPipeError:
            self._drop()
        return len(text)

    def flush(self) -> None:
        """Writes what is buffered."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._drop()

    def write_to(self, stream: Any) -> None:
        """Writes to another stream from now on."""
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _drop(self) -> None:
        """Discards what is buffered, and everything written later."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def tolerant() -> Iterator[None]:
    """Makes `sys.stdout` and `sys.stderr` `Tolerant` inside the context; for commands."""
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
    """Opens the standard streams that the process was started without (`>&-`).

    Otherwise a file of the run would get a standard stream's descriptor, and XLA, which writes to
    that descriptor, would write into the file.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # gets the lowest free descriptor
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
