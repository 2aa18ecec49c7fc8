"""Whole runs on the smallest search there is; all share one compiled program through the cache."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fednas_jax import config as schema
from fednas_jax.checkpoints.checkpoint import Checkpoints
from fednas_jax.data import partition
from fednas_jax.data.partition import Partition
from fednas_jax.experiment import assembly, runner
from fednas_jax.experiment.rounds import Experiment
from fednas_jax.federated import chunks
from fednas_jax.federated import cohort as cohorts
from fednas_jax.federated.round import RoundEngine
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime.errors import UserError
from fednas_jax.spaces.darts import genotype
from tests.tiny import final_state
from tests.tiny import search_config as tiny_config

pytestmark = pytest.mark.usefixtures("tiny_runs")

ROOT = Path(__file__).resolve().parents[2]
TIMES = ("seconds", "client_steps_per_second")
ROUNDS = 3


def untimed(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl without what a clock says."""
    return [
        {k: v for k, v in row.items() if k not in TIMES}
        for row in read_rows(folder / "metrics.jsonl")
    ]


def abstract_state(config: Any) -> Any:
    algorithm = assembly.build_algorithm(config, assembly.load_dataset(config))
    return jax.eval_shape(algorithm.init, jax.random.key(0))


@pytest.fixture(scope="module")
def finished(finished_search: Path) -> Path:
    """The workdir of an undisturbed run, with all reports on."""
    return finished_search


def start_process(folder: Path, *overrides: str) -> subprocess.Popen:
    """The same run as `tiny_config` from the command line, in a process of its own."""
    config_path = folder.parent / "tiny.py"
    config_path.write_text(
        "from fednas_jax.config import default\n"
        "from tests.quick import compile_quickly\n"
        "compile_quickly(0)\n"  # as the run that it is compared with
        "def get_config(variant=''):\n"
        "    config = default()\n"
        f"    config.update({tiny_config().to_dict()!r})\n"
        "    return config\n"
    )
    command = [sys.executable, "-m", "fednas_jax.main", f"--config={config_path}"]
    return subprocess.Popen(
        [*command, f"--workdir={folder}", *overrides],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_leaves_everything_that_is_promised(finished: Path) -> None:
    rows = read_rows(finished / "metrics.jsonl")
    assert [row["round"] for row in rows] == [1, 2, 3]
    summary = json.loads((finished / "summary.json").read_text())
    promised = "rounds test_accuracy held_out_accuracy best_round genotype seconds"
    for key in (promised + " compile_seconds peak_memory_bytes").split():
        assert key in summary
    best = summary["best_round"]
    assert rows[best - 1]["held_out_accuracy"] == max(r["held_out_accuracy"] for r in rows)
    assert summary["test_accuracy"] == rows[best - 1]["test_accuracy"]
    names = [f"{number:06d}" for number in (1, 2, 3)] + ["best", "last"]
    derived = {name: genotype.load(finished / "genotypes" / f"{name}.json") for name in names}
    assert derived["last"] == derived["000003"]
    assert derived["best"] == derived[f"{best:06d}"]
    assert genotype.to_json(derived["best"]) == summary["genotype"]
    for name in ("accuracy_and_loss", "alphas", "alphas_over_rounds", "cells", "partition"):
        picture = finished / "plots" / f"{name}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")
    assert list((finished / "tensorboard").glob("events.out.tfevents.*"))
    held = json.loads((finished / "partition.json").read_text())
    assert np.sum(held["class_counts"]) == 90
    assert "chart-alphas-normal" in (finished / "report.html").read_text()
    run = json.loads((finished / "run.json").read_text())
    assert run["config"] == schema.to_json(schema.resolve(schema_of(finished)))
    assert "jax" in run["starts"][0]["versions"]


def count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def schema_of(folder: Path) -> Any:
    return json.loads((folder / "run.json").read_text())["config"]


def test_row_holds_numbers_that_agree_with_each_other(finished: Path) -> None:
    row = read_rows(finished / "metrics.jsonl")[-1]
    derived = genotype.load(finished / "genotypes" / "last.json")
    assert row["normal_convolutions"] == genotype.count_convolutions(derived)["normal"]
    assert row["reduce_skips"] == genotype.count_skips(derived)["reduce"]
    assert 0 < row["normal_entropy"] <= np.log(8)
    state = abstract_state(schema.resolve(schema_of(finished)))
    weights, alphas, moments = (4 * count(part) for part in state)  # bytes of float32
    assert alphas == 4 * 2 * 14 * 8
    # First all of it and N_k; then, to recalibrate, mean, square and variance, and the steps.
    assert row["bytes_up_per_client"] == weights + alphas + moments + 4 + 3 * moments // 2 + 4
    assert row["bytes_down_per_client"] == 2 * (weights + alphas + moments)
    assert 0 <= row["test_accuracy"] <= 1
    assert len(row["held_out_accuracy_of_clients"]) == 3


