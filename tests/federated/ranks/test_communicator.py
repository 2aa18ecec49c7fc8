"""What every communicator does: the same tests alone, and on ranks that mpirun starts.

Under mpirun this file runs itself: each rank calls all functions `check_*`.
"""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.federated import round, transforms
from fednas_jax.federated.cohort import in_chunks
from fednas_jax.federated.evaluation import Evaluator
from fednas_jax.federated.ranks import communicator as communicators
from fednas_jax.federated.ranks import launch, mpi
from fednas_jax.federated.ranks.communicator import LOCAL, Communicator, packed
from fednas_jax.runtime.errors import UserError
from tests import ranks
from tests.federated import toys

KEY = jax.random.key(7)


def check_totals_are_sums_over_ranks(own: Communicator) -> None:
    """Rank r sends r + 1 times the same: 1 + 2 + ... + size times it comes back."""
    times = own.rank + 1
    all_times = own.size * (own.size + 1) // 2
    tree = {
        "a": jnp.arange(6.0).reshape(2, 3),
        "half": jnp.array([1.5, -2.0], jnp.bfloat16),
        "whole": jnp.array(3, jnp.int32),
        "nothing": jnp.zeros((0, 4)),
    }
    mine = jax.tree.map(lambda x: x * jnp.array(times, x.dtype), tree)
    total = jax.jit(own.total)(mine)
    for name, leaf in tree.items():
        assert total[name].dtype == leaf.dtype
        assert total[name].shape == leaf.shape
        wanted = all_times * np.asarray(leaf, np.float64)
        np.testing.assert_array_equal(np.asarray(total[name], np.float64), wanted)


def check_half_precision_is_added_up_in_single(own: Communicator) -> None:
    """256 + 1 is 256 in bfloat16, however often; 256 + (size - 1) is 258 with three ranks."""
    mine = jnp.array([256.0 if own.rank == 0 else 1.0], jnp.bfloat16)
    total = jax.jit(own.total)(mine)
    wanted = jnp.array([256.0 + own.size - 1]).astype(jnp.bfloat16)
    np.testing.assert_array_equal(np.asarray(total), np.asarray(wanted))


def check_what_has_no_sum_is_refused(own: Communicator) -> None:
    """On every rank, before anything is sent."""
    for bad in (jax.random.key(0), jnp.array([True])):
        with pytest.raises(TypeError, match=r"'x'.* has no sum; numbers are needed"):
            jax.jit(own.total)({"x": bad})


def check_every_rank_gets_the_same_bits(own: Communicator) -> None:
    """And the same again: numbers of very unlike sizes, whose sum depends on the order."""
    rng = np.random.RandomState(own.rank)
    mine = jnp.array(rng.randn(10_001) * 10.0 ** rng.randint(-4, 5, 10_001), jnp.float32)
    add_up = jax.jit(own.total)
    first = np.asarray(add_up(mine))
    for _ in range(3):
        np.testing.assert_array_equal(np.asarray(add_up(mine)), first)
    everyones = own.gather(first[None])
    assert everyones.shape == (own.size, 10_001)
    np.testing.assert_array_equal(everyones, np.broadcast_to(first, everyones.shape))


def check_gather_is_in_the_order_of_the_ranks(own: Communicator) -> None:
    """Of any type, and more than one row each."""
    tree = {"id": np.array([own.rank, -own.rank]), "fine": jnp.array([[own.rank == 0]])}
    together = own.gather(tree)
    wanted = [sign * rank for rank in range(own.size) for sign in (1, -1)]
    assert together["id"].tolist() == wanted
    assert together["fine"].tolist() == [[rank == 0] for rank in range(own.size)]


def check_broadcast_brings_rank_0s_bits(own: Communicator) -> None:
    """Of arrays and of typed keys."""
    tree = {
        "odd": np.array([np.nan, -0.0, 1e-40]) * (1 if own.rank == 0 else 2),
        "half": jnp.array(1.0 + own.rank, jnp.bfloat16),
        "key": jax.random.key(3 + own.rank),
        "keys": jax.random.split(jax.random.key(own.rank), 2),
    }
    told = own.broadcast(tree)
    assert np.asarray(told["odd"]).tobytes() == np.array([np.nan, -0.0, 1e-40]).tobytes()
    assert (float(told["half"]), told["half"].dtype) == (1.0, jnp.bfloat16)
    wanted = jax.random.key(3), jax.random.split(jax.random.key(0), 2)
    for got, key in zip((told["key"], told["keys"]), wanted, strict=True):
        assert got.dtype == key.dtype
        np.testing.assert_array_equal(jax.random.key_data(got), jax.random.key_data(key))


def check_rank_0_decides(own: Communicator) -> None:
    """The others are not even asked."""

    def value() -> Any:
        assert own.rank == 0
        return {"stop": False, "best": 3, "text": "é", "none": None}

    assert own.decide(value) == {"stop": False, "best": 3, "text": "é", "none": None}


def check_barriers_may_be_many(own: Communicator) -> None:
    """With a limit and without."""
    for limit in (None, 30.0, None):
        own.barrier(limit)


