"""Whole runs on several ranks: the results of one process, and no rank left behind at a fault."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fednas_jax.experiment import runner
from fednas_jax.experiment.rounds import Experiment
from fednas_jax.federated.ranks import communicator as communicators
from fednas_jax.federated.ranks import launch
from fednas_jax.federated.round import RoundEngine
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime import signals
from tests import ranks, staged, tiny
from tests.quick import compile_quickly

pytestmark = [ranks.needs_mpi, pytest.mark.alone]

TIMES = ("seconds", "client_steps_per_second")
CONFIGS = {
    "fedavg": tiny.fedavg_config,
    "search": tiny.search_config,
    "staged": staged.staged_config,
}


def configured(kind: str, **fields: Any) -> Any:
    config = CONFIGS[kind]()
    config.update_from_flattened_dict(fields)
    return config


def launched(size: int, kind: str, workdir: Path, **fields: Any) -> list[str]:
    """The command that runs a config on so many ranks."""
    return ranks.command(
        size, ["-m", "tests.experiment.test_ranks", kind, str(workdir), json.dumps(fields)]
    )


def run(size: int, kind: str, workdir: Path, **fields: Any) -> subprocess.CompletedProcess[str]:
    arguments = ["-m", "tests.experiment.test_ranks", kind, str(workdir), json.dumps(fields)]
    return ranks.run(size, arguments)


def rows(workdir: Path) -> list[dict[str, Any]]:
    read = read_rows(workdir / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in TIMES} for row in read]


def without_warnings(text: str) -> list[str]:
    """The lines of stderr that are not warnings, of which one rank says each once."""
    lines = text.splitlines()
    warnings = [line for line in lines if line.startswith("fednas_jax: warning: ")]
    assert len(warnings) == len(set(warnings)), warnings
    return [line for line in lines if line not in warnings]


def assert_same_up_to_rounding(one: Path, two: Path, rounds: int = 100) -> None:
    """The rows of the first rounds are the same within 1e-4.

    Of later ones the losses are within 5 %, accuracies within 15 points, entropies within 0.1 %. In
    a supernet rounding grows: after the first round two runs are of equal worth (docs/ranks.md).
    """
    for first, second in zip(rows(one), rows(two), strict=True):
        second.pop("local_steps_of_ranks", None)
        assert first.keys() == second.keys()
        if first["round"] > rounds:
            assert_of_equal_worth(first, second)
            continue
        for name, value in first.items():
            if value is None or second[name] is None:
                assert value == second[name]
            else:
                np.testing.assert_allclose(second[name], value, rtol=1e-4, err_msg=name)


def assert_of_equal_worth(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Two rows of a search that differ by what rounding has grown to."""
    tolerances = {
        "_loss": {"rtol": 0.05},
        "_accuracy": {"rtol": 0, "atol": 0.15},
        "_entropy": {"rtol": 1e-3},
    }
    compared = set()
    for ending, tolerance in tolerances.items():
        for name in (n for n in first if n.endswith(ending) and first[n] is not None):
            np.testing.assert_allclose(second[name], first[name], **tolerance, err_msg=name)
            compared.add(ending)
    assert compared == tolerances.keys()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    runner.run(configured("fedavg"), folder)
    return folder


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("by_two") / "run"
    done = run(2, "fedavg", folder)
    assert (done.returncode, done.stdout, without_warnings(done.stderr)) == (0, "", [])
    return folder


def test_two_ranks_agree_with_one_process(alone: Path, by_two: Path) -> None:
    assert_same_up_to_rounding(alone, by_two)
    # Four clients of four steps a round.
    assert [row["local_steps_of_ranks"] for row in rows(by_two)[1:]] == [[8, 8]] * 5
    (start,) = json.loads((by_two / "run.json").read_text())["starts"]
    assert start["ranks"] == 2
    one, two = tiny.final_state(alone), tiny.final_state(by_two)
    assert one.keys() == two.keys()
    weights = [name for name in one if name.startswith(".params")]
    assert weights
    for name in weights:
        values = [np.frombuffer(state[name], np.float32) for state in (one, two)]
        np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-6, err_msg=name)


