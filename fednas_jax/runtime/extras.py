"""Optional packages: which are missing, and the command that installs them.

They are listed in the groups of `[project.optional-dependencies]` in pyproject.toml.
"""

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from typing import Any, NamedTuple

from fednas_jax.runtime.errors import UserError


class Feature(NamedTuple):
    """A feature that needs optional packages."""

    group: str
    """Group in pyproject.toml that installs the packages."""
    packages: Mapping[str, str]
    """Name of the module -> name of the distribution that contains it."""
    writes: str = ""
    """What a run writes with the packages."""


_PICTURE = {"matplotlib": "matplotlib"}
_PLOTS = _PICTURE | {"scipy": "scipy"}
_PAGE = {"altair": "altair", "jinja2": "Jinja2", "vl_convert": "vl-convert-python"}

FEATURES = {
    "plots": Feature("report", _PLOTS, "plots/"),
    "page": Feature("report", _PAGE | _PLOTS, "report.html"),
    "tensorboard": Feature("report", {"tensorboardX": "tensorboardX"}, "tensorboard/"),
    "confusion": Feature("report", _PICTURE, "confusion.png"),
    "curves": Feature("report", _PICTURE, "curves.png"),
    "wandb": Feature("wandb", {"wandb": "wandb"}),
    "hugging_face": Feature("huggingface", {"datasets": "datasets"}),
}
"""Features by name."""

_OF_A_RUN = ("plots", "page", "tensorboard")
"""Fields of `config.report` that have the name of a feature."""


def missing(*features: str) -> list[str]:
    """The distributions that these features need and that are not installed."""
    packages = {m: d for feature in features for m, d in FEATURES[feature].packages.items()}
    return sorted({d for m, d in packages.items() if not _installed(m)}, key=str.lower)


def command(*features: str) -> str:
    """The command that installs the missing packages of these features.

    If this package runs from a clone and is not installed, pip does not know its groups, and the
    command names each package.
    """
    groups = ",".join(sorted({FEATURES[feature].group for feature in features}))
    try:
        importlib.metadata.version("fednas_jax")
    except importlib.metadata.PackageNotFoundError:
        return f"pip install {' '.join(missing(*features))}"
    return f"pip install 'fednas_jax[{groups}]'"


def need(feature: str, field: str) -> None:
    """Refuses a feature whose packages are not installed.

    Args:
      feature: a name in `FEATURES`.
      field: the field or flag that asked for it, for the message.

    Raises:
      UserError: a package is not installed.
    """
    if absent := missing(feature):
        raise UserError(f"{field}: {_are(absent)} not installed; {command(feature)} is needed")


def enabled(report: Mapping[str, Any], feature: str) -> bool:
    """Whether a run's `config.report` asks for a feature whose packages are all installed."""
    return bool(report[feature]) and not missing(feature)


def left_out(*features: str) -> str:
    """A line about what is not written because packages are missing; "" where none is missing."""
    without = [feature for feature in features if missing(feature)]
    if not without:
        return ""
    names = ", ".join(FEATURES[feature].writes for feature in without)
    return (
        f"{names} left out: {_are(missing(*without))} not installed; {command(*without)} is needed"
    )


def left_out_of_run(report: Mapping[str, Any]) -> str:
    """`left_out` for all features that a run's `config.report` asks for."""
    return left_out(*(name for name in _OF_A_RUN if report[name]))


def _are(distributions: list[str]) -> str:
    return f"{', '.join(distributions)} {'is' if len(distributions) == 1 else 'are'}"


def _installed(module: str) -> bool:
    """Whether a module is installed; a folder of that name without `__init__.py` is not a
    module."""
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None
