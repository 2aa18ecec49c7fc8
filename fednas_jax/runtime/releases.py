"""Releases of jaxlib whose CPU compiler is known to be wrong, and how it is told to be right.

Sources: github.com/jax-ml/jax, issues 39103, 39257, 40412 and 40101. Since 0.10.2 XLA hands sums of
products to a library (YNNPACK) in fusions. `CURE` restricts that library to single products.
"""

import functools
import os
import sys
from collections.abc import MutableMapping
from importlib import metadata

OPTION = "xla_cpu_experimental_ynn_fusion_type"
"""XLA's option that says what the library is given; since jaxlib 0.10.1 at the latest."""

CURE = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
"""Its value with which all reported programs are right; it costs no time."""

MISCOMPILES: dict[str, str] = {
    "0.10.2": "computes wrong sums of products on a CPU (jax-ml/jax#39103), or crashes (#39257)",
    "0.11.0": "crashes on a CPU in sums of products of many axes (jax-ml/jax#39257)",
}
"""Release of jaxlib -> what it does wrong; `CURE` prevents it."""

SLOW: dict[str, str] = {
    "0.11.1": "updates slices in CPU loops in quadratic time (jax-ml/jax#40101)",
}
"""Release of jaxlib -> what it is slow at, against which there is no cure."""

NOISY = ("0.10.1",)
"""Releases that print an error of 4 KB for each program read from the compilation cache, though all
is well (openxla/xla#44565, jax-ml/jax#38445)."""


@functools.cache
def installed() -> str:
    """The release of jaxlib in this environment; "" where there is none."""
    try:
        return metadata.version("jaxlib")
    except metadata.PackageNotFoundError:
        return ""


def cure_process(environment: MutableMapping[str, str], release: str) -> None:
    """Adds `CURE` to XLA_FLAGS where the release miscompiles; silences one that is `NOISY`.

    XLA reads its flags when it first compiles. From there on all programs of the process are cured,
    those of the user too. On any other release, or where the user has set the same, nothing is
    changed. What XLA raises as an exception is seen on a silenced release, too.

    Args:
      environment: of the process, such as `os.environ`.
      release: of jaxlib.
    """
    flags = environment.get("XLA_FLAGS", "")
    names_a_file = flags and not flags.lstrip().startswith("-")
    if release in MISCOMPILES and OPTION not in flags and not names_a_file:
        environment["XLA_FLAGS"] = f"{flags} --{OPTION}={CURE}".strip()
    if release in NOISY:
        environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def objection(release: str, python: tuple[int, int] = sys.version_info[:2]) -> str:
    """What is wrong with a release of jaxlib, and what to do; "" of one not known to be bad.

    Args:
      release: of jaxlib.
      python: the version of Python; 3.11 has no release of jax after 0.10.2.
    """
    fault = MISCOMPILES.get(release) or SLOW.get(release)
    if not fault:
        return ""
    wanted = "jax==0.10.1" if python < (3, 12) else "jax>=0.11.2"
    return f'jaxlib {release} {fault}; pip install "{wanted}" brings a release without this fault'


def cure() -> None:
    """`cure_process` of this process, with the release that is installed; not where it is off."""
    if os.environ.get("FEDNAS_JAX_ENVIRONMENT") != "off":
        cure_process(os.environ, installed())


def told(release: str) -> str:
    """What importing the package sets on a release of jaxlib, in lines of Markdown."""
    environment: dict[str, str] = {}
    cure_process(environment, release)
    why = MISCOMPILES.get(release, "prints an error for each program read from the cache")
    lines = [f"- {name}={value}: jaxlib {release} {why}" for name, value in environment.items()]
    return "\n".join(["`import fednas_jax` sets, where you have not:", *lines]) if lines else ""
