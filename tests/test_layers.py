"""The folders of the package: each imports only from those before it; no circles between files."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import fednas_jax

PACKAGE = Path(fednas_jax.__file__).parent
FLAT_AT_MOST = 10

LAYERS = (
    "runtime", "fields", "nn", "spaces", "data", "networks", "federated", "checkpoints", "report",
    "algorithms", "config", "experiment", "studies", "commands",
)  # fmt: skip
"""`config` is the module of this name; commands are the other files that lie flat."""

BACK = {
    (
        "report",
        "algorithms",
    ): "a run's page has sections of its algorithm, which the registry finds",
    ("report", "config"): "a run's page says which fields are not at their defaults",
}
"""Pairs of layers (from, to) that may import against the order, two at most, and why."""

Graph = dict[str, set[str]]
"""Module -> the modules that it imports; a package's `__init__` has the package's name."""


def graph_of(package: Path) -> Graph:
    """All imports within a package: at the top, in functions, and for types alone."""
    paths = {name_of(path, package): path for path in sorted(package.rglob("*.py"))}
    return {
        name: {found for wanted in imported(path) if (found := nearest(wanted, paths))} - {name}
        for name, path in paths.items()
    }


def name_of(path: Path, package: Path) -> str:
    parts = (package.name, *path.relative_to(package).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[str]:
    """Dotted names that a file imports: modules, or names in them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports are not followed"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def nearest(name: str, modules: dict[str, Path]) -> str:
    """The module that a dotted name is, or lies in; "" where it is none of these."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def circle(graph: Graph) -> list[str]:
    """Modules that import each other in a circle; empty where none do."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def layer(module: str) -> str:
    """The folder, directly in the package, that a module lies in; for flat ones see `LAYERS`."""
    parts = module.split(".")[1:]
    if parts and (PACKAGE / parts[0]).is_dir():
        return parts[0]
    return "config" if parts == ["config"] else "commands"


def write(package: Path, **files: str) -> Path:
    package.mkdir()
    for name, text in {"__init__": "", **files}.items():
        (package / f"{name}.py").write_text(text)
    return package


@pytest.mark.parametrize(
    "back",
    [
        "import p.a",
        "from p import a",
        "from p.a import x",
        "def late():\n    from p.a import x\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p import a\n",
    ],
)
def test_circles_are_found(tmp_path: Path, back: str) -> None:
    found = circle(graph_of(write(tmp_path / "p", a="x = 1\nfrom p import b", b=back)))
    assert sorted(set(found)) == ["p.a", "p.b"]


def test_what_is_no_circle(tmp_path: Path) -> None:
    package = write(tmp_path / "p", a="from p import b, c", b="import p.c, json", c="import ast")
    graph = graph_of(package)
    assert graph == {"p": set(), "p.a": {"p.b", "p.c"}, "p.b": {"p.c"}, "p.c": set()}
    assert circle(graph) == []


def test_no_circles() -> None:
    assert circle(graph_of(PACKAGE)) == []


def test_folders_import_only_from_those_before_them() -> None:
    assert len(BACK) <= 2
    wrong = [
        f"{module} imports {other}"
        for module, others in graph_of(PACKAGE).items()
        for other in sorted(others)
        if LAYERS.index(layer(module)) < LAYERS.index(layer(other))
        and (layer(module), layer(other)) not in BACK
    ]
    assert wrong == []


def test_arrows_back_are_there() -> None:
    graph = graph_of(PACKAGE)
    found = {(layer(module), layer(other)) for module in graph for other in graph[module]}
    assert set(BACK) <= found


def test_every_folder_has_its_place() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == set(LAYERS) - {"config", "commands"}


def test_few_modules_lie_flat() -> None:
    flat = sorted(path.name for path in PACKAGE.glob("*.py"))
    assert len(flat) <= FLAT_AT_MOST, flat
