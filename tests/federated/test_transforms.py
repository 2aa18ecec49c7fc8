"""Chains of transforms, what they and clients keep, and reducers, each worked out by hand."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.federated import carried, reducers, transforms
from fednas_jax.federated.algorithm import Algorithm, ClientUpdate
from fednas_jax.federated.cohort import Cohort, in_chunks
from fednas_jax.federated.only_finite import ONLY_FINITE
from fednas_jax.federated.round import RoundEngine
from fednas_jax.federated.transforms import OnClient, OnServer, Received, Sent, Transform
from fednas_jax.runtime.errors import UserError
from tests.federated import toys

KEY = jax.random.key(3)
SIZES = [1, 3, 4]
CLIENTS = toys.clients_of_sizes(SIZES)
EXAMPLES = toys.random_examples()


def cohort(ids: list[int], size: int, ranks: int = 1) -> Cohort:
    steps = np.asarray(CLIENTS.local_steps)
    return in_chunks(np.array(ids, np.int32), steps, size, places=3, ranks=ranks)


def run(algorithm: Algorithm, cohorts: list[list[int]], size: int = 2) -> Any:
    engine = RoundEngine(algorithm, CLIENTS, EXAMPLES, size)
    state = jax.jit(algorithm.init)(KEY)
    for number, ids in enumerate(cohorts):
        state, _ = engine.run(state, cohort(ids, size), jax.random.fold_in(KEY, number))
    return state


def mapped(name: str, client: Any, server: Any) -> Transform:
    """Applies a function to what clients send, and another to the server's mean of it."""

    def of_client(update: ClientUpdate, at: OnClient) -> Sent:
        new = jax.tree.map(client, transforms.values(update))
        return Sent(transforms.with_values(update, new))

    def of_server(sums: Any, weights: Any, at: OnServer) -> Received:
        mean = jax.tree.map(lambda x: server(x / weights), sums)
        return Received(jax.tree.map(lambda x: x * weights, mean), weights)

    return Transform(name, of_client, of_server)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_clients_apply_a_chain_in_order_and_the_server_in_reverse(size: int) -> None:
    double = mapped("double", lambda x: 2 * x, lambda x: x / 2)
    shift = mapped("shift", lambda x: x + 3, lambda x: x - 3)
    chained = transforms.chained(toys.ids_plus(), [double, shift], 3)
    plain = (1 * 10 + 3 * 11 + 4 * 12) / 8
    assert float(run(chained, [[0, 1, 2]], size).mean) == pytest.approx(plain)
    half = mapped("double", lambda x: 2 * x, lambda x: x)
    one_way = transforms.chained(
        toys.ids_plus(), [half, mapped("s", lambda x: x + 3, lambda x: x)], 3
    )
    assert float(run(one_way, [[0, 1, 2]], size).mean) == pytest.approx(2 * plain + 3)


def test_a_transform_keeps_a_state_on_the_server_beside_the_algorithms() -> None:
    """It counts rounds, tells clients how many, and the clients of each."""

    def client(update: ClientUpdate, at: OnClient) -> Sent:
        return Sent(update._replace(sums=jax.tree.map(lambda x: x * 0 + at.own[0], update.sums)))

    def server(sums: Any, weights: Any, at: OnServer) -> Received:
        rounds, clients = at.own
        return Received(sums, weights / weights, (rounds + 1, clients + at.facts.clients))

    def init(state: Any) -> Any:
        return jnp.float32(0), jnp.int32(0)

    count = Transform("count", client, server, init)
    state = run(transforms.chained(toys.ids_plus(), [count], 3), [[0, 1, 2], [1], [0, 2]])
    assert float(state.mean) == 2 * 2, "in the third round each of two clients sends 2"
    assert [int(x) for x in state.transforms["count"]] == [3, 6]
    assert state._fields == ("mean", "transforms")
    assert carried.original(state) == toys.CountState(state.mean)


