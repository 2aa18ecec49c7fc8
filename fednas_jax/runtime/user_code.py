"""Loads a user's own code, named as `package.module:Name` or `path/to/file.py:Name`.

An object that a user passes in Python may have no such name. It is stored in this process under the
name `given:NAME`, or `given:NAME#2` if another object has that name.
"""

import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from fednas_jax.runtime import beside, same_code
from fednas_jax.runtime.errors import UserError, suggest
from fednas_jax.runtime.paths import expand


class Source(NamedTuple):
    """The source of a user's code."""

    path: str
    """The file; "" if the code is not in a file."""
    sha256: str
    """Digest of the file, without the files that it imports; in a notebook, of the text of the
    class or function; "" if there is no text."""


class Brought(NamedTuple):
    """A user's own object, and its source."""

    value: Any
    source: Source


_GIVEN = "given"
_given: dict[str, Any] = {}
_first_seen: dict[str, str] = {}
"""Path of a module's file -> SHA-256 as the module was first used in this process."""
_DATA_SUFFIXES = (".npz", ".csv")
_SEPARATOR = re.compile("[" + re.escape(os.sep + (os.altsep or "")) + "]")
_PREFIX = "_fednas_jax_user_"
"""Of the names of modules that are files of a user's."""


def is_reference(text: str) -> bool:
    """Whether a name in a config refers to a user's code; a path of data, as `is_path`, does
    not."""
    return ":" in text and not is_path(text)


def is_path(text: str) -> bool:
    """Whether a name in a config is the path of a user's data.

    It is one if it ends with .npz or .csv, begins with `~` or has a separator of folders; but not
    if it is the reference of an object in a Python file, which has a colon behind `.py`.
    """
    if text.lower().endswith(_DATA_SUFFIXES):
        return True
    place, colon, name = text.rpartition(":")
    if colon and place.endswith(".py") and not _SEPARATOR.search(name):
        return False
    return text.startswith("~") or _SEPARATOR.search(text) is not None


def is_given(reference: str) -> bool:
    """Whether a reference is to an object that was passed in Python, as `give` returns it."""
    return reference.startswith(f"{_GIVEN}:")


def is_here(reference: str) -> bool:
    """Whether `give` has returned this reference in this process."""
    return is_given(reference) and reference.removeprefix(f"{_GIVEN}:") in _given


def give(value: Any, name: str, *, forget: bool = False) -> str:
    """Keeps an object for this process; an earlier definition of it is forgotten.

    Args:
      value: the object.
      name: what to call it; of letters, digits and underscores.
      forget: whether any other object of this name is forgotten too.

    Returns:
      The reference by which `load` finds it; numbered where another object has the name.
    """
    own, number = name, 1
    while not forget and own in _given and not same_code.same(_given[own], value):
        number += 1
        own = f"{name}#{number}"
    _given[own] = value
    return f"{_GIVEN}:{own}"


def comparable(text: str) -> str:
    """The value of a field as it is compared with that of a run of another process.

    There objects that were given in Python may be numbered in another way, and earlier versions
    named an object of a script by `__main__`.

    Args:
      text: with references, several with commas between.
    """
    main = _place_of("__main__")
    parts = [part.partition("#")[0] if is_given(part.strip()) else part for part in text.split(",")]
    return ",".join(re.sub(r"^\s*__main__:", lambda found: f"{main}:", part) for part in parts)


def load(reference: str, field: str) -> Brought:
    """Imports a module, or runs a file, and returns an object of it.

    Args:
      reference: `package.module:Name`, or `path/to/file.py:Name`; or one that `give` returned.
      field: the config field with the reference.

    Raises:
      UserError: there is no such module or file, it fails, or it has no such name.
    """
    place, _, name = reference.rpartition(":")
    if is_given(reference):
        if not is_here(reference):
            raise UserError(
                f"{field}: {reference} is an object of another process; {to_pass(field)}"
            )
        return Brought(_given[name], source_in_use(_given[name], field))
    module = _of_file(expand(place, field)) if place.endswith(".py") else _of_package(place, field)
    if not hasattr(module, name):
        public = [other for other in vars(module) if not other.startswith("_")]
        raise UserError(f"{field}: {place} has no {name!r}{suggest(name, public)}")
    value = getattr(module, name)
    path = getattr(module, "__file__", None)
    if not path:
        return Brought(value, source_of(value))
    is_current = module.__name__.startswith(_PREFIX)  # such a file is run again once it has changed
    return Brought(value, _of_path(path) if is_current else _unchanged(path, field))


