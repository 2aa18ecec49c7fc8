"""The benchmarks of growth and of a round's shares, without their long runs."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks import cases, growth, round_share
from fednas_jax.experiment import assembly


class FakePeer:
    """Answers as a process of a population would: 2 % slower and 10 MB larger where it is large."""

    def __init__(self, python: str, module: str, arguments: list[str]) -> None:
        size = int(arguments[0].partition("=")[2].split(",")[0])
        self._answer = (
            {"seconds": 0.51, "peak_bytes": 315e6}
            if size == 10_000
            else {"seconds": 0.5, "peak_bytes": 300e6}
        )

    def __enter__(self) -> "FakePeer":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._answer


def test_population_is_compared_with_the_smallest_one(monkeypatch):
    monkeypatch.setattr(growth, "Peer", FakePeer)
    rows = {row.name: row for row in growth.populations((100, 10_000), 10, 3)}
    assert rows["10 of 100 clients: rounds"].value == 2
    against = "10 of 10,000 clients against 10 of 100"
    assert rows[f"{against}: time a round"].value == 1.02
    assert rows[f"{against}: time a round"].met
    # 9,900 rows of 60 indices to train on and 60 to validate on, 4 bytes each.
    np.testing.assert_allclose(
        rows[f"{against}: memory, index table aside"].value, 15 - 9_900 * 480 / 1e6
    )


def test_a_federation_is_nothing_but_its_index_table():
    ours = growth.federation(1_000, 10)
    assert ours._clients.train.shape == (1_000, growth.EXAMPLES)
    assert set(ours._clients.local_steps) == {6}
    assert ours.parameters() == 199_210


def test_clock_adds_up_by_name(monkeypatch):
    now = [5.0]
    monkeypatch.setattr(round_share, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    clock = round_share.Clock()

    def work(which, seconds):
        now[0] += seconds
        return which + 1

    timed = clock.watched(lambda which, _: f"phase {which}", work)
    assert [timed(0, 2.0), timed(1, 8.0), timed(0, 0.5)] == [1, 2, 1]
    assert clock.seconds == {"phase 0": 2.5, "phase 1": 8.0}


def test_shares_are_of_whole_steps_and_a_fifth_is_tested(tmp_path):
    config = round_share.settings(cases.find("tiny"), tmp_path, 2)
    dataset = assembly.load_dataset(config)
    population = assembly.populate(config, dataset, assembly.make_partition(config, dataset))
    assert population.clients.local_steps.tolist() == [round_share.STEPS] * round_share.CLIENTS
    assert len(dataset.test.labels) == round(0.2 * len(dataset.train.labels))
    assert config["local_epochs"] == 5
