"""Who takes part, who shares a chunk, and how much of the work is padding."""

import jax
import numpy as np
import pytest

from fednas_jax.data.tables import read_table
from fednas_jax.federated.clients import build, divide
from fednas_jax.federated.cohort import NOBODY, in_chunks, sample


def table2_steps(held_out_fraction: float = 0.0) -> np.ndarray:
    """Local steps an epoch of the paper's clients: batch 64, half of the data in the train part."""
    counts = read_table("fednas_table2").sum(axis=1)
    divisions = [divide(np.arange(n), held_out_fraction, 0.5) for n in counts]
    return np.asarray(build(divisions, 64).local_steps)


def test_all_take_part():
    np.testing.assert_array_equal(sample(jax.random.key(0), 5, 0), [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(sample(jax.random.key(0), 5, 5), [0, 1, 2, 3, 4])


def test_sampled_without_replacement():
    for seed in range(20):
        ids = sample(jax.random.key(seed), 10, 4)
        assert ids.dtype == np.int32
        assert len(ids) == 4
        assert (np.diff(ids) > 0).all()
        assert ids[0] >= 0
        assert ids[-1] < 10


def test_sample_follows_from_the_key_alone():
    one, two = sample(jax.random.key(7), 50, 5), sample(jax.random.key(7), 50, 5)
    np.testing.assert_array_equal(one, two)
    assert len({tuple(sample(jax.random.key(seed), 50, 5)) for seed in range(10)}) == 10


@pytest.mark.parametrize(("count", "deviation"), [(2, 8), (3, 9), (4, 8)])
def test_everyone_is_sampled_equally_often(count, deviation):
    # 300 rounds out of 6: 50 times as many each; both ways of drawing.
    counts = sum(np.bincount(sample(jax.random.key(s), 6, count), minlength=6) for s in range(300))
    assert counts.min() > 50 * count - 4 * deviation
    assert counts.max() < 50 * count + 4 * deviation


def test_pairs_are_sampled_equally_often():
    # 1,000 rounds of 2 out of 5: ten pairs, 100 each, standard deviation 9.5.
    pairs = [tuple(sample(jax.random.key(s), 5, 2)) for s in range(1000)]
    counts = [pairs.count(pair) for pair in set(pairs)]
    assert len(counts) == 10
    assert min(counts) > 60
    assert max(counts) < 140


def test_clients_of_like_size_share_a_chunk():
    steps = np.array([3, 9, 1, 8, 2, 7, 2])
    cohort = in_chunks(np.arange(7), steps, 3)
    np.testing.assert_array_equal(cohort.ids, [[1, 3, 5], [0, 4, 6], [2, NOBODY, NOBODY]])
    np.testing.assert_array_equal(cohort.steps, [9, 3, 1])
    assert cohort.ids.dtype == cohort.steps.dtype == np.int32


def test_only_who_takes_part_is_in_a_chunk():
    steps = np.array([3, 9, 1, 8, 2, 7, 2])
    cohort = in_chunks(np.array([0, 2, 5]), steps, 2)
    np.testing.assert_array_equal(cohort.ids, [[5, 0], [2, NOBODY]])
    np.testing.assert_array_equal(cohort.steps, [7, 1])


def test_chunk_larger_than_the_cohort():
    cohort = in_chunks(np.array([1]), np.array([2, 4]), 3)
    np.testing.assert_array_equal(cohort.ids, [[1, NOBODY, NOBODY]])
    np.testing.assert_array_equal(cohort.steps, [4])


def test_padding_share_by_hand():
    # Computed: 3 places x (9 + 3 + 1) = 39 steps; wanted: 3 + 9 + 1 + 8 + 2 + 7 + 2 = 32.
    steps = np.array([3, 9, 1, 8, 2, 7, 2])
    assert in_chunks(np.arange(7), steps, 3).padding_share(steps) == pytest.approx(7 / 39)
    assert in_chunks(np.arange(7), steps, 1).padding_share(steps) == 0


def test_padding_share_without_any_step():
    # Nothing is computed, so nothing of it is padding.
    steps = np.zeros(3, int)
    assert in_chunks(np.arange(3), steps, 2).padding_share(steps) == 0


def test_table_2_at_batch_64():
    steps = table2_steps()
    assert (steps.min(), steps.max(), steps.sum()) == (10, 35, 384)


@pytest.mark.parametrize(("clients_per_chunk", "computed"), [(1, 384), (4, 428), (16, 560)])
def test_table_2_steps_that_are_computed_in_an_epoch(clients_per_chunk, computed):
    steps = table2_steps()
    cohort = in_chunks(np.arange(16), steps, clients_per_chunk)
    assert int(cohort.steps.sum()) * clients_per_chunk == computed
    assert cohort.padding_share(steps) == pytest.approx(1 - 384 / computed)
    assert clients_per_chunk > 4 or cohort.padding_share(steps) <= 0.12
