"""What the documents promise: Python that runs, tables up to date, a README of one screen or two.

Commands: `test_docs_commands.py`; links: `test_docs_links.py`; the recipe: `test_contributing.py`.
"""

import ast
import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from fednas_jax import cli
from fednas_jax import config as schema
from fednas_jax.algorithms import registry
from fednas_jax.experiment import stages
from fednas_jax.fields import config_file
from tests.documents import FENCED, ROOT, Block, blocks, files, text

PYTHON = [block for name in FENCED for block in blocks(name) if block.language == "python"]
USER_CODE = {"docs/extending.md", "CONTRIBUTING.md"}
"""Files for their readers to write, which run in tests/algorithms/test_brought.py,
tests/networks/test_brought.py and tests/test_contributing.py."""


def _python(document: str, word: str) -> Block:
    (block,) = [b for b in PYTHON if b.document == document and word in b.text]
    return block


def _run(block: Block) -> None:
    exec(compile(block.text, block.document, "exec"), {})


def test_readme_is_short() -> None:
    lines = text("README.md").splitlines()
    assert len(lines) <= 130
    pictures = [line for line in lines if line.startswith("![")]
    assert len(pictures) == 1


def test_readme_names_every_algorithm_and_says_which_are_planned() -> None:
    for document in ("README.md", "docs/algorithms.md"):
        row = re.compile(
            r"^\| \[?(\w+)(?:\]\(#\w+\))? \|.*\| (works|planned[^|]*) \|$", re.MULTILINE
        )
        status = dict(row.findall(text(document)))
        works = {name for name, words in status.items() if words == "works"}
        assert works == {declared.title for declared in registry.ALGORITHMS}
        assert all("no code yet" in status[name] for name in status.keys() - works)


def test_readme_names_every_subcommand() -> None:
    assert [name for name in cli.COMMANDS if f"`{name}`" not in text("README.md")] == []


@pytest.mark.parametrize("document", FENCED)
def test_configs_and_variants_that_are_named_exist(document: str) -> None:
    for spec in set(re.findall(r"`(configs/\w+\.py(?::\w+)?)`", text(document))):
        stages.resolve(config_file.load(str(ROOT / spec)), {})


def test_every_config_is_in_the_table() -> None:
    table = text("docs/algorithms.md").partition("\n## Configs\n")[2]
    named = set(re.findall(r"`(?:configs/)?(\w+\.py)", table))
    assert named == {path.name for path in (ROOT / "configs").glob("*.py")}


def test_every_partition_and_data_set_is_explained() -> None:
    from fednas_jax.data import datasets, partition

    told = set(re.findall(r"`(\w+)`", text("docs/data.md")))
    assert set(partition.NAMES) | set(datasets.NAMES) <= told
    fields = {f.name for f in schema.FIELDS if f.name.startswith("partition.")}
    assert {f"partition.{name}" for name in told} >= fields - {
        *("partition.name", "partition.seed", "partition.balanced")
    }


def test_table_of_fields_is_up_to_date() -> None:
    kept = (ROOT / "docs" / "config.md").read_text()
    assert kept == schema.markdown() + "\n", "python -m fednas_jax.config > docs/config.md"


def test_all_numbers_are_filled_in() -> None:
    places = [ROOT / "README.md", *(ROOT / "configs").rglob("*.py"), *(ROOT / "docs").rglob("*.md")]
    unmeasured = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in places
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"MEASURE|\b[A-Z]+_TIME\b", line)
    ]
    assert unmeasured == []


@pytest.mark.parametrize("document", FENCED)
def test_every_block_has_a_known_language(document: str) -> None:
    """`text` is what is shown; all else is checked: commands and Python."""
    assert {block.language for block in blocks(document)} <= {"", "bash", "python", "text"}
    assert len(blocks(document)) * 2 == len(re.findall(r"^ *```", text(document), re.MULTILINE))


@pytest.mark.parametrize("block", PYTHON, ids=[f"{b.document}-{i}" for i, b in enumerate(PYTHON)])
def test_what_python_imports_from_the_package_is_there(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fednas_jax"):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                if not hasattr(module, alias.name):  # a module of a package
                    importlib.import_module(f"{node.module}.{alias.name}")


def test_every_block_of_python_is_run() -> None:
    """By the tests below, one each."""
    others = [block.document for block in PYTHON if block.document not in USER_CODE]
    assert others == ["README.md", "docs/outputs.md", "docs/running.md"]


def test_the_pieces_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _run(_python("docs/running.md", "Supernet("))
    assert capsys.readouterr().out == "337626 58575360\n"
    assert {path.name for path in tmp_path.iterdir()} == {"partition.png", "cells.png"}


def test_readme_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a stand-in for the search, which tests of experiment do."""
    from fednas_jax import experiment

    calls: list[tuple[Any, Any]] = []

    def run(config: Any, workdir: Any) -> dict[str, Any]:
        calls.append((schema.resolve(config), workdir))
        return {"test_accuracy": 0.25, "genotype": {"normal": []}}

    monkeypatch.setattr(experiment, "run", run)
    monkeypatch.chdir(tmp_path)
    block = _python("README.md", "experiment.run")
    assert len(block.text.splitlines()) <= 7, "six lines, and an empty one"
    _run(block)
    ((config, workdir),) = calls
    assert (config.rounds, config.dataset.name, workdir) == (5, "digits", "runs/notebook")
    assert capsys.readouterr().out == "0.25 {'normal': []}\n"


def test_a_model_is_restored_and_predicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.tiny import fedavg_config, first_checkpoint

    first_checkpoint(fedavg_config(), tmp_path / "runs" / "digits" / "train")
    monkeypatch.chdir(tmp_path)
    _run(_python("docs/outputs.md", "fednas_jax.restore"))
    names = re.findall(r"'(\d)'", capsys.readouterr().out)
    assert len(names) == 10


def test_extending_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of docs/extending.md that are no files; the run is a stand-in."""
    from fednas_jax import experiment

    runs: list[tuple[Any, ...]] = []
    monkeypatch.setattr(experiment, "run", lambda *a, algorithm: runs.append((*a, algorithm)))
    monkeypatch.setattr(registry, "_added", {})
    for name in ("uniform.py", "my_config.py"):
        (tmp_path / name).write_text(files("docs/extending.md")[name])
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    _run(_python("docs/extending.md", "import uniform"))
    ((config, workdir, algorithm),) = runs
    assert (config.algorithm, workdir) == ("uniform.py:ALGORITHM", "runs/mine_in_python")
    assert algorithm.name == "fedavg_uniform"
    defined: dict[str, Any] = {}
    exec(_python("docs/extending.md", "trim.share").text, defined)
    (field,) = defined["FIELDS"]
    assert (field.name, field.default) == ("trim.share", 0.1)


def test_every_key_of_the_summary_is_explained() -> None:
    from fednas_jax.report import rows
    from fednas_jax.spaces.darts import genotype

    row = {"round": 1, "held_out_accuracy": 0.5, "test_accuracy": 0.25}
    keys = set(rows.summary([row], genotype.load("FedNAS_V1")))
    outputs = text("docs/outputs.md")
    table = outputs.partition("\n## summary.json\n")[2].partition("\n## ")[0]
    named = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    told = {key for cell in named for key in re.findall(r"`(\w+)`", cell)}
    assert told == keys | {"seconds", "compile_seconds", "peak_memory_bytes"}
