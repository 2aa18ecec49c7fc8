"""The one exception that stands for bad input, how its line says what would be right; warnings."""

import difflib
import functools
import sys
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The message is one line: the field or file, what is wrong, what would be right."""

    def __init__(self, message: str) -> None:
        """Args: message; what cannot be printed in it, line breaks too, is written as escapes."""
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


def suggest(name: str, choices: Iterable[str]) -> str:
    """Ends a `UserError` about an unknown name.

    Args:
      name: what was given.
      choices: the names that exist.

    Returns:
      "; did you mean 'x'?" where something is close, else "; known: a, b, c".
    """
    names = sorted(choices)
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(names)}"


def listed(items: Iterable[object], most: int = 10) -> str:
    """Things for a line of text: the first few by name, the others by their number.

    Args:
      items: what to name, in order.
      most: how many to name.
    """
    names = [str(item) for item in items]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def one_line(error: BaseException) -> str:
    """What an error of the system, or of a library, says, without its line breaks."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())


@functools.cache
def warn_once(line: str) -> None:
    """`warn`, the first time that a process would say the very line."""
    warn(line)


def warn(line: str) -> None:
    """Says on stderr, in one line, what a user should know and what does not stop the command."""
    print(f"fednas_jax: warning: {line}", file=sys.stderr, flush=True)
