"""What is installed: every folder of the package, its data, and every import's distribution."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import fednas_jax
from fednas_jax.paths import THIRD_PARTY

PACKAGE = Path(fednas_jax.__file__).resolve().parent
ROOT = PACKAGE.parent
OPTIONAL = {"wandb", "mpi4py", "mpi4jax"}  # requirements-wandb.txt, requirements-mpi.txt
# By jax, by its export, and by tensorflow-datasets where it reads.
IMPORTED_BY_OTHERS = {"jaxlib", "flatbuffers", "array-record"}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _required() -> set[str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return {_normal(line.split("==")[0]) for line in lines if not line.startswith("#")}


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


def test_requirements_are_what_is_imported() -> None:
    providers = importlib.metadata.packages_distributions()
    imported = [{_normal(name) for name in providers[module]} for module in _imported()]
    required = _required()
    assert [names for names in imported if not names & required] == []
    assert required - set().union(*imported) == IMPORTED_BY_OTHERS


def test_requirements_are_pinned_and_name_no_index() -> None:
    for path in ROOT.glob("requirements*.txt"):
        for line in path.read_text().splitlines():
            assert line.startswith("#") or re.fullmatch(
                r'[\w.-]+==[\w.]+(; python_version (<|>=) "3\.12")?', line
            ), f"{path.name}: {line}"


def test_every_folder_is_packaged() -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for path in PACKAGE.rglob("*.py")}
    named = {".".join(folder.parts) for folder in folders}
    assert set(setup["packages"]) == named | {"fednas_jax.third_party"}
    patterns = setup["package-data"]["fednas_jax.third_party"]
    shipped = {path.name for pattern in patterns for path in THIRD_PARTY.glob(pattern)}
    assert shipped == {path.name for path in THIRD_PARTY.iterdir() if path.is_file()}
