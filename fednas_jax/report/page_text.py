"""Numbers as people read them on a page."""

import json
import math
from typing import Any

NOTHING = "\N{EN DASH}"
"""In the place of what was not measured."""


def percent(value: float | None) -> str:
    """An accuracy as text."""
    return NOTHING if value is None else f"{value:.2%}"


def in_bytes(count: float | None) -> str:
    """A number of bytes as text."""
    if count is None:
        return NOTHING
    power = min(int(math.log(max(count, 1), 1000)), 4)
    return f"{count / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def duration(seconds: float) -> str:
    """A time as text."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def number(value: Any) -> str:
    """A metric as text."""
    if value is None:
        return NOTHING
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def setting(value: Any) -> str:
    """The value of a field as text: as JSON has it, but for texts."""
    return value if isinstance(value, str) and value else json.dumps(value)
