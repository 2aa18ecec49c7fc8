"""Batches by index arithmetic: every example once an epoch, small clients wrap around."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.federated import batches

INDICES = np.array([7, 3, 9, 5, 1, 0, 0, 0], np.int32)  # five examples, three places of padding


def one_epoch(order: np.ndarray, count: int, batch_size: int) -> np.ndarray:
    steps = max(1, count // batch_size)
    return np.stack([batches.batch(order, count, step, batch_size) for step in range(steps)])


def test_shuffling_permutes_the_first_and_leaves_the_padding_behind():
    order = np.asarray(batches.shuffled(jax.random.key(0), INDICES, 5))
    assert sorted(order[:5]) == [1, 3, 5, 7, 9]
    assert list(order[5:]) == [0, 0, 0]


def test_shuffled_differently_with_each_key():
    orders = {
        tuple(np.asarray(batches.shuffled(jax.random.key(seed), np.arange(20), 20)))
        for seed in range(5)
    }
    assert len(orders) == 5


def test_shuffling_is_uniform():
    # 6 orders of 3 examples, 3,000 draws: 500 each, standard deviation 20.
    keys = jax.random.split(jax.random.key(1), 3000)
    orders = jax.vmap(batches.shuffled, (0, None, None))(keys, jnp.array([0, 1, 2, 9]), 3)
    _, counts = np.unique(np.asarray(orders), axis=0, return_counts=True)
    assert len(counts) == 6
    assert counts.min() > 400
    assert counts.max() < 600


def test_order_does_not_depend_on_the_table_that_larger_clients_widen():
    key = jax.random.key(3)
    narrow = batches.shuffled(key, INDICES[:5], 5)
    wide = batches.shuffled(key, np.pad(INDICES, (0, 200)), 5)
    np.testing.assert_array_equal(narrow, wide[:5])


@pytest.mark.parametrize(("count", "batch_size"), [(8, 4), (11, 4), (9, 3), (5, 5), (13, 1)])
def test_every_example_once_an_epoch_up_to_the_remainder(count, batch_size):
    indices = np.arange(100, 100 + count)
    order = batches.shuffled(jax.random.key(2), np.pad(indices, (0, 6)), count)
    seen = one_epoch(order, count, batch_size)
    assert seen.shape == (count // batch_size, batch_size)
    assert len(np.unique(seen)) == seen.size == count - count % batch_size
    assert set(seen.ravel()) <= set(indices)


def test_another_remainder_is_dropped_each_epoch():
    # 9 examples in batches of 4 leave one over; in 30 epochs it is never always the same.
    left = set()
    for seed in range(30):
        order = batches.shuffled(jax.random.key(seed), np.arange(9), 9)
        left |= set(range(9)) - set(one_epoch(order, 9, 4).ravel())
    assert len(left) > 5


def test_fewer_than_a_batch_wraps_around_its_own_examples():
    np.testing.assert_array_equal(batches.batch(INDICES, 3, 0, 7), [7, 3, 9, 7, 3, 9, 7])
    np.testing.assert_array_equal(batches.batch(INDICES, 1, 0, 3), [7, 7, 7])


def test_validation_walks_on_through_its_part():
    # A valid part smaller than the train part: the pass starts again where it ends, in any step.
    seen = np.concatenate([batches.batch(INDICES, 5, step, 3) for step in range(5)])
    np.testing.assert_array_equal(seen, np.tile(INDICES[:5], 3))


def test_no_examples_give_some_index_within_the_data():
    np.testing.assert_array_equal(batches.batch(INDICES, 0, 4, 3), [7, 7, 7])
