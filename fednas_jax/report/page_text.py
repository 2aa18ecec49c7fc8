"""Formats numbers for a page."""

import json
import math
from typing import Any

NOTHING = "\N{EN DASH}"
"""Text in the place of a number that was not measured."""


def percent(value: float | None) -> str:
    """Formats an accuracy."""
    return NOTHING if value is None else f"{value:.2%}"


def in_bytes(count: float | None) -> str:
    """Formats a number of bytes."""
    if count is None:
        return NOTHING
    power = min(int(math.log(max(count, 1), 1000)), 4)
    return f"{count / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def duration(seconds: float) -> str:
    """Formats a time."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def number(value: Any) -> str:
    """Formats a metric."""
    if value is None:
        return NOTHING
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def setting(value: Any) -> str:
    """Formats the value of a field: as JSON, except for texts, which are not quoted."""
    return value if isinstance(value, str) and value else json.dumps(value)


def counted(count: int, noun: str) -> str:
    """A number with what it counts, in the plural where it is not 1."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
