"""Ctrl-C, SIGTERM, SIGUSR1 end a command by an exception; a record begun is finished first."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import fednas_jax
from fednas_jax.checkpoints.checkpoint import Checkpoints
from fednas_jax.experiment import runner
from fednas_jax.experiment.rounds import Experiment
from fednas_jax.federated.round import RoundEngine
from fednas_jax.runtime import signals
from fednas_jax.runtime.command_line import guarded
from tests.tiny import fedavg_config, final_state

ROOT = Path(fednas_jax.__file__).resolve().parents[1]
ALL = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143)]


@pytest.mark.parametrize(("number", "code"), ALL)
def test_exit_codes_and_handlers_as_before(
    number: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(n) for n, _ in ALL]
    assert guarded(lambda: signal.raise_signal(number), "go on") == code
    assert capsys.readouterr().err == "\nfednas_jax: interrupted; go on\n"
    assert [signal.getsignal(n) for n, _ in ALL] == before


def test_ctrl_c_counts_where_a_shell_had_it_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert guarded(lambda: os.kill(os.getpid(), signal.SIGINT), "") == 130
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        with signals.held():  # and what is ignored stays so
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "code"), ALL)
def test_what_has_begun_is_finished(number: int, code: int) -> None:
    done = []

    def action() -> None:
        with signals.held():
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)  # an impatient user's
            done.append("inside")
        done.append("behind")

    assert guarded(action, "") == code
    assert done == ["inside"]


def test_in_a_thread_nothing_is_set() -> None:
    seen = []

    def work() -> None:
        with signals.raised(), signals.held():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


@pytest.mark.parametrize("where", ["round", "record"])
def test_the_last_whole_round_is_kept(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM in round 3 keeps round 2; while round 2 is recorded, it keeps that one too."""
    owner: Any
    owner, name, call = {"round": (RoundEngine, "run", 3), "record": (Experiment, "_record", 2)}[
        where
    ]
    real, calls = getattr(owner, name), []

    def interrupted(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments, **named)

    config = fedavg_config()
    config.checkpoint_every = 100  # none of its own before the last
    config.client.held_out_fraction, config.held_out_every = 0.0, 1
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        with pytest.raises(signals.Terminated), signals.raised():
            runner.run(config, folder)
    assert Checkpoints(folder / "checkpoints").rounds() == [2]
    runner.run(config, folder)
    whole = tmp_path / "whole"
    runner.run(config, whole)
    assert final_state(folder) == final_state(whole)


def test_a_process_in_the_background_of_a_shell(tmp_path: Path) -> None:
    """Started as a shell without job control starts `command &`: with SIGINT ignored."""
    fields = {"dataset.name": "digits", "rounds": 100_000, "report.progress": True}
    fields |= {"partition.num_clients": 10, "checkpoint_every": 100_000, "test_every": 0}
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-m", "fednas_jax.main"]
    command += [f"--workdir={tmp_path / 'run'}"]
    command += [f"--config={ROOT / 'configs/mnist_fedavg.py:2nn'}"]
    command += [f"--config.{name}={value}" for name, value in fields.items()]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    with process:
        for line in process.stderr:
            if line.startswith("round "):
                break
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "the checkpoint of round " in said
    (kept,) = Checkpoints(tmp_path / "run" / "checkpoints").rounds()
    assert kept >= 1