def source_in_use(value: Any, field: str) -> Source:
    """As `source_of`, of an object that is computed with.

    Args:
      value: the object.
      field: that it is for.

    Raises:
      UserError: its file has changed since it was first used in this process.
    """
    source = source_of(value)
    module = str(getattr(value, "__module__", ""))
    return _unchanged(source.path, field) if source.path and _PREFIX not in module else source


def _unchanged(path: str, field: str) -> Source:
    """Where a module stands that this process has in memory."""
    source = _of_path(path)
    if _first_seen.setdefault(path, source.sha256) != source.sha256:
        raise UserError(
            f"{field}: {path} has changed since this process imported it; restart Python to use "
            "the file as it is now"
        )
    return source


def to_pass(field: str) -> str:
    """What is needed if a reference of `give` is to an object of another process.

    Args:
      field: the config field with the reference, such as "config.dataset.name".
    """
    argument = field.removeprefix("config.").removesuffix(".name")
    return f"the object itself is needed: experiment.run(config, workdir, {argument}=...)"


def found_again(reference: str, recorded: Mapping[str, str], beside: Iterable[Path]) -> str:
    """A reference that loads recorded code from the current folder.

    A file is looked for under the reference's path, under its recorded path, and in some folders.
    If several exist, one with the recorded digest is preferred.

    Args:
      reference: the recorded reference, as for `load`.
      recorded: the recorded `path` and `sha256`; empty for records of an earlier version.
      beside: folders in which the file may be.

    Raises:
      UserError: the file is in none of these places.
    """
    place, _, name = reference.rpartition(":")
    if is_given(reference) or not place.endswith(".py"):
        return reference
    path = expand(place, "restore")
    tried = [path, *([Path(recorded["path"])] if recorded.get("path") else [])]
    tried += [folder / path.name for folder in beside]
    there = [o for o in dict.fromkeys(tried) if os.path.isfile(o) and os.access(o, os.R_OK)]
    if not there:
        listed = ", ".join(map(str, dict.fromkeys(tried)))
        raise UserError(
            f"{reference}: no such file can be read ({listed}); the file is needed in one of these "
            "places"
        )
    same = [one for one in there if _of_path(str(one)).sha256 == recorded.get("sha256")]
    return f"{(same or there)[0]}:{name}"


