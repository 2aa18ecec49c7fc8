"""What is installed: dependencies, folders and data of a wheel, what an import finds and loads."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

import fednas_jax
from fednas_jax.runtime import extras
from fednas_jax.runtime.paths import CONFIGS, THIRD_PARTY

PACKAGE = Path(fednas_jax.__file__).resolve().parent
ROOT = PACKAGE.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
GROUPS = PROJECT["optional-dependencies"]
OPTIONAL = {"wandb", "mpi4py", "mpi4jax"}  # groups of their own
# By jax, by its export, and by tensorflow-datasets where it reads.
IMPORTED_BY_OTHERS = {"jaxlib", "flatbuffers", "array-record"}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _named(requirements: Iterable[str]) -> set[str]:
    """The distributions that lines of requirements name."""
    lines = (line for line in requirements if line and not line.startswith("#"))
    return {_normal(re.match(r"[\w.-]+", line)[0]) for line in lines}  # type: ignore[index]


RUNTIME = _named(PROJECT["dependencies"] + GROUPS["report"])


def _imported() -> set[str]:
    """Top-level names of other packages that ours imports, wherever in a file."""
    names = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"fednas_jax"} - OPTIONAL


def test_dependencies_are_what_is_imported() -> None:
    providers = importlib.metadata.packages_distributions()
    imported = [{_normal(name) for name in providers[module]} for module in _imported()]
    assert [names for names in imported if not names & RUNTIME] == []
    assert RUNTIME - set().union(*imported) == IMPORTED_BY_OTHERS


def test_dependencies_are_ranges() -> None:
    """A lowest version each, no highest one, and nothing but an index is needed."""
    ranges = [*PROJECT["dependencies"], *GROUPS["report"], *GROUPS["wandb"], *GROUPS["huggingface"]]
    for line in ranges:
        assert re.fullmatch(r"[\w-]+>=[\w.]+(,!=[\d.]+)*( *;.*)?", line), line


@pytest.mark.parametrize("group", ["report", "wandb", "huggingface"])
def test_a_group_is_what_its_features_need(group: str) -> None:
    features = [feature for feature in extras.FEATURES.values() if feature.group == group]
    needed = [name for feature in features for name in feature.packages.values()]
    assert _named(needed) == _named(GROUPS[group])


def _python(*arguments: str, folder: Path, site: Path | None = None) -> str:
    """What a Python program prints that finds the package in `site` alone, run in `folder`."""
    variables = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    if site is not None:
        variables["PYTHONPATH"] = str(site)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env=variables, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_imports_no_other() -> None:
    """Neither jax nor numpy: it takes a few milliseconds, and `restore` imports what it needs."""
    program = (
        "import sys; before = set(sys.modules); import fednas_jax; fednas_jax.restore;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    assert _python("-c", program, folder=ROOT) == "['fednas_jax']"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel, and the one that an editable install makes: "wheel" and "editable" -> file."""
    pytest.importorskip("hatchling", reason="the group dev installs it")
    found = {}
    for kind in ("wheel", "editable"):
        folder = tmp_path_factory.mktemp(kind)
        program = f"from hatchling import build; print(build.build_{kind}({str(folder)!r}))"
        found[kind] = folder / _python("-c", program, folder=ROOT).splitlines()[-1]
    return found


def test_a_wheel_holds_the_package_its_configs_and_facts(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built["wheel"]) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    kept = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    expected = {path.relative_to(ROOT).as_posix() for path in kept}
    expected |= {f"fednas_jax/configs/{path.name}" for path in CONFIGS.glob("*.py")}
    expected |= {f"fednas_jax/third_party/{path.name}" for path in THIRD_PARTY.iterdir()}
    assert names == expected


def test_an_installed_wheel_finds_its_configs_and_facts(
    built: dict[str, Path], tmp_path: Path
) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(built["wheel"]) as archive:
        archive.extractall(site)
    program = (
        "import fednas_jax; from fednas_jax.fields import config_file;"
        "from fednas_jax.runtime import paths;"
        "print(fednas_jax.__file__, paths.CONFIGS, paths.THIRD_PARTY);"
        "print(config_file.load('mnist_fedavg:table2_e5_b10_iid').rounds > 0)"
    )
    inside = site / "fednas_jax"
    assert _python("-c", program, folder=elsewhere, site=site).splitlines() == [
        f"{inside / '__init__.py'} {inside / 'configs'} {inside / 'third_party'}",
        "True",
    ]
    (entry,) = site.glob("*.dist-info/entry_points.txt")
    assert entry.read_text().splitlines()[-1] == "fednas-jax = fednas_jax.cli:main"
    said = _python("-m", "fednas_jax", "--version", folder=elsewhere, site=site)
    assert said == f"fednas_jax {fednas_jax.__version__}"


def test_an_editable_install_is_found_from_the_parent_of_a_clone_of_its_name(
    built: dict[str, Path], tmp_path: Path
) -> None:
    """There the clone's folder could be taken for the package, before any import hook is asked."""
    (tmp_path / "fednas_jax").symlink_to(ROOT)
    site = tmp_path / "site"
    with zipfile.ZipFile(built["editable"]) as archive:
        archive.extractall(site)
    assert {path.suffix for path in site.iterdir()} == {".pth", ".dist-info"}
    program = f"import site; site.addsitedir({str(site)!r})\n"
    program += "import fednas_jax; print(fednas_jax.__file__)"
    # Without the packages of this Python, of which it may be one.
    assert _python("-S", "-c", program, folder=tmp_path) == str(PACKAGE / "__init__.py")
