"""Where the files that ship with the package lie, and paths as users write them."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fednas_jax.errors import UserError

_PACKAGE = Path(__file__).resolve().parent


def _shipped(name: str) -> Path:
    """A folder that a wheel puts into the package; in the repository it lies beside it."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


THIRD_PARTY = _shipped("third_party")
"""Facts published by others, as data, each with its source (see its README)."""

CONFIGS = _shipped("configs")
"""The config files that `config_file.load` finds by name."""


def cache_home() -> Path | None:
    """Where this user's programs keep what can be made again: XDG_CACHE_HOME, else ~/.cache.

    Returns:
      None where there is neither: HOME is not set, and the system does not know the user, as in a
      container that runs under a number.
    """
    if told := os.environ.get("XDG_CACHE_HOME"):
        return Path(told)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        return None


@contextlib.contextmanager
def home() -> Iterator[None]:
    """While it lasts there is a home folder: for imports of packages that ask for one."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.gettempdir()
    else:
        yield
        return
    try:
        yield
    finally:
        del os.environ["HOME"]


def check_utf8(path: Path, field: str) -> Path:
    """Refuses a path that is not text in UTF-8, as what writes checkpoints needs.

    Args:
      path: of a run's folder.
      field: where the user gave it, for the message.

    Raises:
      UserError: its name has other bytes; or the locale, such as C, has no such letters, so that
        Python takes them for other bytes.
    """
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{field}: {os.fsencode(path)!r} is no text in this locale, and checkpoints cannot be "
            "kept there; PYTHONUTF8=1 is needed, or a folder with a name in ASCII"
        ) from error
    return path


def expand(path: str | Path, field: str) -> Path:
    """A path as a user writes it, with `~` put in full.

    What cannot even be looked at is refused here, so that `is_file` and its like do not raise.

    Args:
      path: of a file or folder, which need not exist.
      field: where the user gave it, for the message.

    Raises:
      UserError: there is no such user, or the system will not look there: not permitted, a name
        too long, a NUL in it.
    """
    shown = " ".join(str(path).split())
    try:
        expanded = Path(path).expanduser()
        os.stat(expanded)
    except (FileNotFoundError, NotADirectoryError):
        return expanded
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(f"{field}: {shown}: {reason}; a path within reach is needed") from error
    except RuntimeError as error:
        if shown.partition("/")[0] == "~":
            reason = "there is no home folder, as HOME is not set and the system has none"
        else:
            reason = "no such user"
        raise UserError(f"{field}: {shown}: {reason}; a path in full is needed") from error
    except ValueError as error:
        raise UserError(f"{field}: {shown!r} is not a path ({error}); one is needed") from error
    return expanded
