"""The lock file: one version of everything that pyproject.toml asks for, on each Python."""

import contextlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import fednas_jax
from fednas_jax.runtime import releases

packaging = pytest.importorskip("packaging", reason="the group dev installs it")
from packaging.requirements import Requirement  # noqa: E402
from packaging.utils import canonicalize_name  # noqa: E402

ROOT = Path(fednas_jax.__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements-lock.txt").read_text().splitlines()
PYTHONS = ("3.11", "3.12", "3.13")


def asked() -> list[Requirement]:
    """All that the package, its groups and its build of MPI ask for."""
    project = PYPROJECT["project"]
    groups = [*project["optional-dependencies"].values(), *PYPROJECT["dependency-groups"].values()]
    lines = [*project["dependencies"], *(line for group in groups for line in group)]
    found = [Requirement(line) for line in lines]
    return [requirement for requirement in found if requirement.name != project["name"]]


def locked(python: str) -> Iterator[tuple[str, str]]:
    """Name and version of each package, on Linux."""
    environment = {
        "python_version": python, "python_full_version": f"{python}.1",
        "sys_platform": "linux", "implementation_name": "cpython",
        "platform_python_implementation": "CPython", "platform_machine": "x86_64",
    }  # fmt: skip
    for line in LOCK[1:]:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (version,) = [specifier.version for specifier in requirement.specifier]
            yield canonicalize_name(requirement.name), version


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_has_one_version_that_fits_of_all_that_is_asked_for(python: str) -> None:
    pairs = list(locked(python))
    versions = dict(pairs)
    assert len(pairs) == len(versions), "one version a package"
    for requirement in asked():
        if requirement.marker and not requirement.marker.evaluate({"python_version": python}):
            continue
        version = versions.get(canonicalize_name(requirement.name))
        assert version, f"{requirement} is not locked; bash scripts/lock.sh"
        assert requirement.specifier.contains(version), f"{requirement}: {version}"


def needed_here(name: str, extras: set[str]) -> Iterator[str]:
    """What an installed distribution asks for, in this environment."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        for line in metadata.requires(name) or ():
            requirement = Requirement(line)
            chosen = [{"extra": extra} for extra in ("", *extras)]
            if not requirement.marker or any(requirement.marker.evaluate(e) for e in chosen):
                yield requirement.name


def test_all_that_is_installed_for_the_package_is_locked() -> None:
    """What the lock lacks would be installed in any version: it only constrains."""
    groups = set(PYPROJECT["project"]["optional-dependencies"])
    versions = dict(locked(f"{sys.version_info[0]}.{sys.version_info[1]}"))
    missing, seen = set(), set()
    left = list(needed_here("fednas_jax", groups))
    while left:
        name = canonicalize_name(left.pop())
        if name in seen or name == "fednas-jax":
            continue
        seen.add(name)
        missing |= set() if name in versions else {name}
        left += needed_here(name, set())
    assert len(seen) > 30
    assert missing == set()


def test_the_lock_names_exact_versions_and_no_index() -> None:
    assert LOCK[0] == "# Python 3.11 to 3.13. Made by: bash scripts/lock.sh"
    for line in LOCK[1:]:
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; [\w .'<>=!]+)?", line), line


@pytest.mark.parametrize("python", PYTHONS)
def test_bad_releases_are_excluded(python: str) -> None:
    """No range of pyproject.toml, and no lock, lets one in that miscompiles or is slow."""
    bad = {*releases.MISCOMPILES, *releases.SLOW}
    for requirement in asked():
        if requirement.name not in ("jax", "jaxlib") or not requirement.specifier:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
            assert [v for v in bad if requirement.specifier.contains(v)] == []
    assert {dict(locked(python))[name] for name in ("jax", "jaxlib")}.isdisjoint(bad)


@pytest.mark.parametrize("extra", ["cuda12", "cuda13"])
def test_cuda_is_locked_for_the_release_of_jax(extra: str) -> None:
    for python in PYTHONS:
        versions = dict(locked(python))
        assert versions[f"jax-{extra}-plugin"] == versions["jaxlib"] == versions["jax"]
    assert PYPROJECT["project"]["optional-dependencies"][extra] == [f"jax[{extra}]"]


def test_requirements_txt_asks_for_the_same_as_the_package() -> None:
    project = PYPROJECT["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["report"]]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == wanted


def test_a_lock_for_other_pythons_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is installed."""
    for name in ("PYTHON", "VENV"):  # of the environment that runs the tests
        monkeypatch.delenv(name, raising=False)
    for folder in ("scripts", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    script = tmp_path / "scripts/setup.sh"
    script.write_text((ROOT / "scripts/setup.sh").read_text())
    (tmp_path / "pyproject.toml").touch()
    python = tmp_path / ".venv/bin/python"
    python.write_text('#!/usr/bin/env bash\n[[ "$1" != -c ]] || echo 3.11\n')
    python.chmod(0o755)
    for first_line, error in (
        (
            "# Python 3.12 to 3.13. Made by: bash scripts/lock.sh",
            "requirements-lock.txt: is for Python 3.12 to 3.13, .venv has 3.11; set PYTHON to one "
            "of these",
        ),
        (
            "jax==0.10.1",
            "requirements-lock.txt: does not say for which Pythons it is; bash scripts/lock.sh "
            "makes it anew",
        ),
    ):
        (tmp_path / "requirements-lock.txt").write_text(f"{first_line}\n")
        done = subprocess.run(
            ["bash", str(script)], capture_output=True, text=True, check=False, timeout=60
        )
        assert (done.returncode, done.stderr) == (2, f"setup: error: {error}\n")