@pytest.mark.parametrize("size", [1, 2])
def test_clients_keep_what_is_theirs_from_round_to_round(size: int) -> None:
    algorithm = transforms.chained(toys.ids_plus(personal=True), [], 3)
    state = run(algorithm, [[0, 1], [1], [1, 2]], size)
    assert np.asarray(state.personal["algorithm"]["rounds"]).tolist() == [1, 3, 1]
    assert float(state.mean) == pytest.approx((3 * (11 + 2) + 4 * 12) / 7)
    assert jax.tree.leaves(algorithm.broadcast(state)) == [state.mean], "it is not sent"


def test_a_transform_keeps_a_residual_of_each_client() -> None:
    """Clients send whole tens, and what is left over with the next."""

    def client(update: ClientUpdate, at: OnClient) -> Sent:
        value = transforms.values(update)["mean"] + at.personal
        sent = 10 * jnp.floor(value / 10)
        return Sent(transforms.with_values(update, {"mean": sent}), value - sent)

    feedback = Transform("feedback", client, personal=lambda state: jnp.float32(0))
    chained = transforms.chained(toys.ids_plus(), [feedback], 3)
    state = run(chained, [[2]] * 5)
    # 12, 14, 16, 18, 20: the fifth time the residual is 8, so that 20 is sent.
    assert float(state.mean) == 20
    assert np.asarray(state.personal["transforms"]["feedback"]).tolist() == [0, 0, 0]
    assert float(run(chained, [[2]] * 3).personal["transforms"]["feedback"][2]) == 6


def test_a_client_that_is_left_out_keeps_what_it_had() -> None:
    algorithm = toys.ids_plus(personal=True, bad=1)
    chained = transforms.chained(algorithm, [ONLY_FINITE], 3)
    state = run(chained, [[0, 1], [1, 2]])
    assert chained.leaves_out
    assert np.asarray(state.personal["algorithm"]["rounds"]).tolist() == [1, 0, 1]
    assert float(state.mean) == 12


def test_without_anything_the_algorithm_is_as_it_was() -> None:
    algorithm = toys.ids_plus()
    assert transforms.chained(algorithm, [], 3) is algorithm


def test_further_fields_of_the_state_stay_through_rounds() -> None:
    kept = {"schedule": lambda state: {"late": jnp.arange(2)}}
    state = run(transforms.chained(toys.ids_plus(), [], 3, kept), [[0], [2]])
    assert (float(state.mean), state.schedule["late"].tolist()) == (12, [0, 1])


@pytest.mark.parametrize(
    ("names", "state", "says"),
    [
        (
            ["clip", "clip"],
            toys.CountState,
            "transforms: two are named 'clip'; unlike names",
        ),
        (["clip"], lambda x: {"mean": x}, "its server state is a dict; a NamedTuple is needed"),
    ],
)
def test_what_cannot_be_chained_is_refused(names: list[str], state: Any, says: str) -> None:
    algorithm = toys.ids_plus()._replace(init=lambda key: state(jnp.zeros(())))
    chain = [Transform(name, init=lambda state: 0) for name in names]
    with pytest.raises(UserError, match=says):
        transforms.chained(algorithm, chain, 3).init(KEY)


def test_a_taken_field_of_the_state_is_refused() -> None:
    class Taken(NamedTuple):
        personal: int

    with pytest.raises(UserError, match="has a field 'personal', but the engine"):
        carried.extended(Taken(1), personal=2)


def test_ranks_join_what_their_clients_keep() -> None:
    """Each rank alone: what it computed is new, and all else adds nothing to the others'."""
    algorithm = transforms.chained(toys.ids_plus(personal=True), [], 3)
    start = algorithm.init(KEY)._replace(
        personal={"algorithm": {"rounds": jnp.array([5.0, 6.0, 7.0])}, "transforms": {}}
    )
    engines = [RoundEngine(algorithm, CLIENTS, EXAMPLES, 1, toys.OneOf(r, 2)) for r in (0, 1)]
    shared, found = cohort([0, 1, 2], 1, ranks=2), []
    for engine in engines:
        after, _ = engine.run(start, shared, KEY)
        found.append(np.asarray(after.personal["algorithm"]["rounds"]).tolist())
    # Client 2, the longest, goes to rank 0, the others to rank 1.
    assert found == [[5, 6, 8], [6, 7, 7]]


