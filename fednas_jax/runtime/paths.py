"""The paths of files that ship with the package, and checks of users' paths."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fednas_jax.runtime.errors import UserError

_PACKAGE = Path(__file__).resolve().parents[1]


def _shipped(name: str) -> Path:
    """The path of a folder that is inside the package in a wheel, and beside it in the
    repository."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


THIRD_PARTY = _shipped("third_party")
"""The folder of published data of others, each with its source (see its README)."""

CONFIGS = _shipped("configs")
"""The folder of config files that `config_file.load` finds by name."""


def cache_home() -> Path | None:
    """The user's cache folder: XDG_CACHE_HOME, else ~/.cache.

    Returns:
      The folder; None where neither exists: HOME is not set and the system does not know the user,
      as in a container that runs under a numeric user id.
    """
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        return None


@contextlib.contextmanager
def home() -> Iterator[None]:
    """Provides a home folder inside the context, for packages that ask for one on import."""
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
    """Refuses a path that is not valid UTF-8, which the checkpoint library needs.

    Args:
      path: path of a run's folder.
      field: the field or flag with which the user gave it, for the message.

    Raises:
      UserError: the path is not valid UTF-8, or the locale, such as C, lacks its characters.
    """
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{field}: {os.fsencode(path)!r} is not valid text in this locale, and checkpoints "
            "cannot be saved there; PYTHONUTF8=1 is needed, or a folder with a name in ASCII"
        ) from error
    return path


def expand(path: str | Path, field: str) -> Path:
    """Expands `~` in a user's path.

    Paths that the system refuses to look up are refused here, so that `is_file` does not raise.

    Args:
      path: path of a file or folder, which need not exist.
      field: the field or flag with which the user gave it, for the message.

    Raises:
      UserError: there is no such user, or the system refuses the path: access is denied, a name is
        too long or contains NUL.
    """
    shown = " ".join(str(path).split())
    try:
        expanded = Path(path).expanduser()
        os.stat(expanded)
    except (FileNotFoundError, NotADirectoryError):
        return expanded
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(f"{field}: {shown}: {reason}; an accessible path is needed") from error
    except RuntimeError as error:
        if shown.partition("/")[0] == "~":
            reason = "there is no home folder, since HOME is not set and the system knows none"
        else:
            reason = "no such user"
        raise UserError(f"{field}: {shown}: {reason}; an absolute path is needed") from error
    except ValueError as error:
        raise UserError(f"{field}: {shown!r} is not a path ({error}); one is needed") from error
    return expanded
