"""Where the published facts that ship with the project lie."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
# A wheel puts them into the package; in the repository they lie beside it.
_INSTALLED = _PACKAGE / "third_party"

THIRD_PARTY = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "third_party"
"""Facts published by others, as data, each with its source (see its README)."""
