"""Every command of the documents: understood, as far as that can be known without running it.

Searches and trainings take minutes to weeks, so they are not run here but parsed and resolved;
`KINDS` says for each kind of command how far the check goes, and why no further. The commands of
CONTRIBUTING.md's recipe are run in `test_contributing.py`.
"""

import argparse
import importlib
import importlib.util
import re
import subprocess
import sys
import tomllib
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import fednas_jax
from fednas_jax import cli
from fednas_jax import config as schema
from fednas_jax.algorithms import registry
from fednas_jax.main import main
from tests.documents import CONFIGS, FENCED, NOTEBOOKS, ROOT, Command, commands, files, text

ALL = [command for name in (*FENCED, *CONFIGS, *NOTEBOOKS) for command in commands(name)]


class Kind(NamedTuple):
    """Commands that are checked in the same way."""

    begins: tuple[str, ...]
    """The words that such a command begins with."""
    check: Callable[[list[str], pytest.MonkeyPatch], None]
    """Takes the words behind these."""
    reason: str
    """How far the check goes, and why it does not run the command."""


def check_run(arguments: list[str], patch: pytest.MonkeyPatch, run: Any = main) -> None:
    configs: list[Any] = []
    stand_in = types.ModuleType("fednas_jax.experiment.runner")
    stand_in.run = lambda config, workdir: configs.append(config)  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "fednas_jax.experiment.runner", stand_in)
    patch.setattr(fednas_jax.experiment, "runner", stand_in, raising=False)
    patch.setattr("fednas_jax.experiment.assembly.prepare", lambda config: None)  # reads no data
    assert run(arguments) == 0
    if "--help" not in arguments:
        assert 1 <= len(configs) <= 2  # a search, and perhaps the training of what it finds


def check_subcommand(arguments: list[str], patch: pytest.MonkeyPatch) -> None:
    assert arguments[0] in ("search", "train"), "others are written as python -m in the documents"
    check_run(arguments, patch, cli.main)


def of_one_run(module: str) -> Callable[[list[str], pytest.MonkeyPatch], None]:
    def check(arguments: list[str], patch: pytest.MonkeyPatch) -> None:
        from fednas_jax import export
        from fednas_jax.checkpoints import model
        from fednas_jax.report import page

        read: list[Path] = []

        def stop(folder: Any, *_: Any) -> None:
            read.append(folder)
            raise KeyboardInterrupt

        for place, name in ((model, "restore"), (export, "restore"), (page.run_folder, "read")):
            patch.setattr(place, name, stop)
        assert importlib.import_module(module).main(arguments) == 130
        assert len(read) == 1

    return check


def of_many_runs(module: str) -> Callable[[list[str], pytest.MonkeyPatch], None]:
    def check(arguments: list[str], patch: pytest.MonkeyPatch) -> None:
        from fednas_jax.studies import comparison_results, runs

        planned: list[Any] = []

        def stop(plan: Any, workdir: Path) -> None:
            planned.extend(getattr(plan, "rows", plan))
            raise KeyboardInterrupt

        patch.setattr(runs, "run_all", stop)
        patch.setattr(comparison_results, "make", stop)
        assert importlib.import_module(module).main(arguments) == 130
        assert planned

    return check


def check_ranks(arguments: list[str], patch: pytest.MonkeyPatch) -> None:
    at = arguments.index("-n")
    assert int(arguments[at + 1]) > 1
    check_run(arguments[:at] + arguments[at + 2 :], patch)


def script(path: str) -> Callable[[list[str], pytest.MonkeyPatch], None]:
    def check(arguments: list[str], patch: pytest.MonkeyPatch) -> None:
        source = (ROOT / path).read_text()
        subprocess.run(["bash", "-n", str(ROOT / path)], check=True, timeout=60)
        for argument in arguments:
            if argument.startswith("--"):
                assert re.search(rf"{argument.partition('=')[0]}\b", source), argument
            elif argument.startswith("tests"):
                assert (ROOT / argument).exists()

    return check


def check_peers(arguments: list[str], patch: pytest.MonkeyPatch) -> None:
    for name in arguments:
        assert (ROOT / f"benchmarks/peers/requirements-{name}.txt").exists(), name


class Parsed(Exception):
    """Ends a benchmark whose arguments are read."""


def benchmark(arguments: list[str], patch: pytest.MonkeyPatch) -> None:
    name, *flags = arguments
    parse = argparse.ArgumentParser.parse_args

    def stop(self: Any, *given: Any) -> None:
        parse(self, *given)
        raise Parsed

    patch.setattr(argparse.ArgumentParser, "parse_args", stop)
    patch.setattr(sys, "argv", [name, *flags])
    with pytest.raises(Parsed):
        importlib.import_module(name).main()


def check_pip(arguments: list[str], patch: pytest.MonkeyPatch) -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (target,) = arguments
    (named,) = re.findall(r"^\.\[([\w,]+)\]$", target)
    assert set(named.split(",")) <= set(groups["optional-dependencies"])


def check_shown(module: str) -> Callable[[list[str], pytest.MonkeyPatch], None]:
    def check(arguments: list[str], patch: pytest.MonkeyPatch) -> None:
        assert importlib.import_module(module).main([*arguments, "--help"]) == 0

    return check


def nothing(arguments: list[str], patch: pytest.MonkeyPatch) -> None:
    assert arguments == []


