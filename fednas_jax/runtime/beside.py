"""A user's file may import what lies beside it, from whatever folder a command is run."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

_imported_beside: dict[str, Path] = {}
"""Module -> the user's folder that it was imported from."""


@contextlib.contextmanager
def importable(path: str) -> Iterator[None]:
    """While it lasts, what lies beside a user's file can be imported, as by a script.

    Args:
      path: the file; "" of what stands in none.
    """
    if not path:
        yield
        return
    folder = Path(path).resolve().parent
    for name, origin in list(_imported_beside.items()):
        if origin != folder and _lies_in(name, folder):  # of another user's file, and another one
            sys.modules.pop(name, None)
            del _imported_beside[name]
    before, entry = set(sys.modules), str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # taken away by the user's code
            sys.path.remove(entry)
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).resolve().is_relative_to(folder):
                _imported_beside[name] = folder


def _lies_in(name: str, folder: Path) -> bool:
    first = name.partition(".")[0]
    return (folder / f"{first}.py").is_file() or (folder / first).is_dir()
