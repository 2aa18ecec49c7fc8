"""The round engine on toy algorithms: how a round is computed does not show in its result."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fednas_jax.federated.algorithm import Algorithm, ClientUpdate, Phase
from fednas_jax.federated.clients import Clients
from fednas_jax.federated.cohort import NOBODY, Cohort, in_chunks, sample
from fednas_jax.federated.round import RoundEngine
from tests.federated import toys

CLIENTS = toys.population()
NUM_CLIENTS = len(toys.STEPS)
EVERYONE = np.arange(NUM_CLIENTS)
EXAMPLES = toys.random_examples()
KEY = jax.random.key(5)
# Sums of five float32 terms of like size in another order; a rounding is 6e-8.
ROUNDING = 1e-6


def engine(algorithm: Algorithm, clients_per_chunk: int, clients: Clients = CLIENTS) -> RoundEngine:
    return RoundEngine(algorithm, clients, EXAMPLES, clients_per_chunk)


@pytest.fixture(scope="module")
def averaging() -> dict[int, RoundEngine]:
    """Engines of `local_sgd` by clients a chunk."""
    return {size: engine(toys.local_sgd(), size) for size in (1, 2, 3, NUM_CLIENTS)}


@pytest.fixture(scope="module")
def separate() -> dict[int, RoundEngine]:
    """Engines that return each client's result in a row of its own, by clients a chunk."""
    algorithm = toys.apart(toys.local_sgd(), NUM_CLIENTS)
    return {size: engine(algorithm, size) for size in (1, 3)}


@pytest.fixture(scope="module")
def state() -> toys.Linear:
    return toys.local_sgd().init(jax.random.key(0))


def cohort(clients_per_chunk: int, ids: np.ndarray = EVERYONE) -> Cohort:
    return in_chunks(ids, np.asarray(CLIENTS.local_steps), clients_per_chunk)


def assert_same_bits(one: toys.Linear, two: toys.Linear) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, two)


def row(results: toys.Linear, client: int) -> toys.Linear:
    return jax.tree.map(lambda x: np.asarray(x[client]), results)


def test_chunk_sizes_1_3_and_K_agree(averaging, state):
    # Up to rounding: clients add up in another order, and vmap turns products into batched ones.
    results = {n: e.run(state, cohort(n), KEY)[0] for n, e in averaging.items()}
    for result in results.values():
        for one, two in zip(result, results[1], strict=True):
            np.testing.assert_allclose(one, two, rtol=ROUNDING, atol=ROUNDING)
    assert np.abs(results[1].weight - state.weight).max() > 0.05


def test_a_client_alone_equals_the_same_client_beside_larger_ones(separate, state):
    # To the bit: the same program walks through longer loops, whose added steps do nothing.
    alone, _ = separate[3].run(state, toys.cohort_of([[1, NOBODY, NOBODY]], CLIENTS), KEY)
    beside, _ = separate[3].run(state, toys.cohort_of([[2, 1, 0]], CLIENTS), KEY)
    assert_same_bits(row(alone, 1), row(beside, 1))
    assert np.abs(row(alone, 1).weight - state.weight).max() > 0.05
    assert not row(alone, 2).weight.any()  # who does not take part sends nothing


def test_a_client_without_neighbours_to_wait_for(separate, state):
    # A chunk of one compiles another program, without vmap: equal up to rounding.
    one_by_one, _ = separate[1].run(state, cohort(1), KEY)
    together, _ = separate[3].run(state, cohort(3), KEY)
    for one, two in zip(one_by_one, together, strict=True):
        np.testing.assert_allclose(one, two, rtol=ROUNDING, atol=ROUNDING)


def test_longer_loops_for_the_chunk_change_no_bit(separate, state):
    for size, rows in ((1, [[4], [0]]), (3, [[4, 0, NOBODY]])):
        exact = toys.cohort_of(rows, CLIENTS)
        longer = exact._replace(steps=exact.steps + np.int32(9))
        assert_same_bits(*(separate[size].run(state, c, KEY)[0] for c in (exact, longer)))


def test_a_population_with_larger_clients_changes_no_bit(state):
    # The index tables are as wide as the largest client; what a client draws must not depend on it.
    steps = np.asarray(CLIENTS.local_steps)
    alone = toys.population(toys.STEPS[:1])
    runs = [(alone, np.int32(steps[0])), (CLIENTS, np.int32(steps[0]))]
    results = []
    for clients, length in runs:
        runner = engine(toys.local_sgd(), 1, clients)
        only = Cohort(np.array([[0]], np.int32), np.array([length]))
        results.append(runner.run(state, only, KEY)[0])
    assert alone.train.shape != CLIENTS.train.shape
    assert_same_bits(*results)


