"""The choice of clients side by side: by memory, or by the clock."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from fednas_jax.federated import chunks
from fednas_jax.federated import round as round_module
from fednas_jax.federated.cohort import in_chunks
from fednas_jax.federated.round import RoundEngine
from fednas_jax.runtime import memory
from tests.federated import toys

CLIENTS = toys.population()
STEPS = np.asarray(CLIENTS.local_steps)
EVERYONE = np.arange(len(STEPS))
EXAMPLES = toys.random_examples()


def build(count):
    return RoundEngine(toys.local_sgd(), CLIENTS, EXAMPLES, count)


@pytest.fixture(scope="module")
def state():
    return toys.local_sgd().init(jax.random.key(0))


@pytest.fixture
def timed(monkeypatch):
    """Stands in for the clock: seconds of a chunk by its clients; lists the cohorts."""
    seconds, cohorts = {}, []

    def seconds_of_a_chunk(self, state, cohort):
        cohorts.append(cohort)
        return seconds[self.clients_per_chunk]

    monkeypatch.setattr(RoundEngine, "seconds_of_a_chunk", seconds_of_a_chunk)
    return seconds, cohorts


def measured(state):
    said = []
    return chunks.measured(build, state, EVERYONE, STEPS, said.append), said


def test_takes_the_fastest_round_and_stops_where_it_gets_slower(state, timed):
    seconds, cohorts = timed
    # Steps of the clients, largest first: 5, 3, 2, 1, 0. In lockstep: 11; 5 + 2 + 0 = 7; 5 + 0.
    # Of 5 clients in chunks of at most 4 there are two: 3 and 2; so 3 is tried in place of 4.
    seconds.update({1: 2.0, 2: 3.0, 3: 8.0})
    choice, said = measured(state)
    assert choice.engine.clients_per_chunk == 2
    assert choice.round_seconds == {"1": 2.0 / 2 * 11, "2": 3.0 / 2 * 7, "3": 8.0 / 2 * 6}
    assert said[1] == "2 clients at a time: 10.5 s a round"
    assert [cohort.steps.max() for cohort in cohorts] == [chunks.STEPS] * 3
    seconds.update({2: 5.0})
    choice, _ = measured(state)
    assert choice.engine.clients_per_chunk == 1
    assert list(choice.round_seconds) == ["1", "2"], "3 was not compiled"


def test_goes_on_while_it_gets_faster_up_to_the_cohort_and_the_memory(state, timed, monkeypatch):
    seconds, _ = timed
    seconds.update({1: 1.0, 2: 1.0, 3: 1.0, 5: 1.0})
    assert measured(state)[0].engine.clients_per_chunk == 5
    monkeypatch.setattr(memory, "clients_that_fit", lambda needed, free, most: 4)
    assert measured(state)[0].engine.clients_per_chunk == 3


def test_a_candidate_somewhat_slower_than_the_best_does_not_end_the_search(state, timed):
    seconds, _ = timed
    seconds.update({1: 1.0, 2: 2.0, 3: 1.0, 5: 9.0})  # a round: 5.5, 7, 3 and 22.5
    assert measured(state)[0].engine.clients_per_chunk == 3


def test_short_steps_are_timed_for_an_epoch_at_most(state, timed):
    seconds, cohorts = timed
    seconds.update({1: 0.01, 2: 9.0})
    assert measured(state)[0].round_seconds["1"] == 0.01 / 5 * 11
    assert [cohort.steps.max() for cohort in cohorts] == [2, 5, 2]


def test_sizes_of_chunks_leave_few_places_empty():
    assert chunks.even_sizes(10, 10) == [1, 2, 4, 5, 10]
    assert chunks.even_sizes(16, 6) == [1, 2, 4, 6]
    assert chunks.even_sizes(1, 1) == [1]


def test_clients_that_may_make_unequal_epochs_are_timed_as_such(state, timed):
    seconds, cohorts = timed
    seconds.update({1: 1.0, 2: 9.0})
    epochs = np.full(len(EVERYONE), 3)
    chunks.measured(build, state, EVERYONE, STEPS, lambda line: None, {"local_epochs": epochs})
    # Five clients, and an empty place in the third chunk of two.
    assert [cohort.facts["local_epochs"].tolist() for cohort in cohorts] == [
        [[3]] * 5,
        [[3, 3], [3, 3], [3, 0]],
    ]
    cohorts.clear()
    measured(state)
    assert [cohort.facts for cohort in cohorts] == [{}, {}]


class Clock:
    """Stands in for the module `time`: what is timed takes the next of `seconds`."""

    def __init__(self):
        self.seconds, self.now, self.running = [], 0.0, False

    def monotonic(self):
        if self.running:
            self.now += self.seconds.pop(0)
        self.running = not self.running
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(round_module, "time", clock)
    return clock


def test_a_chunk_takes_the_least_of_three_times_after_it_was_compiled(state, clock):
    for later in ([3.0, 2.0, 4.0], [2.0, 3.0, 4.0], [4.0, 3.0, 2.0]):
        clock.seconds = [1.0, *later]
        assert build(1).seconds_of_a_chunk(state, in_chunks(EVERYONE, STEPS, 1)) == 2.0
        assert clock.seconds == []


def test_what_was_measured_runs(state, clock):
    # A chunk of 1, 2 and 3 clients in 1, 1 and 9 seconds for 2 steps; rounds of 11, 7 and 6 steps.
    clock.seconds = [seconds for seconds in (1.0, 1.0, 9.0) for _ in range(4)]
    choice = chunks.measured(build, state, EVERYONE, STEPS, lambda line: None)
    assert choice.round_seconds == {"1": 5.5, "2": 3.5, "3": 27.0}
    assert (choice.engine.clients_per_chunk, clock.seconds) == (2, [])
    clock.seconds = [0.0] * 3  # of the calls for 1 and for 2 chunks
    result, _ = choice.engine.run(state, in_chunks(EVERYONE, STEPS, 2), jax.random.key(1))
    assert np.isfinite(result.weight).all()


def test_memory_is_that_of_the_greediest_phase(state, monkeypatch):
    def two(first, second):
        engine = build(1)
        sizes = [SimpleNamespace(temp_size_in_bytes=size) for size in (first, second)]
        engine._accumulate = [
            SimpleNamespace(
                prepare=lambda *_, size=size: SimpleNamespace(memory_analysis=lambda: size)
            )
            for size in sizes
        ]
        monkeypatch.setattr(engine, "_arguments", lambda *_: ())
        return engine.temporary_bytes(state, in_chunks(EVERYONE, STEPS, 1))

    assert two(3, 8) == two(8, 3) == 8


def test_fitting_is_one_on_a_cpu_and_what_fits_elsewhere(state, monkeypatch):
    cohort = in_chunks(EVERYONE, STEPS, 1)
    monkeypatch.setattr(memory, "most_side_by_side", lambda clients: 1)
    assert chunks.fitting(build, state, cohort).engine.clients_per_chunk == 1
    monkeypatch.setattr(memory, "most_side_by_side", lambda clients: clients)
    for fit in (1, 3, 5):
        monkeypatch.setattr(memory, "clients_that_fit", lambda needed, free, most, fit=fit: fit)
        assert chunks.fitting(build, state, cohort).engine.clients_per_chunk == fit
