"""What a client trains on, validates on and holds out, and the arrays that describe all of them."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fednas_jax.federated.clients import Division, build, divide, members_of


def sizes(count: int, held_out: float, train: float) -> tuple[int, int, int]:
    division = divide(np.arange(count), held_out, train)
    return len(division.train), len(division.valid), len(division.held_out)


@pytest.mark.parametrize(
    ("count", "held_out", "train", "expected"),
    [
        (100, 0.1, 0.5, (45, 45, 10)),
        (100, 0.0, 0.5, (50, 50, 0)),
        (19, 0.1, 0.5, (9, 9, 1)),
        (18, 0.1, 0.5, (8, 9, 1)),  # 17 are left: the train part rounds down
        (100, 0.25, 0.8, (60, 15, 25)),
        (10, 0.0, 0.25, (2, 8, 0)),
    ],
)
def test_fractions(count, held_out, train, expected):
    assert sizes(count, held_out, train) == expected


def test_parts_are_the_indices_in_order():
    division = divide(np.array([5, 2, 8, 6, 1, 9, 0, 3, 7, 4]), 0.2, 0.5)
    np.testing.assert_array_equal(division.train, [5, 2, 8, 6])
    np.testing.assert_array_equal(division.valid, [1, 9, 0, 3])
    np.testing.assert_array_equal(division.held_out, [7, 4])


def test_tiny_clients_train_and_validate_on_something():
    assert sizes(0, 0.1, 0.5) == (0, 0, 0)
    assert sizes(1, 0.1, 0.5) == (1, 1, 0)  # validates on the one it trains on
    assert sizes(2, 0.1, 0.5) == (1, 1, 0)
    assert sizes(3, 0.1, 0.5) == (1, 2, 0)
    assert sizes(3, 0.4, 0.9) == (1, 1, 1)
    assert sizes(2, 0.9, 0.5) == (1, 1, 1)  # one is left to learn from
    np.testing.assert_array_equal(divide(np.array([6]), 0.1, 0.5).valid, [6])


@given(
    count=st.integers(0, 300),
    held_out=st.floats(0, 0.99),
    train=st.floats(0.01, 0.99),
)
def test_every_example_is_in_one_part(count, held_out, train):
    division = divide(np.arange(count), held_out, train)
    learned = np.union1d(division.train, division.valid)
    together = np.concatenate([learned, division.held_out])
    np.testing.assert_array_equal(np.sort(together), np.arange(count))
    assert len(division.train) >= min(count, 1)
    assert len(division.valid) >= min(count, 1)
    if len(learned) > 1:
        assert not np.intersect1d(division.train, division.valid).size


def test_tables_hold_the_parts():
    first = Division(np.array([4, 2, 9]), np.array([1, 7]), np.array([3]))
    second = Division(np.array([5]), np.array([5]), np.array([], int))
    clients = build([first, second], batch_size=2)
    np.testing.assert_array_equal(clients.id, [0, 1])
    np.testing.assert_array_equal(clients.train, [[4, 2, 9], [5, 0, 0]])
    np.testing.assert_array_equal(clients.valid, [[1, 7], [5, 0]])
    np.testing.assert_array_equal(clients.num_train, [3, 1])
    np.testing.assert_array_equal(clients.num_valid, [2, 1])
    assert {x.dtype for x in jax.tree.leaves(clients)} == {np.dtype(np.int32)}


def test_number_of_examples_counts_what_a_client_learns_from_once():
    # N_k of Eq. 5: without what is held out, and one example used in both parts is one example.
    divisions = [divide(np.arange(n), 0.1, 0.5) for n in (40, 1, 0, 3)]
    np.testing.assert_array_equal(build(divisions, 4).num_examples, [36, 1, 0, 3])


def test_local_steps_are_whole_batches_and_at_least_one():
    rows = [np.arange(n) for n in (8, 7, 4, 3, 1, 0)]
    clients = build([Division(row, row, row[:0]) for row in rows], batch_size=4)
    np.testing.assert_array_equal(clients.local_steps, [2, 1, 1, 1, 1, 0])


def test_clients_without_any_example_make_tables_of_one_column():
    nothing = Division(*(np.array([], int) for _ in range(3)))
    clients = build([nothing, nothing], batch_size=4)
    assert clients.train.shape == clients.valid.shape == (2, 1)
    np.testing.assert_array_equal(clients.num_train, [0, 0])


def test_an_empty_place_of_a_chunk_has_no_examples_and_no_steps():
    parts = [Division(np.arange(n), np.arange(n), np.arange(0)) for n in (5, 3)]
    members = members_of(jax.device_put(build(parts, 2)), jax.numpy.array([1, -1, 0]))
    np.testing.assert_array_equal(members.id, [1, -1, 0])
    for name in ("num_train", "num_valid", "num_examples"):
        np.testing.assert_array_equal(getattr(members, name), [3, 0, 5], err_msg=name)
    np.testing.assert_array_equal(members.local_steps, [1, 0, 2])