@pytest.mark.parametrize(
    "rows", [[[0, 2, NOBODY], [1, NOBODY, NOBODY]], [[2, NOBODY, 0], [NOBODY, NOBODY, 1]]]
)
def test_empty_places_add_nothing(averaging, state, rows):
    # To the bit where the order of adding is the same: zeros are added.
    full = [[0, 2, 3], [1, 3, 3]]  # client 3 has no example, and so adds nothing either
    if rows[0][1] != 2:
        full = [[2, 3, 0], [3, 3, 1]]
    with_nobody, (metrics,) = averaging[3].run(state, toys.cohort_of(rows, CLIENTS), KEY)
    with_empty, _ = averaging[3].run(state, toys.cohort_of(full, CLIENTS), KEY)
    assert_same_bits(with_nobody, with_empty)
    np.testing.assert_array_equal(metrics["id"], rows)


def test_chunk_of_nobody_alone_adds_nothing(averaging, state):
    rows = [[2], [0], [NOBODY]]
    result, _ = averaging[1].run(state, toys.cohort_of(rows, CLIENTS), KEY)
    expected, _ = averaging[1].run(state, toys.cohort_of(rows[:2], CLIENTS), KEY)
    assert_same_bits(result, expected)


def test_client_without_examples_takes_part_without_changing_anything(averaging, state):
    empty = 3
    assert CLIENTS.num_examples[empty] == 0
    others = np.setdiff1d(EVERYONE, [empty])
    for size in (1, 3):
        with_it, (metrics,) = averaging[size].run(state, cohort(size), KEY)
        without, _ = averaging[size].run(state, cohort(size, others), KEY)
        assert_same_bits(with_it, without)
        assert np.asarray(metrics["loss"])[cohort(size).ids == empty] == 0


def test_round_of_clients_without_examples_keeps_the_state(averaging, state):
    for size in (1, 3):
        after, _ = averaging[size].run(state, cohort(size, np.array([3])), KEY)
        assert_same_bits(after, state)


