"""Where the published facts that ship with the project lie."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / "third_party"  # where a wheel puts them; in the repository: beside the package

THIRD_PARTY = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "third_party"
"""Facts published by others, as data, each with its source (see its README)."""
