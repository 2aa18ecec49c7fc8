"""Releases of jaxlib with known faults in their CPU compiler, and the setting that avoids them.

Sources: github.com/jax-ml/jax, issues 39103, 39257, 40412 and 40101. Since 0.10.2, XLA passes fused
sums of products to a library (YNNPACK). `CURE` restricts that library to single products.
"""

import functools
import os
import sys
from collections.abc import MutableMapping
from importlib import metadata

OPTION = "xla_cpu_experimental_ynn_fusion_type"
"""XLA's option for what is passed to the library; known to jaxlib 0.10.1 and later."""

CURE = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
"""The value of that option with which all reported programs are correct; it costs no time."""

MISCOMPILES: dict[str, str] = {
    "0.10.2": "computes wrong sums of products on a CPU (jax-ml/jax#39103), or crashes (#39257)",
    "0.11.0": "crashes on a CPU in sums of products of many axes (jax-ml/jax#39257)",
}
"""Release of jaxlib -> its fault, which `CURE` prevents."""

SLOW: dict[str, str] = {
    "0.11.1": "updates slices in CPU loops in quadratic time (jax-ml/jax#40101)",
}
"""Release of jaxlib -> what is slow in it, which no setting prevents."""

NOISY = ("0.10.1",)
"""Releases that print an error of 4 KB for each program read from the compilation cache, although
there is no error (openxla/xla#44565, jax-ml/jax#38445)."""


@functools.cache
def installed() -> str:
    """The release of jaxlib in this environment; "" where there is none."""
    try:
        return metadata.version("jaxlib")
    except metadata.PackageNotFoundError:
        return ""


def cure_process(environment: MutableMapping[str, str], release: str) -> None:
    """Adds `CURE` to XLA_FLAGS for a release that miscompiles; silences a `NOISY` release.

    XLA reads its flags when it first compiles. From then on they apply to all programs of the
    process, including the user's own. On other releases, or where the user has set the same option,
    nothing is changed. On a silenced release, exceptions of XLA are still raised.

    Args:
      environment: environment of the process, such as `os.environ`.
      release: release of jaxlib.
    """
    flags = environment.get("XLA_FLAGS", "")
    names_a_file = flags and not flags.lstrip().startswith("-")
    if release in MISCOMPILES and OPTION not in flags and not names_a_file:
        environment["XLA_FLAGS"] = f"{flags} --{OPTION}={CURE}".strip()
    if release in NOISY:
        environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def objection(release: str, python: tuple[int, int] = sys.version_info[:2]) -> str:
    """The fault of a release of jaxlib, and what to do; "" where no fault is known.

    Args:
      release: release of jaxlib.
      python: version of Python; 3.11 has no release of JAX after 0.10.2.
    """
    fault = MISCOMPILES.get(release) or SLOW.get(release)
    if not fault:
        return ""
    wanted = "jax==0.10.1" if python < (3, 12) else "jax>=0.11.2"
    return f'jaxlib {release} {fault}; pip install "{wanted}" installs one without this fault'


def cure() -> None:
    """Calls `cure_process` for this process and the installed release, unless switched off."""
    if os.environ.get("FEDNAS_JAX_ENVIRONMENT") != "off":
        cure_process(os.environ, installed())


def settings_listed(release: str) -> str:
    """The environment that importing the package sets for a release of jaxlib, as Markdown."""
    environment: dict[str, str] = {}
    cure_process(environment, release)
    why = MISCOMPILES.get(release, "prints an error for each program read from the cache")
    lines = [f"- {name}={value}: jaxlib {release} {why}" for name, value in environment.items()]
    return "\n".join(["`import fednas_jax` sets, where you have not:", *lines]) if lines else ""
