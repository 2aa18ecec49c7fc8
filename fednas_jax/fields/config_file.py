"""Config files: plain Python files with a function `get_config(variant="")`.

Those of the package are found by name, from any folder.
"""

import fnmatch
import inspect
import os
import runpy
from pathlib import Path

import ml_collections

from fednas_jax.runtime.errors import UserError, suggest, suggest_of_few
from fednas_jax.runtime.paths import CONFIGS, expand
from fednas_jax.runtime.user_code import failure


def load(spec: str) -> ml_collections.ConfigDict:
    """Runs a config file and returns its config, not yet checked.

    Args:
      spec: as for `find`, with `:variant` at its end for a variant.

    Raises:
      UserError: there is no such file or variant, or the file cannot be read, or fails.
    """
    named, variant = split(spec)
    path = find(named)
    get_config = _run(path).get("get_config")
    if not callable(get_config):
        raise UserError(f'{path}: has no get_config(variant=""), which has to return the config')
    arguments = (variant,) if inspect.signature(get_config).parameters else ()
    if variant and not arguments:
        raise UserError(f"{path}: has no variants; leave out ':{variant}'")
    try:
        config = get_config(*arguments)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (Exception, SystemExit) as error:
        raise failure(path, error) from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(
            f"{path}: get_config returned {type(config).__name__}; a config is needed, which "
            "fednas_jax.config.default() makes"
        )
    return config


def names() -> list[str]:
    """The names of the package's configs."""
    return sorted(path.stem for path in CONFIGS.glob("*.py") if path.name != "__init__.py")


def find(given: Path) -> Path:
    """The path of a config file.

    Args:
      given: a file; or, if there is no such file, one of `names`, also as configs/<name>.py.

    Raises:
      UserError: there is no such config, or the path is not possible on this system.
    """
    path = expand(given, "--config")
    if path.is_file():
        return path
    if str(given) in {way for name in names() for way in _ways(name)}:
        return CONFIGS / f"{given.stem}.py"
    raise UserError(f"{path}: no such config{suggest_of_few(str(path), _choices(path))}")


def split(spec: str) -> tuple[Path, str]:
    """Divides "config:variant" at the colon, unless a file with the whole name exists."""
    head, colon, variant = spec.rpartition(":")
    # Unlike Path.is_file, this does not raise for an impossible path; `expand` refuses it later.
    if not colon or os.path.isfile(os.path.expanduser(spec)):
        return Path(spec), ""
    return Path(head), variant


def expand_variants(spec: str) -> list[str]:
    """One spec for each variant of "config:variant,variant"; `*` stands for any text.

    Args:
      spec: as for `load`, with any number of variants. A variant with `*` is matched with the
        file's `VARIANTS`.

    Raises:
      UserError: the file cannot be run, or a variant with `*` matches none of its variants.
    """
    path, together = split(spec)
    specs = []
    for variant in together.split(","):
        names = [variant]
        if "*" in variant:
            known = _run(find(path)).get("VARIANTS")
            known = known if isinstance(known, list | tuple) else ()
            names = [name for name in known if fnmatch.fnmatchcase(name, variant)]
            if not names:
                raise UserError(
                    f"{path}: '{variant}' matches none of its variants"
                    + (f"; known: {', '.join(known)}" if known else ", since it has no VARIANTS")
                )
        specs += [f"{path}:{name}" if name else str(path) for name in names]
    return specs


def check_variant(variant: str, *names: str) -> None:
    """Refuses a variant that a config file does not have; for use in config files.

    Raises:
      UserError: `variant` is neither "" (the file's main config) nor one of `names`.
    """
    if variant and variant not in names:
        raise UserError(f"unknown variant '{variant}'{suggest(variant, names)}")


def _run(path: Path) -> dict[str, object]:
    try:
        return runpy.run_path(str(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (Exception, SystemExit) as error:
        raise failure(path, error) from error


def _ways(name: str) -> tuple[str, str]:
    """The two ways to name a config of the package."""
    return name, f"configs/{name}.py"


def _choices(path: Path) -> list[str]:
    """Suggestions for a path that does not exist: files beside it, and the package's configs."""
    beside = [str(other) for other in path.parent.glob("*.py") if other.name != "__init__.py"]
    way = int(path.parent == Path("configs"))
    return [*beside, *(_ways(name)[way] for name in names())]
