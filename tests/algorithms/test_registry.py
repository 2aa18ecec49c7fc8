"""No room knows another: only the registry names algorithms that are not its own."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fednas_jax
from fednas_jax.algorithms import registry
from fednas_jax.errors import UserError

PACKAGE = Path(fednas_jax.__file__).parent
ROOMS = PACKAGE / "algorithms"


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, at its top or in a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    """The room that a file lies in; "" where it lies in none."""
    inside = path.relative_to(ROOMS).parts if path.is_relative_to(ROOMS) else ()
    return inside[0] if len(inside) > 1 else ""


def compared(tree: ast.AST) -> Iterator[str]:
    """Texts that something is compared with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            values = [node.left, *node.comparators]
            yield from (v.value for v in ast.walk(ast.List(values)) if isinstance(v, ast.Constant))


def test_only_the_registry_imports_rooms() -> None:
    for path in modules():
        for name in imports(path):
            parts = name.split(".")
            if parts[:2] == ["fednas_jax", "algorithms"] and (ROOMS / parts[2]).is_dir():
                own = room_of(path) == parts[2]
                assert own or path == ROOMS / "registry.py", f"{path} imports {name}"


def test_no_other_file_asks_for_an_algorithm_s_name() -> None:
    for path in modules():
        if not room_of(path):
            asked = set(compared(ast.parse(path.read_text()))) & set(registry.NAMES)
            assert not asked, f"{path} compares with {asked}"


def test_configs_of_rooms_import_no_jax() -> None:
    heavy = ("jax", "flax", "optax", "numpy")
    for path in ROOMS.glob("*/config.py"):
        for name in imports(path):
            assert name.split(".")[0] not in heavy, f"{path} imports {name}"


def test_an_algorithm_that_is_not_there() -> None:
    with pytest.raises(UserError, match=r"^config\.algorithm: 'fedavgg' is unknown; did you mean"):
        registry.find("fedavgg")
    assert registry.title("fedavgg") == "fedavgg"
    assert registry.title("fednas") == "FedNAS"
    assert registry.source("fednas") is None