MODULE = ("python", "-m")
_TO_PLAN = "as far as planning, which resolves every config: each run takes minutes or more"
_TO_FOLDER = "as far as reading the run's folder: there is none here"
KINDS = (
    Kind((*MODULE, "fednas_jax.main"), check_run, "all but the run: minutes, or a GPU for weeks"),
    Kind(("fednas-jax",), check_subcommand, "all but the run, likewise"),
    *(
        Kind((*MODULE, module), of_one_run(module), _TO_FOLDER)
        for module in ("fednas_jax.evaluate", "fednas_jax.export", "fednas_jax.report.page")
    ),
    *(
        Kind((*MODULE, module), of_many_runs(module), _TO_PLAN)
        for module in ("fednas_jax.sweep", "fednas_jax.compare")
    ),
    Kind(
        (*MODULE, "fednas_jax.doctor"),
        check_shown("fednas_jax.doctor"),
        "its help: it looks at this machine, tests/test_doctor.py runs it",
    ),
    Kind(
        ("bash", "scripts/launch_mpi.sh"),
        check_ranks,
        "the arguments of its runs: MPI may be missing, tests/experiment/test_ranks.py runs ranks",
    ),
    *(
        Kind(("bash", path), script(path), "syntax and flags: it installs, or runs all tests")
        for path in (
            *("scripts/setup.sh", "scripts/quickstart.sh"),
            *("scripts/test.sh", "scripts/test_pythons.sh"),
        )
    ),
    Kind(("bash", "benchmarks/peers/setup.sh"), check_peers, "the names: it downloads 4 GB"),
    Kind(("pip", "install"), check_pip, "the groups: it needs a package index"),
    Kind(("source", ".venv/bin/activate"), nothing, "it changes the shell that it is typed into"),
    Kind((*MODULE, "benchmarks."), benchmark, "its flags: it takes minutes to half an hour"),
    Kind((*MODULE, "scripts."), benchmark, "its flags: it takes minutes; tests/test_concepts.py"),
)


def kind_of(words: tuple[str, ...]) -> tuple[Kind, list[str]]:
    """How a command is checked, and what of it."""
    for kind in KINDS:
        size, whole = len(kind.begins), not kind.begins[-1].endswith(".")
        if whole and words[:size] == kind.begins:
            return kind, list(words[size:])
        if not whole and " ".join(words).startswith(" ".join(kind.begins)):  # "benchmarks.NAME"
            return kind, list(words[size - 1 :])
    raise AssertionError(f"no check in tests/test_docs_commands.py knows: {' '.join(words)}")


@pytest.mark.parametrize("command", ALL, ids=[f"{c.document}-{i}" for i, c in enumerate(ALL)])
def test_commands_are_understood(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_added", {})
    for folder in ("configs", "benchmarks"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    if command.document in FENCED:
        for name, content in files(command.document).items():
            (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    kind, arguments = kind_of(command.words)
    kind.check(arguments, monkeypatch)


def test_a_command_that_no_check_knows_fails() -> None:
    for line in ("python -m fednas_jax.mian --config=x", "rm -r runs", "python -m fednas_jax"):
        with pytest.raises(AssertionError, match="no check in"):
            kind_of(tuple(line.split()))


def test_every_kind_has_a_command() -> None:
    used = {kind_of(command.words)[0].begins for command in ALL}
    assert used == {kind.begins for kind in KINDS}


def test_every_document_that_shows_commands_was_read() -> None:
    found = {command.document for command in ALL}
    assert set(CONFIGS) <= found
    wordy = {"docs/config.md", "docs/index.md", "docs/fidelity.md", "docs/faults.md"}
    assert set(FENCED) - found == wordy | {"docs/concepts.md", "docs/concepts_fl.md"}
    search = ("fednas-jax", "search", "--config=digits_quick", "--config.rounds=2")
    assert Command("README.md", search) in ALL


@pytest.mark.parametrize("name", [*FENCED, *NOTEBOOKS])
def test_commands_in_a_line_of_text_name_what_there_is(name: str) -> None:
    for module in re.findall(r"python -m ((?:fednas_jax|benchmarks)[\w.]*\w)", text(name)):
        assert importlib.util.find_spec(module), module
    for command in re.findall(r"`fednas-jax (\w+)", text(name)):
        assert command in cli.COMMANDS
    for path in re.findall(r"bash ((?:scripts|benchmarks)/\S+\.sh)", text(name)):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("name", [*FENCED, *NOTEBOOKS])
def test_fields_in_a_line_of_text_are_there(name: str) -> None:
    known = {field.name for field in schema.FIELDS}
    known |= set(re.findall(r'Field\("([a-z_.]+)"', text(name)))  # declared in the document
    known |= {"client.facts", "client.personal"}  # of a client in a round, no fields
    sections = {field.partition(".")[0] for field in known if "." in field}
    named = re.findall(r"--config\.(?:then_train\.)?([a-z_.]+)=", text(name))
    quoted = re.findall(r"`([a-z_]+\.[a-z_]*)(?:=[^`]*)?`", text(name))
    files_ = (".html", ".json", ".jsonl", ".npz", ".png", ".py", ".md")
    named += [q for q in quoted if q.partition(".")[0] in sections and not q.endswith(files_)]
    assert [n for n in named if n not in known and n.rstrip(".") not in sections] == []
