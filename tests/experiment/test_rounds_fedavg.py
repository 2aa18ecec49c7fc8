"""Whole runs of an algorithm that searches nothing: nothing of a search is written."""

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest

from fednas_jax import config as schema
from fednas_jax.checkpoints.checkpoint import Checkpoints
from fednas_jax.experiment import runner
from fednas_jax.experiment.rounds import Experiment
from fednas_jax.federated import chunks
from fednas_jax.federated.cohort import Cohort
from fednas_jax.federated.round import RoundEngine
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime import gpu
from fednas_jax.runtime.errors import UserError
from tests.tiny import fedavg_config as tiny_config
from tests.tiny import final_state

pytestmark = pytest.mark.usefixtures("tiny_runs")

TIMES = ("seconds", "client_steps_per_second")


def untimed(folder: Path) -> list[dict[str, Any]]:
    rows = read_rows(folder / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def config_with_a_past() -> Any:
    """Rounds that depend on their number, and on what earlier ones have left: moments."""
    config = tiny_config()
    config.local_epochs = 2
    config.stragglers_share = 0.5
    config.optimizer.schedule = "both"
    config.optimizer.momentum = 0.9
    config.server.optimizer = "adam"
    config.server.learning_rate = 0.01
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fedavg") / "run"
    runner.run(tiny_config(), folder)
    return folder


@pytest.mark.parametrize(
    "setting",
    [
        ("jax_enable_x64", True),
        ("jax_disable_jit", True),
        ("jax_numpy_rank_promotion", "raise"),
        ("jax_default_matmul_precision", "bfloat16"),
        ("jax_debug_nans", True),
    ],
    ids=lambda setting: setting[0],
)
def test_under_other_settings_of_jax_a_run_begins_and_goes_on_with_the_same_bits(
    finished: Path, tmp_path: Path, setting: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, value = setting
    record = Experiment._record

    def stop(self: Any, row: Any) -> None:
        record(self, row)
        if row["round"] == 3:
            raise RuntimeError("stopped on purpose")

    with getattr(jax, name.removeprefix("jax_"))(value), monkeypatch.context() as patch:
        patch.setattr(Experiment, "_record", stop)
        with pytest.raises(RuntimeError, match="stopped on purpose"):
            runner.run(tiny_config(), tmp_path / "run")
    runner.run(tiny_config(), tmp_path / "run")  # set otherwise at first, and not now
    assert untimed(tmp_path / "run") == untimed(finished)
    assert final_state(tmp_path / "run") == final_state(finished)


def test_a_run_says_at_its_start_that_a_gpu_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "this machine has a GPU, but JAX computes on the CPU"
    monkeypatch.setattr(gpu, "unused", lambda: line)
    config = tiny_config()
    config.rounds = 1
    runner.run(config, tmp_path / "run")
    assert capsys.readouterr().err.startswith(f"fednas_jax: warning: {line}\n")


def test_scores_when_they_are_due(finished: Path) -> None:
    rows = untimed(finished)[1:]
    assert [row["held_out_accuracy"] is not None for row in rows] == [0, 1, 0, 1, 1]
    assert [row["test_accuracy"] is not None for row in rows] == [0, 0, 1, 0, 1]
    assert all(len(row["held_out_accuracy_of_clients"]) == 6 for row in rows[1::2])
    best = max(
        (row["held_out_accuracy"], -row["round"]) for row in rows if row["round"] in (2, 4, 5)
    )
    summary = json.loads((finished / "summary.json").read_text())
    assert (summary["held_out_accuracy"], -summary["best_round"]) == best


def test_the_first_weights_are_tested_as_round_0(finished: Path) -> None:
    first = untimed(finished)[0]
    # Ten classes, thirty images: near chance, and a loss near ln 10.
    assert first.pop("test_accuracy") < 0.5
    assert first.pop("test_loss") == pytest.approx(math.log(10), abs=0.3)
    assert first.pop("round") == 0
    assert set(first.values()) == {None}
    rounds = [row["round"] for row in untimed(finished)]
    assert rounds == [0, 1, 2, 3, 4, 5]


def test_an_untested_run_has_no_round_0(tmp_path: Path) -> None:
    config = tiny_config()
    config.test_every, config.rounds = 0, 1
    runner.run(config, tmp_path / "run")
    (row,) = untimed(tmp_path / "run")
    assert row["round"] == 1
    assert row["test_accuracy"] is not None


def test_who_is_not_there_is_recorded_and_a_round_of_nobody_changes_nothing(
    tmp_path: Path,
) -> None:
    config = tiny_config()
    config.clients_per_round = 2
    config.clients_per_chunk = 2
    config.rounds = 8
    config.local_epochs = 2
    config.test_every = 1
    config.unreachable_share = 0.6
    config.stragglers_share = 0.5
    config.stragglers = "drop"
    config.server.optimizer = "adam"
    config.server.learning_rate = 0.01
    runner.run(config, tmp_path / "run")
    rows = untimed(tmp_path / "run")
    for before, row in itertools.pairwise(rows):
        assert row["clients"] + row["unreachable"] + row["stragglers"] == 2
        nothing = row["clients"] == 0
        assert (row["train_loss"] is None) == nothing
        assert (row["test_loss"] == before["test_loss"]) == nothing
    present = [row["clients"] for row in rows[1:]]
    assert {0, 1} <= set(present)


@pytest.mark.parametrize(("stragglers", "epochs"), [("keep", [[2]] * 4), ("drop", None)])
def test_clients_side_by_side_are_chosen_for_the_program_that_rounds_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stragglers: str, epochs: list[list[int]] | None
) -> None:
    class Seen(Exception):
        pass

    def fitting(build: Any, state: Any, cohort: Cohort) -> None:
        assert cohort.ids.shape == (4, 1)
        assert cohort.ids.min() >= 0
        assert ("local_epochs" not in cohort.facts) == (epochs is None)
        assert epochs is None or cohort.facts["local_epochs"].tolist() == epochs
        raise Seen

    monkeypatch.setattr(chunks, "fitting", fitting)
    config = tiny_config()
    config.local_epochs = 2
    config.unreachable_share = 1.0  # the first round has nobody
    config.stragglers_share, config.stragglers = 0.5, stragglers
    with pytest.raises(Seen):
        runner.run(config, tmp_path / "run")


def test_a_fraction_of_the_clients_and_stragglers_that_are_kept(tmp_path: Path) -> None:
    config = tiny_config()
    config.clients_per_round, config.clients_fraction = 0, 0.5
    config.rounds, config.local_epochs, config.batch_size = 2, 3, 0
    config.stragglers_share = 1.0
    config.fedprox_mu = 0.1
    runner.run(config, tmp_path / "run")
    for row in untimed(tmp_path / "run")[1:]:
        assert (row["clients"], row["stragglers"]) == (3, 3)
        assert "unreachable" not in row


def test_loss_that_is_not_finite_stops_the_run_and_names_round_and_client(tmp_path: Path) -> None:
    config = tiny_config()
    config.clients_per_round = 0
    config.optimizer.learning_rate = 1e38
    with pytest.raises(UserError, match=r"round 1: .* of client 0, 1, 2.* not finite") as caught:
        runner.run(config, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert "config.optimizer.learning_rate" in str(caught.value)
    assert not (tmp_path / "run" / "summary.json").exists()


def test_sampled_clients_and_nothing_held_out(tmp_path: Path) -> None:
    config = tiny_config()
    config.client.held_out_fraction, config.held_out_every = 0.0, 1
    config.clients_per_round = 2
    config.rounds, config.test_every, config.checkpoint_every = 2, 0, 2
    summary = runner.run(config, tmp_path / "run")
    first, last = untimed(tmp_path / "run")
    # Nothing was held out, so nothing can choose: the last round is the result.
    assert summary["best_round"] == 2
    assert Checkpoints(tmp_path / "run" / "checkpoints").rounds() == [2]
    assert first["test_accuracy"] is None
    assert first["held_out_accuracy"] is None
    assert summary["test_accuracy"] == last["test_accuracy"]


def test_nothing_of_a_search_is_written(finished: Path) -> None:
    assert not (finished / "genotypes").exists()
    assert not (finished / "alphas.jsonl").exists()
    drawn = {path.name for path in (finished / "plots").iterdir()}
    assert drawn == {"accuracy_and_loss.png", "partition.png"}
    assert json.loads((finished / "summary.json").read_text())["genotype"] is None
    recorded = json.loads((finished / "run.json").read_text())["config"]
    assert not {"supernet", "search", "arch_optimizer"} & set(recorded)
    assert json.loads((finished / "run.json").read_text())["genotype"] is None
    assert recorded["optimizer"] == {
        "learning_rate": 0.1,
        "schedule": "constant",
        "momentum": 0.0,
        "weight_decay": 0.0,
        "clip_norm": 0.0,
    }
    for row in untimed(finished):
        assert "clients" not in row  # always the same
        assert not [key for key in row if "normal" in key or "valid" in key]


@pytest.fixture(scope="module")
def finished_with_a_past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("past") / "run"
    runner.run(config_with_a_past(), folder)
    assert any(row["stragglers"] for row in untimed(folder)[1:])
    return folder


@pytest.mark.parametrize(
    ("kind", "make_config"),
    [("finished", tiny_config), ("finished_with_a_past", config_with_a_past)],
)
def test_an_interrupted_run_ends_in_the_same_rows_and_bits(
    kind: str,
    make_config: Callable[[], Any],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finished = request.getfixturevalue(kind)
    run, rounds = RoundEngine.run, []

    def interrupted(*arguments: Any, **named: Any) -> Any:
        rounds.append(len(rounds))
        if len(rounds) == 5:
            raise KeyboardInterrupt
        return run(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(RoundEngine, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            runner.run(make_config(), tmp_path / "run")
    assert len(read_rows(tmp_path / "run" / "metrics.jsonl")) == 5
    runner.run(make_config(), tmp_path / "run")
    assert untimed(tmp_path / "run") == untimed(finished)
    assert final_state(tmp_path / "run") == final_state(finished)


def test_a_finished_run_says_so(finished: Path, capsys: pytest.CaptureFixture) -> None:
    runner.run(tiny_config(), finished)
    said = capsys.readouterr().out
    assert "this run is finished" in said
    assert "Best network (round" in said
    assert "genotype" not in said


def test_a_network_that_does_not_fit_the_images_is_refused_before_a_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fednas_jax.experiment import assembly

    config = tiny_config()
    config.network.name = "cnn"
    dataset = assembly.load_dataset(schema.resolve(config))
    small = dataset._replace(train=dataset.train._replace(images=dataset.train.images[:, :6]))
    monkeypatch.setattr(assembly, "load_dataset", lambda config, cut_by: small)
    with pytest.raises(UserError, match=r"config.network.name: 'cnn' .* 6 x 8; .* 4 divides"):
        runner.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
