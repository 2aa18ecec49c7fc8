"""The exception for bad input, help with its message, and warnings."""

import difflib
import functools
import sys
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The message is one line: the field or file, what is wrong, what would be right."""

    def __init__(self, message: str) -> None:
        """Args: message, in which line breaks and unprintable characters are escaped."""
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


def suggest(name: str, choices: Iterable[str]) -> str:
    """The end of a `UserError` about an unknown name.

    Args:
      name: the unknown name.
      choices: the known names.

    Returns:
      "; did you mean 'x'?" if a known name is similar, else "; known: a, b, c".
    """
    names = sorted(choices)
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(names)}"


def listed(items: Iterable[object], most: int = 10) -> str:
    """Lists items in one line: the first few by name, and the number of the others.

    Args:
      items: the items, in order.
      most: maximum number of items to name.
    """
    names = [str(item) for item in items]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def one_line(error: BaseException) -> str:
    """The message of an error of the system or of a library, without line breaks."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())


@functools.cache
def warn_once(line: str) -> None:
    """Calls `warn`, but only once for the same line in a process."""
    warn(line)


def warn(line: str) -> None:
    """Prints a warning on stderr, in one line."""
    print(f"fednas_jax: warning: {line}", file=sys.stderr, flush=True)