def reference(value: Any) -> str:
    """The reference by which `load` finds a class or a function; "" if there is none."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    found = getattr(sys.modules.get(str(module)), name, None) if "." not in name else None
    return refer(str(module), name) if found is value and value is not None else ""


def refer(module: str, name: str) -> str:
    """The name by which `load` finds something of a module that is in memory; "" for none.

    Args:
      module: its name; of the script that runs, the file is named, as other processes have another
        `__main__`.
      name: in the module.
    """
    place = _place_of(module)
    return f"{place}:{name}" if place else ""


def _place_of(module: str) -> str:
    there = sys.modules.get(module)
    path = getattr(there, "__file__", None)
    if module == "__main__":
        spec = getattr(there, "__spec__", None)  # of `python -m`
        if spec is not None and spec.name:
            return str(spec.name)
        return _shown(Path(path)) if path and path.endswith(".py") else module
    if not module.startswith(_PREFIX):
        return module
    if path and Path(path).is_file() and _file_module(path, _of_path(path).sha256) == module:
        return _shown(Path(path))
    return ""  # the file is another one now


def _shown(path: Path) -> str:
    """Relative to the current folder, where it lies in there: a run's folder may then be moved."""
    path, here = path.resolve(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _main(path: Path | None = None, name: str = "") -> ModuleType | None:
    """The module of the script that runs, if it is this file or `python -m` has run this module:
    it must not run twice."""
    main = sys.modules.get("__main__")
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if path is None:
        return main if spec is not None and spec.name == name else None
    return main if file and spec is None and Path(file).resolve() == path else None


def source_of(value: Any) -> Source:
    """The source of a class or a function; its path is "" in a notebook or an interpreter.

    For a `functools.partial` it is the source of the function, for a tuple that of its first
    function, for any other object that of its class. The digest is "" if there is no text, as in an
    interpreter.
    """
    if isinstance(value, tuple):
        value = next(filter(callable, value), None)
    while isinstance(value, functools.partial):
        value = value.func
    value = inspect.unwrap(value) if callable(value) else value
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        value = type(value)
    try:
        path = inspect.getsourcefile(value)
        if path and Path(path).is_file():
            return _of_path(path)
        return Source("", hashlib.sha256(inspect.getsource(value).encode()).hexdigest())
    except (OSError, TypeError):  # typed into an interpreter, or not written in Python
        return Source("", "")


def _of_path(path: str) -> Source:
    return Source(path, hashlib.sha256(Path(path).read_bytes()).hexdigest())


def failure(path: Path, error: BaseException) -> UserError:
    """An error in a user's file, as one line with the place in the file.

    Args:
      path: the file.
      error: the exception that it raised.
    """
    line, reason = where(str(path), error), _reason(error)
    return UserError(f"{line or path}: {reason}; mend the file")


def failed(what: str, path: str, error: BaseException, needed: str) -> UserError:
    """An error in a call of a user's function, as one line with the place.

    Args:
      what: the config field and the reference.
      path: the function's file, or "".
      error: the exception that it raised.
      needed: what would be right.
    """
    place = where(path, error)
    return UserError(f"{what} fails{f' at {place}' if place else ''} ({_reason(error)}); {needed}")


def where(path: str, error: BaseException) -> str:
    """Where a user's code has failed, as "file:line"; "" if no line of it was reached.

    Args:
      path: the user's file; "" for code that is not in a file.
      error: the exception.
    """
    if isinstance(error, SyntaxError) and error.filename == path:
        return f"{path}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    if path:
        frames = traceback.StackSummary(f for f in frames if f.filename == path)
        return f"{path}:{frames[-1].lineno}" if frames else ""
    return f"{frames[1].filename}:{frames[1].lineno}" if len(frames) > 1 else ""


def _reason(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {' '.join(text.split())}"


def _of_file(path: Path) -> ModuleType:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    if (main := _main(path.resolve())) is not None:
        return main
    return _run(path.resolve(), hashlib.sha256(content).hexdigest())


def _file_module(path: str, sha256: str) -> str:
    return f"{_PREFIX}{sha256[:12]}_{Path(path).stem}"


@functools.cache  # of one state of a file there is one module, whoever asks for it
def _run(path: Path, sha256: str) -> ModuleType:
    name = _file_module(str(path), sha256)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: is not a Python file; one that ends with .py is needed")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with beside.importable(str(path)):
            spec.loader.exec_module(module)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (Exception, SystemExit) as error:
        raise failure(path, error) from error
    return module


def _of_package(name: str, field: str) -> ModuleType:
    if (main := _main(name=name)) is not None:
        return main
    if name in sys.modules:
        return sys.modules[name]
    try:
        found = importlib.util.find_spec(name)  # imports the packages that it is in
    except ValueError:  # the name is empty or not possible
        found = None
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is None or not f"{name}.".startswith(f"{missing}."):
            raise failure(_last_file(error, name), error) from error
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


def _last_file(error: BaseException, name: str) -> Path:
    """The file of the code that failed while a module, or a package around it, was imported."""
    names = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    files = [file for file in names if not file.startswith("<")]
    return Path(files[-1] if files[1:] else name)
