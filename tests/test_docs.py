"""What the documents promise: commands that parse, links that lead somewhere, tables up to date."""

import ast
import re
import shlex
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import fednas_jax
from fednas_jax import cli, config_file, stages
from fednas_jax import config as schema
from fednas_jax.main import main

ROOT = Path(fednas_jax.__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md")
WITH_COMMANDS = ("README.md", *sorted(f"configs/{p.name}" for p in (ROOT / "configs").glob("*.py")))
MAIN = re.compile(
    r"^.*?(?:python -m fednas_jax\.main|fednas-jax (?P<kind>search|train)) (?P<rest>-.*)$",
    re.MULTILINE,
)


def _text(name: str) -> str:
    """A document without its HTML comments, or the docstring of a config file."""
    text = (ROOT / name).read_text()
    if name.endswith(".py"):
        return ast.get_docstring(ast.parse(text)) or ""
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def _code(language: str) -> list[str]:
    """README's code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", _text("README.md"), re.DOTALL | re.MULTILINE)


def _commands() -> list[tuple[str, str]]:
    """(document, command of one run); a backslash joins two lines."""
    texts = [(name, re.sub(r"\\\n\s*", "", _text(name))) for name in WITH_COMMANDS]
    return [
        (name, " ".join(filter(None, found.group("kind", "rest"))))
        for name, text in texts
        for found in MAIN.finditer(text)
    ]


@pytest.mark.parametrize(("document", "arguments"), _commands())
def test_commands_are_understood(
    monkeypatch: pytest.MonkeyPatch, document: str, arguments: str
) -> None:
    configs: list[Any] = []
    stand_in = types.ModuleType("fednas_jax.experiment")
    stand_in.run = lambda config, workdir: configs.append(config)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fednas_jax.experiment", stand_in)
    monkeypatch.setattr(fednas_jax, "experiment", stand_in, raising=False)
    monkeypatch.setattr("fednas_jax.assembly.prepare", lambda config: None)  # reads no data
    monkeypatch.chdir(ROOT)
    given = shlex.split(arguments)
    assert (cli.main if given[0] in cli.COMMANDS else main)(given) == 0
    assert 1 <= len(configs) <= 2  # a search, and perhaps the training of what it finds


def test_every_document_with_commands_was_read() -> None:
    documents = {document for document, _ in _commands()}
    assert documents == {"README.md"} | {
        f"configs/{p.name}" for p in (ROOT / "configs").glob("*.py")
    }
    assert "--config=configs/cifar_hetero.py --workdir" in _text("README.md")
    assert ("README.md", "search --config=digits_quick --config.rounds=2") in _commands()


def test_readme_names_every_subcommand() -> None:
    assert [name for name in cli.COMMANDS if f"`{name}`" not in _text("README.md")] == []


def test_configs_and_variants_that_readme_names_exist() -> None:
    for spec in set(re.findall(r"`(configs/\w+\.py(?::\w+)?)`", _text("README.md"))):
        stages.resolve(config_file.load(str(ROOT / spec)), {})


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_scripts_exist(document: str) -> None:
    text = _text(document)
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    scripts = re.findall(r"bash (scripts/\S+\.sh)", text)
    assert links or scripts
    assert [name for name in links + scripts if not (ROOT / name).exists()] == []


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


def test_contributing_stays_short() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) < 50


def test_readme_pieces_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The block that starts no experiment."""
    monkeypatch.chdir(tmp_path)
    others = ("experiment.run", "fednas_jax.restore")
    pieces = [block for block in _code("python") if not any(name in block for name in others)]
    assert len(pieces) == 1
    exec(compile(pieces[0], "README.md", "exec"), {})
    assert capsys.readouterr().out == "337626 58575360\n"
    assert {path.name for path in tmp_path.iterdir()} == {"partition.png", "cells.png"}


def test_readme_notebook_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a stand-in for the search, which tests of experiment do."""
    from fednas_jax import experiment

    calls: list[tuple[Any, Any]] = []

    def run(config: Any, workdir: Any) -> dict[str, Any]:
        calls.append((schema.resolve(config), workdir))
        return {"test_accuracy": 0.25, "genotype": {"normal": []}}

    monkeypatch.setattr(experiment, "run", run)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    (notebook,) = [block for block in _code("python") if "experiment.run" in block]
    exec(compile(notebook, "README.md", "exec"), {})
    ((config, workdir),) = calls
    assert (config.rounds, config.dataset.name, workdir) == (5, "digits", "runs/notebook")
    assert capsys.readouterr().out == "0.25 {'normal': []}\n"


def test_readme_restores_and_predicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.tiny import fedavg_config, first_checkpoint

    first_checkpoint(fedavg_config(), tmp_path / "runs" / "digits" / "train")
    monkeypatch.chdir(tmp_path)
    (piece,) = [block for block in _code("python") if "fednas_jax.restore" in block]
    exec(compile(piece, "README.md", "exec"), {})
    labels = ast.literal_eval(capsys.readouterr().out)
    assert len(labels) == 10
    assert set(labels) <= set("0123456789")


def test_every_key_of_the_summary_is_explained() -> None:
    from fednas_jax.report import rows
    from fednas_jax.search import genotype

    row = {"round": 1, "held_out_accuracy": 0.5, "test_accuracy": 0.25}
    keys = set(rows.summary([row], genotype.load("FedNAS_V1")))
    table = _text("docs/workdir.md").partition("`summary.json`; ")[2].partition("A line of")[0]
    named = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    told = {key for cell in named for key in re.findall(r"`(\w+)`", cell)}
    assert told == keys | {"seconds", "compile_seconds", "peak_memory_bytes"}


OF_ONE_RUN = re.compile(
    r"^python -m fednas_jax\.(evaluate|export|report\.page) (.*)$", re.MULTILINE
)


def test_all_three_commands_of_a_run_are_in_readme() -> None:
    named = {command for command, _ in OF_ONE_RUN.findall(_text("README.md"))}
    assert named == {"evaluate", "export", "report.page"}


@pytest.mark.parametrize(("command", "arguments"), OF_ONE_RUN.findall(_text("README.md")))
def test_commands_of_a_run_are_understood(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, arguments: str
) -> None:
    """As far as reading the run's folder, which is the first thing that each does."""
    from fednas_jax import evaluate, export, model
    from fednas_jax.report import page

    read: list[Path] = []

    def stop(folder: Any, *_: Any) -> None:
        read.append(folder)
        raise KeyboardInterrupt

    for module, name in ((model, "restore"), (export, "restore"), (page.run_folder, "read")):
        monkeypatch.setattr(module, name, stop)
    monkeypatch.chdir(tmp_path)
    main_of = {"evaluate": evaluate.main, "export": export.main, "report.page": page.main}[command]
    assert main_of(shlex.split(arguments)) == 130
    assert len(read) == 1


MANY = re.compile(r"^python -m fednas_jax\.(sweep|compare) (.*)$", re.MULTILINE)


@pytest.mark.parametrize(("command", "arguments"), MANY.findall(_text("README.md")))
def test_commands_of_many_runs_are_understood(
    monkeypatch: pytest.MonkeyPatch, command: str, arguments: str
) -> None:
    """As far as planning: every config is resolved, nothing is run."""
    from fednas_jax import compare, comparison_results, runs, sweep

    planned: list[Any] = []

    def stop(plan: Any, workdir: Path) -> None:
        planned.extend(plan.rows if command == "compare" else plan)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "run_all", stop)
    monkeypatch.setattr(comparison_results, "make", stop)
    monkeypatch.chdir(ROOT)
    main_of = {"sweep": sweep.main, "compare": compare.main}[command]
    assert main_of(shlex.split(arguments)) == 130
    assert planned