def test_stages_on_two_ranks_of_which_rank_0_computes_for_the_server(tmp_path: Path) -> None:
    # With few images held out both stages of rounds would say so.
    fields = {"client.held_out_fraction": 0.0, "held_out_every": 1, "report.plots": False}
    runner.run(configured("staged", **fields), tmp_path / "one")
    done = run(2, "staged", tmp_path / "two", **fields)
    assert (done.returncode, done.stdout, without_warnings(done.stderr)) == (0, "", [])
    for name in (staged.NAMES[0], staged.NAMES[2]):
        assert_same_up_to_rounding(tmp_path / "one" / name, tmp_path / "two" / name)
    one, two = (
        json.loads((tmp_path / n / "pick" / "summary.json").read_text()) for n in ("one", "two")
    )
    assert (one["drawn"], one["round"]) == (two["drawn"], two["round"])
    refused = run(2, "staged", tmp_path / "two", **fields, **{"pick.raise": 0.25})
    assert refused.returncode == 2
    (line,) = [line for line in without_warnings(refused.stderr) if "fednas_jax" in line]
    assert "holds a run of another config (config.pick.raise: 0.5 there, 0.25 here)" in line


def test_a_search_on_two_ranks_of_which_rank_0_alone_prints(
    finished_search: Path, tmp_path: Path
) -> None:
    done = run(2, "search", tmp_path / "run", **{"report.progress": True})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Best genotype") == 1
    assert_same_up_to_rounding(finished_search, tmp_path / "run", rounds=1)


def test_stopped_and_gone_on_with_the_same_bits(by_two: Path, tmp_path: Path) -> None:
    done = run(2, "fedavg", tmp_path / "run", STOP=3)
    assert done.returncode == 1, done.stderr
    assert rows(tmp_path / "run")[-1]["round"] == 3
    assert run(2, "fedavg", tmp_path / "run").returncode == 0
    assert tiny.final_state(tmp_path / "run") == tiny.final_state(by_two)
    assert rows(tmp_path / "run") == rows(by_two)


def test_another_number_of_ranks_goes_on(alone: Path, tmp_path: Path) -> None:
    assert run(3, "fedavg", tmp_path / "run", STOP=3).returncode == 1
    runner.run(configured("fedavg"), tmp_path / "run")
    assert_same_up_to_rounding(alone, tmp_path / "run")
    starts = json.loads((tmp_path / "run" / "run.json").read_text())["starts"]
    assert [start["ranks"] for start in starts] == [3, 1]


def test_one_process_is_gone_on_with_by_two(alone: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "_record", Experiment._record)
        stop_after(3)
        with pytest.raises(RuntimeError, match="stopped on purpose"):
            runner.run(configured("fedavg"), tmp_path / "run")
    assert run(2, "fedavg", tmp_path / "run").returncode == 0
    assert_same_up_to_rounding(alone, tmp_path / "run")


def test_a_finished_run_says_so_once(by_two: Path) -> None:
    done = run(2, "fedavg", by_two)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("this run is finished") == 1