def check_rounds_agree_with_one_process(own: Communicator) -> None:
    """Up to the rounding of a sum; metrics of all clients, on every rank."""
    clients, examples = toys.population(), toys.random_examples()
    algorithm = toys.local_sgd()
    state = algorithm.init(jax.random.key(1))
    ids = np.array([0, 1, 2, 4])
    for size in (1, 2):
        shared = in_chunks(ids, clients.local_steps, size, places=5, ranks=own.size)
        alone = in_chunks(ids, clients.local_steps, size, places=5)
        engine = round.RoundEngine(algorithm, clients, examples, size, own)
        engine.prepare(state, shared)
        after, (metrics,) = engine.run(state, shared, KEY)
        single = round.RoundEngine(algorithm, clients, examples, size)
        wanted, (metrics_alone,) = single.run(state, alone, KEY)
        for one, two in zip(after, wanted, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
        draws = []
        for cohort, found in ((shared, metrics), (alone, metrics_alone)):
            present = cohort.ids >= 0
            np.testing.assert_array_equal(found["id"][present], cohort.ids[present])
            draws.append(dict(zip(found["id"][present], found["draw"][present], strict=True)))
        assert draws[0] == draws[1]
        again, _ = engine.run(state, shared, KEY)
        jax.tree.map(np.testing.assert_array_equal, after, again)


def check_a_rank_without_work_takes_part(own: Communicator) -> None:
    """One client, and nobody at all."""
    clients, examples = toys.population(), toys.random_examples()
    algorithm = toys.means()
    engine = round.RoundEngine(algorithm, clients, examples, 1, own)
    one = in_chunks(np.array([1]), clients.local_steps, 1, places=4, ranks=own.size)
    state, _ = engine.run(jnp.zeros(()), one, KEY)
    labels = np.asarray(examples.targets)[clients.train[1][: clients.num_train[1]]]
    np.testing.assert_allclose(state, labels.mean(), rtol=1e-6)
    nobody = in_chunks(np.array([], np.int32), clients.local_steps, 1, places=4, ranks=own.size)
    after, _ = engine.run(state, nobody, KEY)
    np.testing.assert_array_equal(after, state)


def check_scores_agree_with_one_process(own: Communicator) -> None:
    """Ranks share the batches, of which there may be fewer than ranks."""
    algorithm, examples = toys.local_sgd(), toys.random_examples()
    state = algorithm.init(jax.random.key(1))
    groups = [np.arange(0, 7), np.arange(7, 9), np.arange(9, 9), np.arange(9, 30)]
    shared = Evaluator(algorithm, examples, groups, 4, own)
    alone = Evaluator(algorithm, examples, groups, 4)
    for arguments in ((), (2,), (4, 3), (3, 2)):
        np.testing.assert_allclose(shared(state, *arguments), alone(state, *arguments), rtol=1e-6)


def check_what_clients_keep_and_a_median_agree_with_one_process(own: Communicator) -> None:
    """Two rounds of unlike cohorts: each rank ends with what all clients keep."""
    clients, examples = toys.population(), toys.random_examples()
    algorithm = transforms.chained(toys.ids_plus(personal=True), [], len(toys.STEPS))
    algorithm = algorithm._replace(reducer=toys.MEDIAN)
    start = algorithm.init(jax.random.key(1))
    for size in (1, 2):
        shared = round.RoundEngine(algorithm, clients, examples, size, own)
        single = round.RoundEngine(algorithm, clients, examples, size)
        one = two = start
        for ids in ([0, 1, 2, 4], [1, 2, 3]):
            steps = np.asarray(clients.local_steps)
            cohort = in_chunks(np.array(ids), steps, size, places=5, ranks=own.size)
            one, _ = shared.run(one, cohort, KEY)
            two, _ = single.run(two, in_chunks(np.array(ids), steps, size, places=5), KEY)
        np.testing.assert_allclose(one.mean, two.mean, rtol=1e-6)
        rounds = [state.personal["algorithm"]["rounds"] for state in (one, two)]
        np.testing.assert_array_equal(*rounds)
        assert np.asarray(rounds[0]).tolist() == [1, 2, 2, 1, 1]


CHECKS = [check for name, check in sorted(globals().items()) if name.startswith("check_")]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_alone(check: Any) -> None:
    check(LOCAL)


@pytest.mark.alone
@ranks.needs_mpi
@pytest.mark.parametrize("size", [2, 3])
def test_over_mpi(size: int) -> None:
    done = ranks.run(size, ["-m", "tests.federated.ranks.test_communicator"])
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted(f"{n}:{len(CHECKS)}" for n in range(size))
    assert done.stderr == ""


def test_one_buffer_goes_for_each_type() -> None:
    sizes = []
    tree = [jnp.ones((2, 3)), jnp.ones(4, jnp.bfloat16), jnp.ones((), jnp.int32), jnp.ones(1)]

    def add_up(flat: jax.Array) -> jax.Array:
        sizes.append(flat.size)
        assert flat.dtype in (jnp.float32, jnp.int32)
        return 2 * flat

    doubled = packed(tree, add_up)
    assert sorted(sizes) == [1, 6 + 4 + 1]
    for one, two in zip(tree, doubled, strict=True):
        assert (two.shape, two.dtype) == (one.shape, one.dtype)
        assert (np.asarray(two) == 2).all()


@pytest.mark.parametrize("text", ["soon", "0", "inf", "nan", "-3"])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"FEDNAS_JAX_MPI_SECONDS: .* 1 or more seconds are needed"):
        mpi.start({"FEDNAS_JAX_MPI_SECONDS": text})


def test_without_a_launcher_a_process_is_alone() -> None:
    for environment in ({}, {"OMPI_COMM_WORLD_SIZE": "1"}, {"PMI_SIZE": ""}):
        assert launch.start(environment) is LOCAL


if __name__ == "__main__":
    together = launch.start()
    with communicators.one_for_all(together):
        for one in CHECKS:
            one(together)
        sys.stdout.write(f"{together.rank}:{len(CHECKS)}\n")
