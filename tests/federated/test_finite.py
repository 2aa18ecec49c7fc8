"""What is not finite is found and named; what was not measured is no fault."""

import jax
import numpy as np
import pytest

from fednas_jax.algorithms.fedavg import algorithm as fedavg
from fednas_jax.algorithms.fednas import algorithm as fednas
from fednas_jax.federated import carried
from fednas_jax.federated.evaluation import Score
from fednas_jax.federated.finite import clients_fault, server_fault

NAN, INF = np.nan, np.inf
STATE = {"weights": np.ones((2, 2), np.float32), "count": np.array(3)}
GOOD, NONE = Score(1.0, 0.5), Score(NAN, NAN)


@pytest.mark.parametrize(
    ("finite", "fault"),
    [
        ([True, True, True], ""),
        ([True, False, True], "loss or weights of client 4 are not finite"),
        ([False, True, False], "loss or weights of client 2, 7 are not finite"),
    ],
)
def test_clients(finite: list[bool], fault: str) -> None:
    clients = {"id": np.array([2, 4, 7]), "finite": np.array(finite)}
    assert clients_fault(clients) == fault


def test_clients_that_have_names() -> None:
    clients = {"id": np.array([0, 2]), "finite": np.array([True, False])}
    names = ("North", "East", "West")
    assert clients_fault(clients, names) == "loss or weights of client 2 ('West') are not finite"
    fault = server_fault(STATE, [GOOD, Score(NAN, 0.5), GOOD], [1, 1, 1], None, names)
    assert "loss on held-out examples of client 1 ('East') is not finite" in fault


def test_finite_scores_are_no_fault_nor_are_those_of_nothing() -> None:
    assert server_fault(STATE, [GOOD, NONE, GOOD], [3, 0, 2], GOOD) == ""
    assert server_fault(STATE, [NONE], [0], None) == ""


def test_what_clients_keep_may_be_infinite() -> None:
    """Such as the best loss that a client has had so far."""
    state = fedavg.ServerState({"w": np.ones(2)}, {})
    kept = carried.extended(state, personal=np.full(3, INF))
    assert server_fault(kept, [], [], None) == ""
    broken = carried.extended(state._replace(params={"w": np.full(2, NAN)}), personal=np.ones(3))
    assert server_fault(broken, [], [], None) == "averaged weights are not finite"


@pytest.mark.parametrize("bad", [Score(NAN, 0.5), Score(INF, 0.0)])
def test_scores_are_named(bad: Score) -> None:
    fault = server_fault(STATE, [bad, GOOD, NONE, bad], [3, 2, 0, 1], bad)
    assert fault == "the averaged network's loss on held-out examples of client 0, 3 is not finite"
    fault = server_fault(STATE, [GOOD], [3], bad)
    assert fault == "the averaged network's loss on the test set is not finite"


def test_weights_that_no_score_shows_are_looked_at() -> None:
    state = STATE | {"weights": np.array([1.0, INF])}
    assert server_fault(state, [NONE], [0], None) == "averaged weights are not finite"


ONES = np.ones(3, np.float32)
STATES = {
    "fednas": fednas.ServerState({"stem": ONES, "cell": ONES}, {"normal": ONES}, {"norm": ONES}),
    "fedavg": fedavg.ServerState({"dense": ONES}, {"norm": ONES}, {"velocity": ONES}),
}


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("name", STATES)
def test_every_part_of_a_state_is_looked_at(name: str, bad: float) -> None:
    """Weights, alphas, batch statistics, and what the server's optimiser remembers."""
    leaves, tree = jax.tree.flatten(STATES[name])
    assert server_fault(STATES[name], [GOOD], [3], GOOD) == ""
    for place in range(len(leaves)):
        changed = [leaf.copy() for leaf in leaves]
        changed[place][1] = bad
        state = jax.tree.unflatten(tree, changed)
        assert server_fault(state, [GOOD], [3], GOOD) == "averaged weights are not finite"
