"""The exception for bad input, help with its message, and warnings."""

import difflib
import functools
import re
import sys
from collections.abc import Iterable, Mapping


class UserError(Exception):
    """Bad input. The message is one line: the field or file, what is wrong, what would be right."""

    def __init__(self, message: str) -> None:
        """Args: message, in which line breaks and unprintable characters are escaped."""
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


_CLOSE = 0.75
"""Least similarity of a suggested name, from 0 to 1; with less, suggestions become absurd."""
_FEW = 0.6
"""The same where only a few names are possible, such as the flags of a command."""
_ALMOST = 0.9
"""The same for other words: of so many words, some would often be a little similar."""
_BEGINNING, _MOST = 3, 3
"""Letters of a name's beginning that count; number of names that are suggested for it at most."""


def plain(text: str) -> str:
    """A name without what people write in different ways: case, hyphens, underscores, dots."""
    return re.sub(r"[\s_.\-]", "", text).lower()


def closest(name: str, choices: Iterable[str], least: float = _CLOSE) -> str:
    """The choice that a name most resembles; "" if it resembles none.

    Args:
      name: the unknown name.
      choices: the known names.
      least: least similarity, from 0 to 1.
    """
    by_plain = {plain(choice): choice for choice in sorted(choices, reverse=True)}
    close = difflib.get_close_matches(plain(name), by_plain, n=1, cutoff=least)
    return by_plain[close[0]] if close else ""


def meant(name: str, choices: Iterable[str], also: Mapping[str, str] = {}) -> str:
    """What somebody who typed an unknown name meant.

    Args:
      name: the unknown name.
      choices: the known names.
      also: other word -> the known name, or words that say what to set instead, or "" where
        nothing corresponds to the word.

    Returns:
      A known name in quotes, or the words of `also`; "" if it is not clear.
    """
    names = set(choices)
    words = {plain(word): right for word, right in also.items()}
    right = words.get(plain(name))
    if right is None:
        right = closest(name, names) or words.get(closest(name, words, _ALMOST), "")
    return f"'{right}'" if right in names else right


def suggest(name: str, choices: Iterable[str], also: Mapping[str, str] = {}) -> str:
    """The end of a `UserError` about an unknown name.

    Args:
      name: the unknown name.
      choices: the known names.
      also: as for `meant`.

    Returns:
      "; did you mean 'x'?" if it is clear what was meant, else "; known: a, b, c".
    """
    names = sorted(choices)
    right = meant(name, names, also)
    return f"; did you mean {right}?" if right else f"; known: {', '.join(names)}"


def begun(name: str, choices: Iterable[str]) -> list[str]:
    """The few choices that begin with a name; none if the name is short, or too many do."""
    letters = plain(name)
    found = [choice for choice in sorted(choices) if plain(choice).startswith(letters)]
    return found if len(letters) >= _BEGINNING and len(found) <= _MOST else []


def suggest_of_few(name: str, choices: Iterable[str]) -> str:
    """As `suggest`, where only a few names are possible: commands, flags, configs.

    A name that is the beginning of others stands for these; else a smaller similarity is enough.
    """
    names = sorted(choices)
    close = closest(name, names, _FEW)
    if found := begun(name, names) or ([close] if close else []):
        return f"; did you mean {' or '.join(map(repr, found))}?"
    return f"; known: {', '.join(names)}"


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
