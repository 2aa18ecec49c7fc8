"""Cuts of a data set whose examples belong to clients: who gives how many, and who stays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fednas_jax.data import cuts


def by_client(labels, client, total, seed=0, **options):
    rng = np.random.RandomState(seed)
    return cuts.by_client(np.array(labels), np.array(client), total, rng, **options)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 9)), min_size=1, max_size=60),
    st.floats(0, 1),
    st.booleans(),
)
def test_every_client_and_class_keeps_an_example(examples, part, fill):
    labels, client = np.array(examples).T
    total = int(part * len(labels))
    taken = by_client(labels, client, total, fill=fill)
    assert set(client[~taken]) == set(client)
    assert set(labels[~taken]) == set(labels)
    assert taken.sum() <= total
    for k in set(client):
        # The share rounded down or up, where the client has so many besides what it keeps.
        share = total * (client == k).mean()
        assert fill or taken[client == k].sum() <= np.ceil(share)


def test_like_clients_give_their_share_of_each_class():
    client = np.repeat(np.arange(20), 10)
    labels = np.tile([0, 1], 100)
    taken = by_client(labels, client, 40)
    assert np.bincount(client[taken]).tolist() == [2] * 20
    assert np.bincount(labels[taken]).tolist() == [20, 20]
    each = np.bincount(2 * client[taken] + labels[taken], minlength=40)
    assert each.max() - each.min() <= 1 + 1  # one each, one more or less


def test_a_large_client_gives_of_each_of_its_classes():
    labels = np.r_[np.zeros(100, int), np.ones(50, int), [2] * 50]
    taken = by_client(labels, np.r_[np.zeros(199, int), [1]], 40)
    assert np.bincount(labels[taken]).tolist() == [20, 10, 10]


def test_clients_too_small_for_their_share_are_made_up_for_only_if_asked():
    client = np.r_[np.arange(30), np.repeat(np.arange(30, 35), 10)]
    labels = np.arange(80) % 4
    few = by_client(labels, client, 16)
    assert np.bincount(client[few], minlength=35).tolist() == [0] * 30 + [2] * 5
    filled = by_client(labels, client, 16, fill=True)
    assert filled.sum() == 16
    assert filled[client < 30].sum() == 0
    assert by_client(labels, client, 80, fill=True).sum() == 80 - 35


def test_which_examples_follows_from_the_seed_and_no_client_is_preferred():
    client, labels = np.repeat(np.arange(10), 3), np.tile([0, 1, 2], 10)
    drawn = [by_client(labels, client, 5, seed=seed) for seed in range(40)]
    np.testing.assert_array_equal(drawn[0], by_client(labels, client, 5))
    given = np.sum([np.bincount(client[taken], minlength=10) for taken in drawn], axis=0)
    # Of 10 equal clients 5 give one each: 20 of 40 times, with a standard deviation of 3.
    assert 8 <= given.min() <= given.max() <= 32
    assert len({tuple(taken) for taken in drawn}) > 30


@pytest.mark.parametrize(
    ("shares", "sizes", "expected"),
    [
        ([7, 7, 6, 0], [80, 80, 79, 3], [6, 7, 6, 1]),
        ([5, 0, 0], [90, 4, 4], [3, 1, 1]),
        ([5, 0, 1], [90, 0, 4], [5, 0, 1]),  # there is none of the second
        ([1, 1, 0], [90, 40, 4], [1, 1, 0]),  # too few for all
    ],
)
def test_a_share_for_each(shares, sizes, expected):
    assert cuts.one_each(np.array(shares), np.array(sizes)).tolist() == expected
