"""Compiled programs kept on disk from run to run, and how long each took to compile.

JAX writes and reads them; here is where they lie, and what happens to a damaged one. Processes
share a folder: each entry is written once, and one that is only half there, since its writer is
not done or was killed, is taken away and compiled anew by whoever meets it.
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

from fednas_jax.errors import UserError, warn
from fednas_jax.files import read_json, write_json
from fednas_jax.paths import cache_home, expand

SECONDS_FILE = "compile_seconds.json"
_DAMAGED = re.compile(r"Error (reading|writing) persistent compilation cache entry for '(\w+)'")
_writing = threading.Lock()
_LEAST_SECONDS = "jax_persistent_cache_min_compile_time_secs"


@contextlib.contextmanager
def kept(where: str) -> Iterator[None]:
    """Keeps compiled programs on disk while it lasts.

    Args:
      where: a folder; `off`; or `auto`: where JAX was told (JAX_COMPILATION_CACHE_DIR), else
        fednas_jax/xla in the user's cache folder.

    Raises:
      UserError: a folder was named that cannot be written.
    """
    before = {
        name: jax.config.values[name]
        for name in ("jax_compilation_cache_dir", "jax_enable_compilation_cache", _LEAST_SECONDS)
    }
    try:
        _use({**before, **_wanted(where, before["jax_compilation_cache_dir"])})
        with _mended():
            yield
    finally:
        _use(before)


def _wanted(where: str, told: str | None) -> dict[str, Any]:
    """JAX's settings for a value of `config.compilation_cache`."""
    if where == "off" or (where == "auto" and told is not None):
        return {} if where == "auto" else {"jax_enable_compilation_cache": False}
    if where != "auto":
        folder = expand(where, "config.compilation_cache")
    elif home := cache_home():
        folder = home / "fednas_jax" / "xla"
    else:
        warn(
            "there is no home folder (HOME is not set), so compiled programs are not kept; "
            "XDG_CACHE_HOME=FOLDER keeps them"
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
        wanted[_LEAST_SECONDS] = 0.2  # JAX's second would compile half a dozen anew in each run
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
        compilation_cache.reset_cache()  # else JAX stays with the folder it began with


@contextlib.contextmanager
def _mended() -> Iterator[None]:
    """Turns JAX's warnings of damaged entries into one line each, and takes the entries away.

    JAX goes on without a damaged entry, but would leave it there, and warn, for ever.
    """
    before = warnings.showwarning

    def show(message: Any, *others: Any, **options: Any) -> None:
        found = _DAMAGED.match(str(message))
        if not found:
            before(message, *others, **options)
            return
        doing, program = found.groups()
        warn(f"error {doing} the compiled program {program} in the cache; going on without")
        with contextlib.suppress(OSError):
            _remove(program)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def _remove(program: str) -> None:
    """Removes all entries of a program's name, since JAX does not say which one was meant."""
    for path in Path(jax.config.values["jax_compilation_cache_dir"]).glob(f"{program}-*-cache"):
        path.unlink(missing_ok=True)


# How long programs took -------------------------------------------------------------------------


def seconds_file() -> Path | None:
    """Beside the compiled programs; None where none are kept."""
    folder = jax.config.values["jax_compilation_cache_dir"]
    if not folder or not jax.config.values["jax_enable_compilation_cache"]:
        return None
    return Path(folder) / SECONDS_FILE


def seconds_of(program: str) -> float | None:
    """How long a program took to compile last time, if that is known."""
    path = seconds_file()
    seconds = _read(path).get(program) if path else None
    return float(seconds) if isinstance(seconds, int | float) else None


def record_seconds(program: str, seconds: float) -> None:
    """Writes down how long a program took.

    Two processes at once may lose one of two entries: a message is all that would lack.
    """
    if path := seconds_file():
        with _writing, contextlib.suppress(UserError):
            write_json(path, {**_read(path), program: round(seconds, 1)})


def _read(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path, "")
    except UserError:  # not there yet, or damaged
        return {}
    return value if isinstance(value, dict) else {}