def test_a_finished_run_goes_on_to_more_rounds_on_all_ranks(by_two: Path, tmp_path: Path) -> None:
    shutil.copytree(by_two, tmp_path / "run")
    done = run(2, "fedavg", tmp_path / "run", rounds=6)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("config.rounds: 5 before, 6 now; the run goes on after round 5") == 1
    assert rows(tmp_path / "run")[:6] == rows(by_two)
    assert [row["round"] for row in rows(tmp_path / "run")] == list(range(7))
    (tmp_path / "run" / "summary.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "000006")
    again = run(2, "fedavg", tmp_path / "run", rounds=4)
    assert again.returncode == 2
    (line,) = [line for line in without_warnings(again.stderr) if "fednas_jax" in line]
    assert "config.rounds: 4 is less than the 5 rounds" in line


def test_an_error_of_all_is_told_by_rank_0(by_two: Path) -> None:
    done = run(2, "fedavg", by_two, seed=3)
    assert done.returncode == 2
    (line,) = [line for line in without_warnings(done.stderr) if "fednas_jax" in line]
    assert line.startswith("fednas_jax: error: --workdir: ")
    assert "another config (config.seed" in line


def test_an_error_of_one_names_the_rank(tmp_path: Path) -> None:
    done = run(2, "fedavg", tmp_path / "run", SEED_OF_RANK_1=3)
    assert done.returncode == 2
    (line,) = [line for line in without_warnings(done.stderr) if "fednas_jax" in line]
    assert line.startswith("fednas_jax: error: rank 1 on ")
    assert line.endswith(
        "the configs (seed) here and on rank 0 differ; the same are needed on every host"
    )


ROUNDS = {"rounds": 40, "test_every": 0, "held_out_every": 0}


@contextlib.contextmanager
def three_in_a_round(folder: Path, **fields: Any) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """Three ranks that have made some rounds, with many to go; and their process ids."""
    before = rounds_done(folder)
    with subprocess.Popen(
        launched(3, "fedavg", folder, SLOW=True, **ROUNDS | fields),
        env=ranks.environment(FEDNAS_JAX_MPI_SECONDS="4"),
        cwd=ranks.ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        wait_for(lambda: rounds_done(folder) > before + 2)
        yield process, [int((folder.parent / f"rank{n}").read_text()) for n in range(3)]


def rounds_done(workdir: Path) -> int:
    """As far as they are recorded."""
    recorded = rows(workdir) if (workdir / "metrics.jsonl").exists() else []
    return recorded[-1]["round"] if recorded else 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("by_three") / "run"
    assert run(3, "fedavg", folder, checkpoint_every=1000, **ROUNDS).returncode == 0
    return folder


def lose(folder: Path, rank: int, number: signal.Signals) -> None:
    """A rank that is lost in a round ends all."""
    with three_in_a_round(folder) as (process, pids):
        before = rounds_done(folder)
        os.kill(pids[rank], number)
        _, error = process.communicate(timeout=60)
    assert process.returncode in (3, 128 + signal.SIGKILL)
    (line,) = [line for line in error.splitlines() if "fednas_jax" in line]
    how = "died" if number == signal.SIGKILL else "has not responded for 4 s"
    assert line.startswith(f"fednas_jax: error: rank {rank} on ")
    assert f" {how}; the same command resumes after the last checkpoint" in line
    wait_for(lambda: not any(map(alive, pids)))
    assert before <= rounds_done(folder) < ROUNDS["rounds"]


def interrupt(folder: Path, number: signal.Signals) -> None:
    """A signal keeps the last whole round, though no checkpoint was due."""
    with three_in_a_round(folder, checkpoint_every=1000) as (process, pids):
        # What mpirun gets it hands on to all.
        os.kill(pids[2] if number == signal.SIGTERM else process.pid, number)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 143
    last = rounds_done(folder)
    assert last < ROUNDS["rounds"]
    assert (folder / "checkpoints" / f"{last:06d}").is_dir()
    (line,) = [line for line in error.splitlines() if "fednas_jax" in line]
    assert line == "fednas_jax: error: interrupted; the same command resumes the run"
    wait_for(lambda: not any(map(alive, pids)))


def test_lost_ranks_and_signals_end_all_and_each_next_start_goes_on_with_the_same_bits(
    undisturbed: Path, tmp_path: Path
) -> None:
    """One run that is disturbed five times ends in the bits of one that nothing happened to."""
    folder = tmp_path / "run"
    for disturb in (
        lambda: lose(folder, 2, signal.SIGKILL),
        lambda: lose(folder, 2, signal.SIGSTOP),
        lambda: interrupt(folder, signal.SIGTERM),
        lambda: lose(folder, 0, signal.SIGKILL),
        lambda: interrupt(folder, signal.SIGUSR1),
    ):
        disturb()
    done = run(3, "fedavg", folder, **ROUNDS)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((folder / "run.json").read_text())["starts"]) == 6
    assert tiny.final_state(folder) == tiny.final_state(undisturbed)
    assert rows(folder) == rows(undisturbed)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ranks.LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _main() -> None:
    """One rank."""
    kind, workdir, fields = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    stop, seed = fields.pop("STOP", 0), fields.pop("SEED_OF_RANK_1", 0)
    slow = fields.pop("SLOW", False)
    with signals.raised(), communicators.one_for_all(own := launch.start()):
        (workdir.parent / f"rank{own.rank}").write_text(str(os.getpid()))
        if own.rank == 1 and seed:
            fields["seed"] = seed
        if kind == "search":
            compile_quickly(0)
        if stop:
            stop_after(stop)
        if slow and own.rank == 1:
            take_longer()
        runner.run(configured(kind, **fields), workdir, own)


def stop_after(number: int) -> None:
    """Lets a run fail after the checkpoint of a round."""
    record = Experiment._record

    def recorded(self: Any, row: Any) -> None:
        record(self, row)
        if row["round"] == number:
            raise RuntimeError("stopped on purpose")

    Experiment._record = recorded  # type: ignore[method-assign]


def take_longer() -> None:
    """This rank's rounds take a little longer, so that the others wait for it in each."""
    run = RoundEngine.run

    def slow(*arguments: Any, **named: Any) -> Any:
        time.sleep(0.1)
        return run(*arguments, **named)

    RoundEngine.run = slow  # type: ignore[method-assign]


if __name__ == "__main__":
    _main()
