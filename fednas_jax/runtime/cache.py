"""The cache of compiled programs on disk, and the compile time of each program.

JAX writes and reads the programs; this module chooses the folder and handles damaged entries.
Processes can share a folder. An incomplete entry, whose writer is not done or was killed, is
removed by the process that finds it, which compiles the program again.
"""

import contextlib
import os
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from fednas_jax.runtime.errors import UserError, warn
from fednas_jax.runtime.files import read_json, write_json
from fednas_jax.runtime.paths import cache_home, expand

SECONDS_FILE = "compile_seconds.json"
_DAMAGED = re.compile(r"Error (reading|writing) persistent compilation cache entry for '(\w+)'")
_writing = threading.Lock()
_LEAST_SECONDS = "jax_persistent_cache_min_compile_time_secs"


@contextlib.contextmanager
def configured(where: str) -> Iterator[None]:
    """Caches compiled programs on disk inside the context.

    Args:
      where: a folder; `off`; or `auto` for JAX's own setting (JAX_COMPILATION_CACHE_DIR), else
        fednas_jax/xla in the user's cache folder.

    Raises:
      UserError: the given folder cannot be written.
    """
    before = {
        name: jax.config.values[name]
        for name in ("jax_compilation_cache_dir", "jax_enable_compilation_cache", _LEAST_SECONDS)
    }
    try:
        _use({**before, **_options(where, before["jax_compilation_cache_dir"])})
        with _mended():
            yield
    finally:
        _use(before)


_MEANT = {
    **dict.fromkeys(("off", "none", "no", "false", "0", "disable", "disabled"), "off"),
    **dict.fromkeys(("auto", "default", "yes", "true", "on", "1", "enabled"), "auto"),
}
"""What is typed, in small letters -> the value that was meant, though it could be a folder."""


def _options(where: str, jax_folder: str | None) -> dict[str, Any]:
    """JAX's settings for a value of `config.compilation_cache`."""
    if (right := _MEANT.get(where.lower())) and where not in _MEANT.values():
        raise UserError(
            f"config.compilation_cache: {where!r} is not usable as a folder's name; did you mean "
            f"{right!r}? (./{where} is a folder)"
        )
    if where == "off" or (where == "auto" and jax_folder is not None):
        return {} if where == "auto" else {"jax_enable_compilation_cache": False}
    if where != "auto":
        folder = expand(where, "config.compilation_cache")
    elif home := cache_home():
        folder = home / "fednas_jax" / "xla"
    else:
        warn(
            "there is no home folder (HOME is not set), so compiled programs are not kept; to keep "
            "them, set XDG_CACHE_HOME=FOLDER"
        )
        return {"jax_enable_compilation_cache": False}
    if fault := _unwritable(folder):
        if where != "auto":
            raise UserError(
                f"config.compilation_cache: {folder} cannot be written ({fault}); "
                "a writable folder, 'auto' or 'off' is needed"
            )
        warn(f"{folder} cannot be written ({fault}), so compiled programs are not kept")
        return {"jax_enable_compilation_cache": False}
    wanted = {"jax_compilation_cache_dir": str(folder), "jax_enable_compilation_cache": True}
    if _LEAST_SECONDS.upper() not in os.environ:
        wanted[_LEAST_SECONDS] = 0.2  # with JAX's 1 s, six programs would be compiled in each run
    return wanted


def _unwritable(folder: Path) -> str:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return str(error.strerror)
    return "" if os.access(folder, os.W_OK | os.X_OK) else "Permission denied"


def _use(settings: dict[str, Any]) -> None:
    changed = {n: value for n, value in settings.items() if jax.config.values[n] != value}
    for name, value in changed.items():
        jax.config.update(name, value)
    if changed:
        compilation_cache.reset_cache()  # otherwise JAX keeps using its first folder


@contextlib.contextmanager
def _mended() -> Iterator[None]:
    """Removes damaged entries, and prints one line for each instead of JAX's warning.

    JAX continues without a damaged entry, but does not remove it, and would warn in every run.
    """
    before = warnings.showwarning

    def show(message: Any, *others: Any, **options: Any) -> None:
        found = _DAMAGED.match(str(message))
        if not found:
            before(message, *others, **options)
            return
        doing, program = found.groups()
        warn(f"error {doing} the compiled program {program} in the cache; continuing without it")
        with contextlib.suppress(OSError):
            _remove(program)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def _remove(program: str) -> None:
    """Removes all entries with a program's name, since JAX's warning does not name the entry."""
    for path in Path(jax.config.values["jax_compilation_cache_dir"]).glob(f"{program}-*-cache"):
        path.unlink(missing_ok=True)


# Compile times of programs ----------------------------------------------------------------------


def seconds_file() -> Path | None:
    """The file of compile times, beside the compiled programs; None where these are not kept."""
    folder = jax.config.values["jax_compilation_cache_dir"]
    if not folder or not jax.config.values["jax_enable_compilation_cache"]:
        return None
    return Path(folder) / SECONDS_FILE


def seconds_of(program: str) -> float | None:
    """The last compile time of a program; None if unknown."""
    path = seconds_file()
    seconds = _read(path).get(program) if path else None
    return float(seconds) if isinstance(seconds, int | float) else None


def record_seconds(program: str, seconds: float) -> None:
    """Records the compile time of a program.

    Of two processes at once, one may lose its entry, which only changes a message.
    """
    if path := seconds_file():
        with _writing, contextlib.suppress(UserError):
            write_json(path, {**_read(path), program: round(seconds, 1)})


def _read(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path, "")
    except UserError:  # missing or damaged
        return {}
    return value if isinstance(value, dict) else {}
