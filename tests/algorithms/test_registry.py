"""No room knows another, and nobody but rooms what they search for."""

import ast
import fnmatch
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fednas_jax
from fednas_jax.algorithms import registry
from fednas_jax.algorithms.declared import Declared
from fednas_jax.algorithms.fedavg.config import DECLARED as FEDAVG
from fednas_jax.runtime import user_code
from fednas_jax.runtime.errors import UserError

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


def variant(room: Any) -> Declared:
    return FEDAVG._replace(name="fedavg_twice", title="x", room=room)


def of_width(width: int) -> Declared:
    return variant(lambda: width)


def a_room(width: int = 1) -> int:
    return width


def test_two_algorithms_of_one_name_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_added", {})
    pairs = (
        (variant(lambda: 1), variant(lambda: 2)),
        (of_width(1), of_width(2)),
        (variant(functools.partial(a_room, 1)), variant(functools.partial(a_room, 2))),
        (variant("one.module"), variant("another.module")),
        (variant(a_room), variant(functools.partial(a_room, 2))),
    )
    for one, other in pairs:
        registry._added.clear()
        registry.add(one)
        registry.add(one)
        with pytest.raises(UserError, match=r"^algorithm: 'fedavg_twice' is the name of two al"):
            registry.add(other)
    assert registry.source("fedavg_twice") == user_code.source_of(a_room)


def test_the_same_algorithm_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_added", {})
    registry.add(of_width(1))
    registry.add(of_width(1))
    registry._added.clear()
    registry.add(variant(functools.partial(a_room, width=1)))
    registry.add(variant(functools.partial(a_room, width=1)))
    # A cell of a notebook that has changed and is run again.
    registry._added.clear()
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    for text in ("lambda: 1", "lambda: 2"):
        registry.add(variant(eval(text, {"__name__": "__main__"})))


# Architectures -----------------------------------------------------------------------------------

OF_THE_SPACE = (
    "spaces/darts/*",
    "spaces/darts/cell.py",
    "spaces/darts/network.py",
    "spaces/darts/stack.py",
    "spaces/darts/supernet.py",
)
OF_ROOMS = ("algorithms/fednas/*", "algorithms/fedavg/report.py")
DRAWINGS = (
    "report/cells/alpha_charts.py",
    "report/cells/drawing.py",
    "report/cells/page_cells.py",
    "report/plots.py",
)
NAMED_BY_USERS = (
    # the registry of networks, in which a genotype's and a supernet are entries
    "networks/registry.py",
    "checkpoints/model.py",  # `Model.genotype`
    "studies/comparison.py",  # searched, random and published genotypes are what it compares
    "runtime/layout.py",
)
MAY_NAME_GENOTYPES = (*OF_THE_SPACE, *OF_ROOMS, *DRAWINGS, *NAMED_BY_USERS)
OTHER_ALPHAS = {"report/curves.py": "transparency, of Matplotlib"}
IN_FILES = {
    "checkpoints/model_file.py": "model.json's key, and the collection of alphas in a checkpoint",
    "report/findings.py": "keys of checkpoints and of summary.json",
    "fields/common.py": "`config.genotype`, for any algorithm that trains networks",
    "fields/words.py": "what people type for `config.network.name`",
    "algorithms/fedavg/config.py": "that it reads it",
}
"""Files that hold such a word in a text of its own: a key or the name of a field."""
ARCHITECTURE = re.compile(r"(?<![a-z])(genotypes?|alphas?|arch)(?![a-z])")


def identifiers(tree: ast.AST) -> Iterator[str]:
    """All names in the code of a file, those of imported modules among them."""
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name", "asname", "module"):
            name = getattr(node, field, None)
            if isinstance(name, str):
                yield name


def of_architectures(text: str) -> set[str]:
    """The identifiers of a file that name a genotype or alphas."""
    words = {
        name: re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name) for name in identifiers(ast.parse(text))
    }
    return {name for name, parts in words.items() if ARCHITECTURE.search(parts.lower())}


def keys(text: str) -> set[str]:
    """The texts of a file that are such a word: keys of dictionaries, say, and no sentences."""
    constants = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
    texts = {node.value for node in constants if isinstance(node.value, str)}
    return {text for text in texts if ARCHITECTURE.fullmatch(text.removeprefix("best_"))}


def may_name(path: str) -> bool:
    return any(fnmatch.fnmatch(path, pattern) for pattern in MAY_NAME_GENOTYPES)


def test_names_of_architectures_are_seen_wherever_they_stand() -> None:
    for line in (
        "from fednas_jax.spaces.darts.genotype import derive", "from a import b as genotypes",
        "state.arch", "def best_genotype(): 0", "f(alphas=1)", "x: 'a' = bestGenotype",
        "class GenotypeFile: 0", "lambda alpha: 0",
    ):  # fmt: skip
        assert of_architectures(line), line
    for line in ("import search", "alphabet", "archives.arrival", "'genotype'", "x.march"):
        assert not of_architectures(line), line


def test_no_genotype_and_no_alphas_outside_of_the_space_its_rooms_and_its_drawings() -> None:
    for path in modules():
        place = path.relative_to(PACKAGE).as_posix()
        if not may_name(place) and place not in OTHER_ALPHAS:
            assert not of_architectures(path.read_text()), place


def test_no_key_is_a_genotype_either_but_in_formats_of_files() -> None:
    assert keys("x['genotype'], {'best_genotype': 0, 'alphas': f(arch='a genotype')}") == {
        "genotype", "best_genotype", "alphas",
    }  # fmt: skip
    for path in modules():
        place = path.relative_to(PACKAGE).as_posix()
        if not may_name(place):
            assert bool(keys(path.read_text())) == (place in IN_FILES), place


def test_whoever_may_name_genotypes_does() -> None:
    """The list holds nothing that it need not hold any more."""
    named = [p for p in modules() if of_architectures(p.read_text())]
    places = [path.relative_to(PACKAGE).as_posix() for path in named]
    for pattern in (*MAY_NAME_GENOTYPES, *OTHER_ALPHAS):
        assert fnmatch.filter(places, pattern), pattern


def test_only_the_space_its_rooms_its_drawings_and_the_registry_import_it() -> None:
    may = (*OF_THE_SPACE, *OF_ROOMS, *DRAWINGS, "networks/registry.py", "studies/comparison.py")
    for path in modules():
        place = path.relative_to(PACKAGE).as_posix()
        of_space = {name for name in imports(path) if name.startswith("fednas_jax.spaces")}
        of_space.discard("fednas_jax.spaces.darts.inherit.merged")  # of trees of any network
        allowed = any(fnmatch.fnmatch(place, pattern) for pattern in may)
        assert allowed or not of_space, f"{place} imports {of_space}"