# Reducers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_reducer_with_a_buffer_sees_every_client(size: int) -> None:
    outlier = toys.ids_plus(bad=2, value=1e6)._replace(reducer=toys.MEDIAN)
    assert float(run(outlier, [[0, 1, 2]], size).mean) == 11
    assert float(run(outlier, [[0, 1]], size).mean) == 10.5, "empty places do not count"
    assert float(run(toys.ids_plus(bad=2, value=1e6), [[0, 1, 2]], size).mean) > 1e5


def test_ranks_fill_places_of_their_own() -> None:
    """What ranks have in their buffers adds up to what one process has."""
    algorithm, shared = toys.ids_plus()._replace(reducer=toys.MEDIAN), cohort([0, 1, 2], 1, ranks=2)
    sums = []
    for rank in (0, 1):
        engine = RoundEngine(algorithm, CLIENTS, EXAMPLES, 1, toys.OneOf(rank, 2))
        mine = jax.device_put(shared.of_rank(rank, 2))
        state = algorithm.init(KEY)
        *arguments, _, _ = engine._arguments(0, state, mine, KEY)
        totals = engine._accumulate[0](*arguments, *map(np.int32, (0, len(mine.ids))))
        (sent, present), clients = totals.collected, totals.clients
        assert int(clients) == int(present.sum())
        sums.append(jax.device_get((sent[0]["mean"], present)))
    values, present = jax.tree.map(np.add, *sums)
    assert sorted(values[present > 0].tolist()) == [10, 33, 48]
    assert present.max() == 1


def test_the_sum_is_that_of_the_rows() -> None:
    rows = {"w": jnp.arange(6.0).reshape(3, 2)}, jnp.array([1.0, 0, 2])
    empty = jax.tree.map(jnp.zeros_like, jax.tree.map(lambda x: x[0], rows))
    found = reducers.SUM.add(empty, rows, jnp.ones(3, bool), jnp.int32(0))
    assert (found[0]["w"].tolist(), float(found[1])) == ([6, 9], 3)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_transform_of_sums_changes_nothing_in_empty_places(size: int) -> None:
    """Noise, here 1, is added to what each of three clients sends, and to nobody's."""

    def client(update: ClientUpdate, at: OnClient) -> Sent:
        return Sent(update._replace(sums=jax.tree.map(lambda x: x + 1, update.sums)))

    chained = transforms.chained(toys.ids_plus(), [Transform("noise", client)], 3)
    plain = 1 * 10 + 3 * 11 + 4 * 12
    assert float(run(chained, [[0, 1, 2]], size).mean) == (plain + 3) / 8


def test_states_that_a_transform_leaves_out_stay_as_they_were() -> None:
    counter = Transform(
        "c",
        client=lambda update, at: Sent(update),
        server=lambda sums, weights, at: Received(sums, weights),
        init=lambda state: jnp.float32(5),
        personal=lambda state: jnp.float32(6),
    )
    state = run(transforms.chained(toys.ids_plus(), [counter], 3), [[0, 1, 2], [1]])
    assert float(state.transforms["c"]) == 5
    assert np.asarray(state.personal["transforms"]["c"]).tolist() == [6, 6, 6]


@pytest.mark.parametrize("of", ["client", "server"])
def test_states_that_change_their_shape_are_refused(of: str) -> None:
    grows = Transform(
        "grows",
        client=lambda update, at: Sent(update, jnp.zeros(2) if of == "client" else at.personal),
        server=lambda sums, weights, at: Received(
            sums, weights, jnp.zeros(2) if of == "server" else at.own
        ),
        init=lambda state: jnp.float32(0),
        personal=lambda state: jnp.float32(0),
    )
    with pytest.raises(UserError, match=r"begins as .* and becomes .*; the same structure, shapes"):
        run(transforms.chained(toys.ids_plus(), [grows], 3), [[0, 1]])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            {"client": lambda update, at: update},
            "of the transform 'w' returns ClientUpdate; a",
        ),
        ({"server": lambda sums, weights, at: sums}, "of the transform 'w' returns dict; a"),
    ],
)
def test_what_a_transform_returns_is_checked(wrong: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        run(transforms.chained(toys.ids_plus(), [Transform("w", **wrong)], 3), [[0, 1]])
