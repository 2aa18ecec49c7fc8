"""The command `fednas-jax`: its subcommands, their help, and which configs each takes."""

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fednas_jax
from fednas_jax import cli
from tests.stand_in import stand_in

PACKAGE = Path(fednas_jax.__file__).resolve().parent


def _runs_as_program(path: Path) -> bool:
    tests = [node.test for node in ast.parse(path.read_text()).body if isinstance(node, ast.If)]
    return any(ast.unparse(test) == "__name__ == '__main__'" for test in tests)


def test_every_module_that_is_a_command_is_a_subcommand() -> None:
    paths = [path for path in PACKAGE.rglob("*.py") if _runs_as_program(path)]
    modules = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in paths}
    others = {
        "fednas_jax.__main__",
        "fednas_jax.runtime.gpu",  # before anything is installed
        "fednas_jax.runtime.slow_compile_box",  # beside a command
    }
    assert modules == {c.module for c in cli.COMMANDS.values()} | others


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_subcommand_has_help_of_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"  fednas-jax {name}" in text
    assert "python -m" not in text.partition("Fields, with")[0]


def test_help_lists_all_and_an_example_that_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in cli.COMMANDS)
    calls = stand_in(monkeypatch)
    example = text.splitlines()[-1].split()
    assert example[0] == "fednas-jax"
    assert cli.main(example[1:]) == 0
    assert calls == [Path("runs/digits_quick")]


@pytest.mark.parametrize("name", ["export", "report"])
def test_a_variable_that_jax_refuses_is_one_line(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fednas_jax", name, "runs/x"],
        env={**os.environ, "JAX_ENABLE_X64": "perhaps"},
        cwd=PACKAGE.parent, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("fednas_jax: error: JAX cannot be imported: invalid truth value")
    assert len(done.stderr.splitlines()) == 1


def test_arguments_are_those_of_the_process(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["fednas-jax", "--version"])
    assert cli.main() == 0
    assert capsys.readouterr().out == f"fednas_jax {fednas_jax.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND: missing; one of search, train, "),
        (["serch"], "serch: no such command; did you mean 'search'?"),
        (["--config=x"], "--config=x: no such command; "),
        (["search"], "--config: missing; "),
        (["search", "--config=digit_quick"], "digit_quick: no such config; did you mean 'digits_q"),
        (["search", "--config=digits_train"], "--config: digits_train trains a network without a "
         "search; `fednas-jax train` is needed"),
        (["train", "--config=digits_quick"], "--config: digits_quick searches an architecture; "
         "`fednas-jax search` is needed"),
        (["train", "--config=digits_search_train:quick"], "--config: digits_search_train:quick "
         "searches an architecture and then trains its network; `fednas-jax search` is needed"),
        (["search", "--config=digits_train", "--config.rounds=0"], "config.rounds: 0 is not us"),
        (["config", "x"], "x: not a flag; none is needed"),
        (["environment", "x"], "x: not a flag; none is needed"),
    ],
)  # fmt: skip
def test_bad_input(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    calls = stand_in(monkeypatch)
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"fednas_jax: error: {message}")
    assert error.count("\n") == 1
    assert not calls


@pytest.mark.parametrize(
    ("arguments", "algorithms"),
    [
        (["search", "--config=digits_quick:quick"], ["fednas"]),
        (["search", "--config=digits_search_train:quick"], ["fednas", "fedavg"]),
        (["train", "--config=digits_train:quick"], ["fedavg"]),
        (["train", "--config=mnist_fedavg"], ["fedavg"]),
    ],
)
def test_a_search_may_train_afterwards(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], algorithms: list[str]
) -> None:
    from fednas_jax.experiment import stages

    planned: list[Any] = []
    monkeypatch.setattr(stages, "run", lambda plan, workdir: planned.append(plan))
    assert cli.main(arguments) == 0
    (plan,) = planned
    assert [config["algorithm"] for config in plan if config] == algorithms


def test_the_tables_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config"]) == 0
    assert "| `rounds` | `50` |" in capsys.readouterr().out
    assert cli.main(["environment"]) == 0
    assert "| GLIBC_TUNABLES |" in capsys.readouterr().out
