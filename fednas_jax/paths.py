"""Where the published facts that ship with the project lie."""

from pathlib import Path

THIRD_PARTY = Path(__file__).resolve().parent.parent / "third_party"
"""Facts published by others, as data, each with its source (see its README)."""
