"""Code that a user brings: named as `package.module:Name` or `path/to/file.py:Name`, and run."""

import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from fednas_jax.errors import UserError, suggest
from fednas_jax.paths import expand


class Source(NamedTuple):
    """Where something of a user's stands."""

    path: str
    """The file; "" of what stands in none."""
    sha256: str
    """Of the file, without what it imports; of a notebook, of the thing's own text."""


class Brought(NamedTuple):
    """Something of a user's."""

    value: Any
    source: Source


def is_reference(text: str) -> bool:
    """Whether a name in a config is one of a user's code."""
    return ":" in text


def load(reference: str, field: str) -> Brought:
    """Imports a module, or runs a file, and takes something from it.

    Args:
      reference: `package.module:Name`, or `path/to/file.py:Name`.
      field: where it was given.

    Raises:
      UserError: there is no such module or file, it fails, or it has no such name.
    """
    place, _, name = reference.rpartition(":")
    module = _of_file(expand(place, field)) if place.endswith(".py") else _of_package(place, field)
    if not hasattr(module, name):
        public = [other for other in vars(module) if not other.startswith("_")]
        raise UserError(f"{field}: {place} has no {name!r}{suggest(name, public)}")
    value = getattr(module, name)
    path = getattr(module, "__file__", None)
    return Brought(value, _of_path(path) if path else source_of(value))


def reference(value: Any) -> str:
    """The name by which `load` finds a class or a function again in this process."""
    return f"{value.__module__}:{value.__qualname__}"


def source_of(value: Any) -> Source:
    """Where a class or a function stands; `Source("", ...)` of a notebook or an interpreter."""
    try:
        path = inspect.getsourcefile(value)
        if path and Path(path).is_file():
            return _of_path(path)
        text = inspect.getsource(value)
    except (OSError, TypeError):  # typed into an interpreter
        text = ""
    return Source("", hashlib.sha256(text.encode()).hexdigest())


def _of_path(path: str) -> Source:
    return Source(path, hashlib.sha256(Path(path).read_bytes()).hexdigest())


def failure(path: Path, error: BaseException) -> UserError:
    """What went wrong in a user's file, in one line that says where in it.

    Args:
      path: the file.
      error: what it raised.
    """
    if isinstance(error, SyntaxError):
        line, reason = error.lineno, error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        line, reason = (lines[-1] if lines else None), str(error)
    place = f"{path}:{line}" if line else f"{path}"
    return UserError(f"{place}: {type(error).__name__}: {' '.join(reason.split())}; mend the file")


def _of_file(path: Path) -> ModuleType:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    return _run(path.resolve(), hashlib.sha256(content).hexdigest())


@functools.cache  # of one state of a file there is one module, whoever asks for it
def _run(path: Path, sha256: str) -> ModuleType:
    name = f"_fednas_jax_user_{sha256[:12]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: is no Python file; one that ends with .py is needed")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (Exception, SystemExit) as error:
        raise failure(path, error) from error
    return module


def _of_package(name: str, field: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # of a package that is not there; of an empty name
        found = None
    if found is None:
        raise UserError(
            f"{field}: there is no module {name!r}; package.module:Name or path/to/file.py:Name is "
            "needed"
        )
    try:
        return importlib.import_module(name)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise failure(Path(found.origin or name), error) from error
