"""Whole runs in which clients fail: what is recorded, and that it can be gone on with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fednas_jax import experiment
from fednas_jax.data.datasets import Dataset
from fednas_jax.experiment import assembly
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime.errors import UserError
from tests.tiny import fedavg_config, final_state, search_config

pytestmark = pytest.mark.usefixtures("tiny_runs")

TIMES = ("seconds", "client_steps_per_second")


def rows_of(config: Any, folder: Path) -> list[dict[str, Any]]:
    experiment.run(config, folder)
    rows = read_rows(folder / "metrics.jsonl")
    rounds = [row for row in rows if row["round"]]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rounds]


def faulty(config: Any, **fields: Any) -> Any:
    config.update_from_flattened_dict({f"faults.{name}": value for name, value in fields.items()})
    return config


EVERYTHING: dict[str, Any] = {
    "dropout_share": 0.4,
    "dropouts": "keep",
    "deadline_steps": 4,
    "late": "keep",
    "speed_sigma": 0.5,
    "extra_share": 0.5,
    "not_finite": "leave_out",
}


def test_all_at_once_recorded_and_the_same_bits_again(tmp_path: Path) -> None:
    # 6 clients of 4 steps an epoch, all 6 drawn for 4 answers.
    def config() -> Any:
        return faulty(fedavg_config(), **EVERYTHING)

    rows = rows_of(config(), tmp_path / "one")
    assert [row["round"] for row in rows] == [1, 2, 3, 4, 5]
    for row in rows:
        assert 0 < row["clients"] <= 4
        assert row["not_finite"] == []
        assert row["clients"] + row["surplus"] <= 6
    assert sum(row["dropouts"] for row in rows) > 0
    assert sum(row["late"] for row in rows) > 0
    assert sum(row["surplus"] for row in rows) > 0
    again = config()
    again.rounds = 5
    assert rows_of(again, tmp_path / "two") == rows
    assert final_state(tmp_path / "two") == final_state(tmp_path / "one")


def test_a_search_whose_clients_break_off(tmp_path: Path) -> None:
    config = faulty(search_config(), dropout_share=0.5, dropouts="keep")
    config.rounds = 2
    rows = rows_of(config, tmp_path / "run")
    assert all(row["clients"] + row["dropouts"] >= 3 for row in rows)
    assert all(row["train_loss"] > 0 for row in rows if row["clients"])


@pytest.mark.parametrize(("too_few", "tries"), [("skip", 1), ("repeat", 10)])
def test_a_round_of_too_few_changes_nothing(tmp_path: Path, too_few: str, tries: int) -> None:
    config = faulty(fedavg_config(), dropout_share=1.0, min_clients=1, too_few=too_few)
    config.rounds, config.test_every = 2, 1
    rows = rows_of(config, tmp_path / "run")
    for row in rows:
        assert (row["clients"], row["tries"], row["skipped"]) == (0, tries, True)
        assert (row["dropouts"], row["train_loss"]) == (4, None)
    assert rows[0]["test_loss"] == rows[1]["test_loss"]
    assert final_state(tmp_path / "run")


def test_a_round_of_too_few_is_begun_again_with_others(tmp_path: Path) -> None:
    # At most 3 of 4 in half of the rounds or more: about two tries a round.
    config = faulty(fedavg_config(), dropout_share=0.4, min_clients=3, too_few="repeat")
    config.rounds = 6
    rows = rows_of(config, tmp_path / "run")
    assert any(row["tries"] > 1 for row in rows)
    for row in rows:
        assert row["skipped"] or row["clients"] >= 3
        assert row["clients"] + row["dropouts"] == 4


def test_more_answers_than_are_asked_for(tmp_path: Path) -> None:
    config = faulty(fedavg_config(), min_clients=5)
    with pytest.raises(
        UserError, match=r"^config\.faults\.min_clients: 5 is .*at most 4 is needed"
    ):
        experiment.run(config, tmp_path / "run")


@pytest.fixture
def _poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Client 2's images are infinite."""
    populate = assembly.populate

    def poisoned(config: Any, dataset: Dataset, partition: Any) -> assembly.Population:
        images = dataset.train.images.astype(np.float32) / 255
        images[partition.clients[2]] = np.inf
        train = dataset.train._replace(images=images)
        test = dataset.test._replace(images=dataset.test.images.astype(np.float32) / 255)
        return populate(config, dataset._replace(train=train, test=test), partition)

    monkeypatch.setattr(assembly, "populate", poisoned)


@pytest.mark.usefixtures("_poisoned")
def test_a_client_that_is_not_finite_is_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = faulty(fedavg_config(), not_finite="leave_out", min_clients=5)
    config.clients_per_round, config.rounds, config.held_out_every = 0, 2, 1
    rows = rows_of(config, tmp_path / "run")
    assert all(np.isfinite(row["held_out_loss"]) for row in rows)  # of what the others hold out
    for row in rows:
        assert (row["clients"], row["not_finite"], row["skipped"]) == (5, [2], False)
        assert np.isfinite(row["train_loss"])
    said = "".join(capsys.readouterr())
    assert "round 1: loss or weights of client 2 are not finite; left out" in said


@pytest.mark.usefixtures("_poisoned")
def test_without_it_there_may_be_too_few(tmp_path: Path) -> None:
    config = faulty(fedavg_config(), not_finite="leave_out", min_clients=6)
    config.clients_per_round, config.rounds, config.client.held_out_fraction = 0, 1, 0.0
    config.held_out_every = 1
    (row,) = rows_of(config, tmp_path / "run")
    assert (row["clients"], row["tries"], row["skipped"]) == (0, 1, True)


@pytest.mark.usefixtures("_poisoned")
def test_by_default_it_stops_the_run(tmp_path: Path) -> None:
    config = fedavg_config()
    config.clients_per_round, config.rounds, config.client.held_out_fraction = 0, 1, 0.0
    config.held_out_every = 1
    with pytest.raises(UserError, match=r"^round 1: loss or weights of client 2 are not finite; "):
        experiment.run(config, tmp_path / "run")