def test_order_of_clients_does_not_matter_up_to_rounding(averaging, state):
    for size, one, two in (
        (1, [[0], [1], [2], [4]], [[4], [2], [0], [1]]),
        (2, [[0, 1], [2, 4]], [[4, 0], [1, 2]]),
        (3, [[0, 1, 2], [4, 3, NOBODY]], [[NOBODY, 4, 1], [2, 0, 3]]),
    ):
        results = [
            averaging[size].run(state, toys.cohort_of(r, CLIENTS), KEY)[0] for r in (one, two)
        ]
        for left, right in zip(*results, strict=True):
            np.testing.assert_allclose(left, right, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("clients_per_chunk", [1, 2])
def test_chunks_in_one_call_or_one_by_one_give_the_same_bits(averaging, state, clients_per_chunk):
    runner, members = averaging[clients_per_chunk], cohort(clients_per_chunk)
    accumulate, chunks = runner._accumulate[0], len(members.ids)

    def added_up(stops):
        _, totals, *arguments, first, _ = runner._arguments(0, state, members, KEY)
        for stop in map(jax.device_put, np.array(list(stops), np.int32)):
            totals, first = accumulate(state, totals, *arguments, first, stop), stop
        return totals

    at_once = added_up([chunks])
    assert_same_bits(at_once, added_up(range(1, chunks + 1)))
    assert_same_bits(at_once, added_up([1, chunks]))


# Randomness


def test_same_seed_same_bits_other_seed_other_bits(averaging, state):
    one, _ = averaging[3].run(state, cohort(3), jax.random.key(5))
    two, _ = averaging[3].run(state, cohort(3), jax.random.key(5))
    other, _ = averaging[3].run(state, cohort(3), jax.random.key(6))
    assert_same_bits(one, two)
    assert (np.asarray(one.weight) != np.asarray(other.weight)).all()


def test_same_seed_same_bits_from_another_engine(averaging, state):
    one, _ = averaging[3].run(state, cohort(3), KEY)
    two, _ = engine(toys.local_sgd(), 3).run(state, cohort(3), KEY)
    assert_same_bits(one, two)


def test_key_of_a_client_follows_from_round_phase_and_id(averaging, state):
    _, (metrics,) = averaging[2].run(state, cohort(2), KEY)
    for client, draw in zip(cohort(2).ids.ravel(), np.ravel(metrics["draw"]), strict=True):
        if client != NOBODY:
            key = jax.random.fold_in(jax.random.fold_in(KEY, 0), client)
            assert draw == jax.random.uniform(key)


def test_randomness_of_a_client_depends_on_round_and_client_only(separate, state):
    # Not on its place, its chunk, or who else takes part.
    results = []
    for rows in (
        [[0, 2, 4], [1, 3, NOBODY]],
        [[4, NOBODY, NOBODY], [NOBODY, NOBODY, NOBODY]],
        [[1, 0, 3], [NOBODY, 4, 2]],
    ):
        after, (metrics,) = separate[3].run(state, toys.cohort_of(rows, CLIENTS), KEY)
        results.append((row(after, 4), np.asarray(metrics["draw"])[np.array(rows) == 4]))
    for other in results[1:]:
        jax.tree.map(np.testing.assert_array_equal, results[0], other)


def test_clients_and_rounds_draw_differently(averaging, state):
    draws = set()
    for number in range(3):
        key = jax.random.fold_in(KEY, number)
        _, (metrics,) = averaging[1].run(state, cohort(1), key)
        draws |= set(np.ravel(metrics["draw"]).tolist())
    assert len(draws) == 3 * NUM_CLIENTS


# Compiling and running


@pytest.fixture
def compiled() -> Iterator[list[str]]:
    """What XLA is asked to compile during a test (also where a cache on disk has it)."""
    programs: list[str] = []

    def listen(event: str, duration: float, **facts: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            programs.append(str(facts))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield programs
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("clients_per_chunk", [1, 2])
def test_one_compilation_per_experiment(clients_per_chunk, compiled):
    # Rounds with other cohorts trace and compile nothing again, nor does a state from a checkpoint.
    traces: list[str] = []
    algorithm = toys.local_sgd(traces)
    runner = engine(algorithm, clients_per_chunk)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    seen = set()
    for number in range(8):
        key = jax.random.fold_in(KEY, number)
        ids = sample(jax.random.fold_in(key, 1), NUM_CLIENTS, 3)
        seen.add(tuple(ids))
        if number == 5:
            state = jax.tree.map(np.asarray, state)
        if number == 7:
            state = jax.device_put(jax.device_get(state), may_alias=False)
        state, _ = runner.run(state, cohort(clients_per_chunk, ids), key)
        runner.traffic(state)
        if number == 0:
            assert compiled
            assert traces == ["client_update"]
            compiled.clear()
    assert len(seen) > 3
    assert traces == ["client_update"]
    assert compiled == []


def test_asking_for_memory_compiles_what_the_rounds_run(compiled, state):
    traces: list[str] = []
    runner = engine(toys.local_sgd(traces), 2)
    runner.temporary_bytes(state, cohort(2))
    runner.run(state, cohort(2), KEY)
    assert traces == ["client_update"]
    assert sum("accumulate" in program for program in compiled) == 1


def test_prepared_ahead_a_round_traces_and_compiles_nothing_more(compiled, state):
    traces: list[str] = []
    runner = engine(toys.local_sgd(traces), 2)
    runner.prepare(state, cohort(2))
    after, _ = runner.run(state, cohort(2), KEY)
    assert traces == ["client_update"]
    assert sum("accumulate" in program for program in compiled) == 1
    expected, _ = engine(toys.local_sgd(), 2).run(state, cohort(2), KEY)
    assert_same_bits(after, expected)


def test_no_implicit_transfer_inside_a_round(averaging, state):
    runner = averaging[2]
    runner.run(jax.tree.map(np.asarray, state), cohort(2), KEY)  # what it needs, it moves by name
    _, totals, *arguments, _, _ = runner._arguments(0, state, cohort(2), KEY)
    try:
        runner._arguments = lambda *_: (state, jax.device_get(totals), *arguments, 0, 1)
        with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
            runner.run(state, cohort(2), KEY)
    finally:
        del runner._arguments


def test_totals_are_given_away_and_the_callers_state_is_not(averaging, state):
    runner = averaging[2]
    _, totals, *arguments, first, stop = runner._arguments(0, state, cohort(2), KEY)
    added = runner._accumulate[0](state, totals, *arguments, first, stop)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((totals.collected, totals.metrics)))
    members = jax.device_put(cohort(2))
    runner._finish_of(0, state)(*runner._to_finish(state, added, members, KEY))
    sums, weights = added.collected
    assert all(leaf.is_deleted() for leaf in sums)
    assert not weights.is_deleted()
    mine = jax.device_put(jax.device_get(state), may_alias=False)
    runner.run(mine, cohort(2), KEY)
    assert not any(leaf.is_deleted() for leaf in mine)


def test_a_phase_that_keeps_the_state_leaves_it_to_the_caller():
    def client_update(state, client, facts, examples, key):
        return ClientUpdate(state, jnp.ones(()), {})

    keeps = Phase(client_update, lambda state, sums, weights, facts: state)
    takes = Phase(client_update, lambda state, sums, weights, facts: sums)
    runner = engine(Algorithm(None, [keeps, takes], None), 1)
    state = jnp.ones(3)
    result, _ = runner.run(state, cohort(1), KEY)
    assert not state.is_deleted()
    np.testing.assert_array_equal(result, NUM_CLIENTS * state)


def test_chunk_of_one_runs_without_vmap(state):
    # Under vmap a condition on a client's own number computes both of its sides; alone it must not.
    calls = {"client": 0, "chunk": 0}

    def count(name):
        calls[name] += 1

    def client_update(state, client, facts, examples, key):
        def counted(name):
            return lambda: jax.debug.callback(count, name)

        lax.cond(client.local_steps > 100, counted("client"), lambda: None)
        lax.cond(facts.local_steps > 100, counted("chunk"), lambda: None)
        return ClientUpdate(jnp.zeros(()), jnp.ones(()), {})

    algorithm = Algorithm(
        None, [Phase(client_update, lambda state, sums, weights, facts: state)], None
    )
    engine(algorithm, 1).run(jnp.zeros(()), cohort(1), KEY)
    jax.effects_barrier()
    assert calls == {"client": 0, "chunk": 0}
    # What a whole chunk shares stays a condition even under vmap.
    engine(algorithm, 3).run(jnp.zeros(()), cohort(3), KEY)
    jax.effects_barrier()
    assert calls["client"] > 0
    assert calls["chunk"] == 0


def test_metrics_come_in_the_order_of_the_cohort(averaging, state):
    for size in (1, 2, 3, NUM_CLIENTS):
        members = cohort(size)
        _, (metrics,) = averaging[size].run(state, members, KEY)
        np.testing.assert_array_equal(metrics["id"], members.ids)
        assert metrics["loss"].shape == members.ids.shape


def test_clients_walk_through_their_own_number_of_steps():
    # A toy that counts the steps a client would take in its chunk's loop.
    def client_update(state, client, facts, examples, key):
        steps = lax.fori_loop(
            0, facts.local_steps, lambda i, n: n + (i < client.local_steps), jnp.int32(0)
        )
        return ClientUpdate(steps.astype(jnp.float32), jnp.ones(()), {"steps": steps})

    algorithm = Algorithm(None, [Phase(client_update, lambda s, sums, weights, facts: sums)], None)
    for size in (1, 3):
        total, (metrics,) = engine(algorithm, size).run(jnp.zeros(()), cohort(size), KEY)
        assert float(total) == sum(toys.STEPS)
        taken = dict(zip(cohort(size).ids.ravel(), np.ravel(metrics["steps"]), strict=True))
        assert [taken[k] for k in range(NUM_CLIENTS)] == list(toys.STEPS)


def test_progress_counts_the_chunks_of_all_phases():
    def client_update(state, client, facts, examples, key):
        return ClientUpdate(jnp.zeros(()), jnp.ones(()), {})

    phase = Phase(client_update, lambda state, sums, weights, facts: state)
    told: list[tuple[int, int]] = []
    runner = engine(Algorithm(None, [phase, phase], None), 2)
    runner.run(jnp.zeros(()), cohort(2), KEY, lambda done, of: told.append((done, of)))
    assert {of for _, of in told} == {6}
    assert told == sorted(told)
    assert {(3, 6), (6, 6)} <= set(told)


def test_traffic_and_memory(averaging, state):
    # Down: a weight of 4 and a bias, float32. Up: the same and one weight of the average.
    traffic = averaging[1].traffic(state)
    assert traffic == {"bytes_up_per_client": 24, "bytes_down_per_client": 20}
    # In two phases the state is sent twice, and each phase's sums and weights come back.
    first = averaging[1].algorithm.phases[0]

    def second(state, client, facts, examples, key):
        return ClientUpdate({"bias": jnp.zeros(2)}, {"bias": jnp.ones(3, jnp.int8)}, {})

    both = [first, Phase(second, lambda state, sums, weights, facts: state)]
    two = engine(averaging[1].algorithm._replace(phases=both), 1).traffic(state)
    assert two == {"bytes_up_per_client": 24 + 8 + 3, "bytes_down_per_client": 40}
    # What the server keeps to itself is not sent.
    less = averaging[1].algorithm._replace(broadcast=lambda state: state.bias)
    assert engine(less, 1).traffic(state)["bytes_down_per_client"] == 4
    sizes = [averaging[n].temporary_bytes(state, cohort(n)) for n in (1, NUM_CLIENTS)]
    assert 0 < sizes[0] < sizes[1]