def test_same_seed_same_bits_and_other_seed_other_bits(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.run(tiny_config(), tmp_path / "same")
    assert untimed(tmp_path / "same") == untimed(finished)
    assert final_state(tmp_path / "same") == final_state(finished)
    config = tiny_config()
    config.seed, config.rounds = 1, 1
    # The same images, divided in the same way: other moments or lengths need another program.
    dataset = assembly.load_dataset(schema.resolve(tiny_config()))
    monkeypatch.setattr(assembly, "load_dataset", lambda config, cut_by="client": dataset)
    config.partition.name = "file"
    config.partition.path = str(tmp_path / "partition.npz")
    dealt = partition.load(finished / "partition.npz", len(dataset.train.labels))
    partition.save(config.partition.path, dealt, dataset.train)
    runner.run(config, tmp_path / "other")
    assert untimed(tmp_path / "other")[0] != untimed(finished)[0]


def test_killed_in_the_middle_of_a_round_and_resumed_gives_the_same_bits(
    finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    rows, deadline = folder / "metrics.jsonl", time.monotonic() + 240
    with start_process(folder) as process:
        while not (folder / "checkpoints" / "000001").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        # Into the second round, which in the undisturbed run took so long.
        time.sleep(0.3 * read_rows(finished / "metrics.jsonl")[1]["seconds"])
        process.send_signal(signal.SIGKILL)
    assert not (folder / "summary.json").exists()
    done = max(Checkpoints(folder / "checkpoints").rounds())
    assert 1 <= done < ROUNDS
    # What a kill can leave behind: a half written line, and a row that no checkpoint knows.
    with rows.open("a") as file:
        file.write('{"round": 99}\n{"round": 100, "tra')
    with start_process(folder, "--config.report.progress=true") as again:
        output, _ = again.communicate(timeout=240)
    assert again.returncode == 0, output
    assert f"resuming after round {done}\n" in output
    assert untimed(folder) == untimed(finished)
    assert final_state(folder) == final_state(finished)
    assert (folder / "genotypes/best.json").read_text() == (
        finished / "genotypes/best.json"
    ).read_text()
    alphas = [row["round"] for row in read_rows(folder / "alphas.jsonl")]
    assert alphas == [row["round"] for row in read_rows(finished / "alphas.jsonl")]


def test_finished_run_says_so_and_is_left_alone(
    finished: Path, capsys: pytest.CaptureFixture
) -> None:
    before = {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()}
    summary = runner.run(tiny_config(), finished)
    assert "finished" in capsys.readouterr().out
    assert summary["rounds"] == ROUNDS
    assert {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()} == before


def test_other_config_is_refused_naming_the_fields(finished: Path) -> None:
    config = tiny_config()
    config.local_epochs = 5
    config.optimizer.learning_rate = 0.07
    before = (finished / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="another config") as caught:
        runner.run(config, finished)
    assert "config.local_epochs: 2 there, 5 here" in str(caught.value)
    assert "config.optimizer.learning_rate: 0.1 there, 0.07 here" in str(caught.value)
    assert (finished / "metrics.jsonl").read_bytes() == before


def unfinished_copy(finished: Path, tmp_path: Path) -> Path:
    """As if the run had been killed after its last checkpoint."""
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    (folder / "summary.json").unlink()
    return folder


def test_damaged_checkpoint_is_passed_over_and_the_round_repeated(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = unfinished_copy(finished, tmp_path)
    newest = folder / "checkpoints" / "000003"
    victim = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    runner.run(tiny_config(), folder)
    assert "it is skipped" in capsys.readouterr().out
    assert untimed(folder) == untimed(finished)
    assert final_state(folder) == final_state(finished)


def test_a_checkpoint_is_as_large_after_many_rounds(finished: Path) -> None:
    """What grows by the round stands beside it, once."""
    rows = (finished / "metrics.jsonl").read_bytes()
    assert (finished / "checkpoints" / "rows.jsonl").read_bytes() == rows
    facts = json.loads((finished / "checkpoints" / "000003" / "checkpoint.json").read_text())
    assert set(facts["extra"]) == {"rows_held", "best_genotype", "costs"}
    assert facts["extra"]["rows_held"]["bytes"] == len(rows)


@pytest.mark.parametrize(
    "harmed", [("checkpoints/rows",), ("metrics",), ("checkpoints/rows", "metrics")]
)
def test_rows_are_mended_or_their_last_round_is_repeated(
    harmed: tuple[str, ...], finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = unfinished_copy(finished, tmp_path)
    for name in harmed:
        path = folder / f"{name}.jsonl"
        path.write_bytes(path.read_bytes()[:-5])
    runner.run(tiny_config(), folder)
    said = "000003: the rows of its rounds, beside it, are cut short or edited; it is skipped"
    assert (said in capsys.readouterr().out) == (len(harmed) == 2)
    rows = [(folder / name).read_bytes() for name in ("checkpoints/rows.jsonl", "metrics.jsonl")]
    assert rows[0] == rows[1]
    assert untimed(folder) == untimed(finished)
    assert final_state(folder) == final_state(finished)


def test_changed_data_is_refused(finished: Path, tmp_path: Path) -> None:
    folder = unfinished_copy(finished, tmp_path)
    run = json.loads((folder / "run.json").read_text())
    run["data_sha256"] = "0" * 64
    (folder / "run.json").write_text(json.dumps(run))
    with pytest.raises(UserError, match="data or its partition has changed"):
        runner.run(tiny_config(), folder)


def test_what_is_not_finite_in_a_later_round_leaves_the_last_good_checkpoint(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good_run, rounds = RoundEngine.run, []

    def run(self: RoundEngine, *arguments: Any) -> Any:
        state, metrics = good_run(self, *arguments)
        rounds.append(len(rounds) + 1)
        if rounds[-1] == 2:
            state = state._replace(params=jax.tree.map(lambda x: x * np.nan, state.params))
        return state, metrics

    folder = tmp_path / "run"
    monkeypatch.setattr(RoundEngine, "run", run)
    with pytest.raises(UserError) as caught:
        runner.run(tiny_config(), folder)
    assert str(caught.value).startswith(
        "round 2: the averaged network's loss on held-out examples of client 0, 1, 2 is not "
        "finite; "
    )
    assert str(caught.value).endswith("(the checkpoint of round 1 is intact)")
    assert Checkpoints(folder / "checkpoints").rounds() == [1]
    # The cause is gone: the run goes on from that checkpoint, to the same bits.
    monkeypatch.setattr(RoundEngine, "run", good_run)
    runner.run(tiny_config(), folder)
    assert untimed(folder) == untimed(finished)
    assert final_state(folder) == final_state(finished)


def test_round_of_clients_without_examples_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config()
    config.rounds = 1
    make = assembly.make_partition

    def without_the_smallest(config: Any, dataset: Any, **_: Any) -> Partition:
        clients = list(make(config, dataset).clients)
        smallest = min(range(3), key=lambda i: len(clients[i]))
        clients[smallest] = clients[smallest][:0]
        drawn[:] = smallest
        return Partition(tuple(clients))

    # Drawn three times, so that the program is that of the other runs.
    drawn = np.zeros(3, np.int32)
    monkeypatch.setattr(assembly, "make_partition", without_the_smallest)
    monkeypatch.setattr(cohorts, "sample", lambda *arguments: drawn)
    runner.run(config, tmp_path / "run")
    (row,) = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert row["train_loss"] is None
    assert row["valid_accuracy"] is None
    assert row["client_steps_per_second"] == 0
    assert 0 <= row["held_out_accuracy"] <= 1
    assert row["held_out_accuracy_of_clients"][drawn[0]] is None


def test_chunks_as_measured_are_recorded_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def measured(
        build: Any, state: Any, ids: Any, steps: Any, say: Any, facts: Any, groups: Any
    ) -> chunks.Choice:
        assert (len(ids), len(steps), facts, groups) == (3, 3, {}, None)
        return chunks.Choice(build(2), {"1": 3.5, "2": 2.25})

    monkeypatch.setattr(chunks, "measured", measured)
    config = tiny_config()
    config.clients_per_chunk = "measured"
    monkeypatch.setattr(Experiment, "_compile", interrupt)
    with pytest.raises(KeyboardInterrupt):
        runner.run(config, tmp_path / "run")
    monkeypatch.setattr(chunks, "measured", lambda *_: pytest.fail("measured once more"))
    with pytest.raises(KeyboardInterrupt):
        runner.run(config, tmp_path / "run")
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["clients_per_chunk_seconds"] == {"1": 3.5, "2": 2.25}
    assert [start["clients_per_chunk"] for start in run["starts"]] == [2, 2]


def interrupt(*_: Any) -> None:
    """As Ctrl-C does."""
    raise KeyboardInterrupt


def test_going_on_keeps_the_chunks_and_adds_up_the_costs(finished: Path, tmp_path: Path) -> None:
    folder = unfinished_copy(finished, tmp_path)
    before = json.loads((finished / "summary.json").read_text())
    run = json.loads((folder / "run.json").read_text())
    run["clients_per_chunk"] = 2
    (folder / "run.json").write_text(json.dumps(run))
    # What a kill between a better round's genotype and its checkpoint leaves behind.
    (folder / "genotypes" / "best.json").write_text("{}")
    summary = runner.run(tiny_config(), folder)
    starts = json.loads((folder / "run.json").read_text())["starts"]
    assert tiny_config().clients_per_chunk == "auto"
    assert [start["clients_per_chunk"] for start in starts] == [1, 2]
    assert starts[1]["changed"] == {
        "report.progress": False, "report.tensorboard": False,
        "report.plots": False, "report.page": False,
    }  # fmt: skip
    assert summary["seconds"] > 0.5 * before["seconds"]
    assert summary["genotype"] == before["genotype"]
    assert genotype.to_json(genotype.load(folder / "genotypes/best.json")) == before["genotype"]


def test_more_clients_a_round_than_there_are_is_refused(tmp_path: Path) -> None:
    config = tiny_config()
    config.clients_per_round = 4
    with pytest.raises(UserError, match=r"config\.clients_per_round"):
        runner.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_workdir_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        runner.run(tiny_config(), tmp_path / "file" / "run")
