"""The command line: what it passes on, and one line and exit code 2 for what is wrong."""

import errno
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import fednas_jax
from fednas_jax import compare
from fednas_jax.main import main
from fednas_jax.runtime.errors import UserError

ROOT = Path(fednas_jax.__file__).resolve().parents[1]
DIGITS = f"--config={ROOT / 'configs' / 'digits_quick.py'}"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Path]]:
    """Puts a stand-in for `experiment.run` in place and lists its calls."""
    calls: list[tuple[Any, Path]] = []
    stand_in = types.ModuleType("fednas_jax.experiment.runner")
    stand_in.run = lambda config, workdir: calls.append((config, workdir))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fednas_jax.experiment.runner", stand_in)
    monkeypatch.setattr(fednas_jax.experiment, "runner", stand_in, raising=False)
    return calls


def test_passes_on_the_config_and_the_workdir(
    runs: list[tuple[Any, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [DIGITS, "--workdir=out", "--config.rounds=3", "--config.seed", "7"]
    assert main([*arguments, "--config.partition.seed", "-1"]) == 0
    (config, workdir) = runs[0]
    assert workdir == Path("out")
    assert (config.rounds, config.seed, config.partition.seed) == (3, 7, -1)
    assert config.dataset.name == "digits"
    assert "workdir out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variant", "workdir"), [("", "runs/digits_quick"), (":quick", "runs/digits_quick-quick")]
)
def test_default_workdir(
    runs: list[tuple[Any, Path]], capsys: pytest.CaptureFixture[str], variant: str, workdir: str
) -> None:
    assert main([DIGITS + variant]) == 0
    assert runs[0][1] == Path(workdir)
    assert workdir in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config: missing"),
        (["--workdir=x"], "--config: missing"),
        (["--config="], "--config: is empty"),
        (["--config"], "--config: has no value"),
        (["--config", "--workdir=x"], "--config: has no value"),
        (["configs/digits_quick.py"], "configs/digits_quick.py: not a flag"),
        (["--confg=a.py"], "--confg: no such flag; did you mean '--config'?"),
        (["--verbose"], "--verbose: no such flag; known: --config, --help, --workdir"),
        (["--config=nowhere/x.py"], "nowhere/x.py: no such config; known: cifar_hetero, "),
        ([DIGITS, "--workdir="], "--workdir: is empty"),
        ([DIGITS, "--config.round=3"], "config.round: no such field; did you mean config.rounds?"),
        ([DIGITS, "--config.rounds=three"], "config.rounds: 'three'"),
        ([DIGITS, "--config.rounds=0"], "config.rounds: 0 is not usable; at least 1 is needed"),
        ([DIGITS, "--config.augment.flip"], "--config.augment.flip: has no value"),
        ([DIGITS, "--config.=3"], "config.: no such field"),
        ([f"{DIGITS}:slow"], "unknown variant 'slow'"),
        ([DIGITS, "--workdir=~nosuchuser/x"], "--workdir: ~nosuchuser/x: no such user"),
        ([DIGITS, f"--workdir={'x' * 300}"], "File name too long"),
        ([f"--config={'x' * 300}.py"], "File name too long"),
    ],
)
def test_bad_input(
    runs: list[tuple[Any, Path]],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("fednas_jax: error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not runs


def pairs(*changed: tuple[int, Any], more: int = 0) -> Any:
    """8 pairs that can be built, with some changed by their place, and more than there may be."""
    cell: list[Any] = [["skip_connect", 0] for _ in range(8 + more)]
    for place, pair in changed:
        cell[place] = pair
    return cell


@pytest.mark.parametrize(
    ("normal", "message"),
    [
        (pairs((0, ["sep_conv_9x9", 0])), "normal[0]: unknown operation 'sep_conv_9x9'; did you"),
        (pairs()[:6], "normal: 6 entries; must be 8 pairs [operation, state], two for each node"),
        (pairs(more=2), "normal: 10 entries; must be 8 pairs"),  # of five nodes
        (pairs((5, ["skip_connect", 4])), "normal[5]: source state 4; node 2 can read the integ"),
        (pairs((7, ["skip_connect", 5])), "normal[7]: source state 5; node 3 can read the integ"),
        (pairs((2, ["skip_connect"])), "normal[2]: must be a pair"),
        (None, "normal: must be a list"),
    ],
)
def test_a_genotype_that_cannot_be_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], normal: Any, message: str
) -> None:
    """Refused by the run itself, before it makes a folder; and by a comparison."""
    cells = {"normal": normal, "normal_concat": [2, 3], "reduce": pairs(), "reduce_concat": [2, 3]}
    (tmp_path / "bad.json").write_text(json.dumps(cells))
    config = f"--config={ROOT / 'configs' / 'digits_train.py'}"
    workdir = f"--workdir={tmp_path / 'out'}"
    for command, name in ((main, "--config.genotype"), (compare.main, "--networks")):
        assert command([config, workdir, f"{name}={tmp_path / 'bad.json'}"]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"fednas_jax: error: {tmp_path / 'bad.json'}: {message}")
        assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        (UserError("workdir: full; free some"), 2, "fednas_jax: error: workdir: full; free some\n"),
        (KeyboardInterrupt(), 130, "the same command resumes the run"),
        (
            PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/closed/x"),
            2,
            "fednas_jax: error: /closed/x: Permission denied\n",
        ),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 2, "error: No space left on device\n"),
        (OSError("two\nlines"), 2, "error: two lines\n"),
    ],
)
def test_what_a_run_raises(
    monkeypatch: pytest.MonkeyPatch,
    runs: list[tuple[Any, Path]],
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    code: int,
    says: str,
) -> None:
    def run(config: Any, workdir: Path) -> None:
        raise raised

    monkeypatch.setattr(sys.modules["fednas_jax.experiment.runner"], "run", run)
    assert main([DIGITS]) == code
    assert says in capsys.readouterr().err


def test_workdir_may_begin_with_a_tilde(
    runs: list[tuple[Any, Path]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main([DIGITS, "--workdir=~/runs/x"]) == 0
    assert runs[0][1] == tmp_path / "runs" / "x"


def test_help_lists_flags_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "--workdir" in text
    assert "optimizer.learning_rate=0.025" in text


def test_as_a_process_bad_input_ends_with_code_2_and_without_jax() -> None:
    program = "-X", "importtime", "-m", "fednas_jax.main", "--config=configs/digits_quick.py"
    done = subprocess.run(
        [sys.executable, *program, "--config.rounds=0"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "fednas_jax: error: config.rounds: 0 is not usable" in done.stderr
    assert not re.search(r"\| +(jax|flax|orbax\.checkpoint)$", done.stderr, re.MULTILINE)
    assert done.stdout == ""
