"""Who takes part, who shares a chunk, and how much of the work is padding."""

import jax
import numpy as np
import pytest

from fednas_jax.data.tables import read_table
from fednas_jax.federated.clients import build, divide
from fednas_jax.federated.cohort import (
    NOBODY,
    attend,
    client_metrics,
    deal,
    in_chunks,
    sample,
    size,
)


def table2_steps(held_out_fraction: float = 0.0) -> np.ndarray:
    """Local steps an epoch of the paper's clients: batch 64, half of the data in the train part."""
    counts = read_table("fednas_table2").sum(axis=1)
    divisions = [divide(np.arange(n), held_out_fraction, 0.5) for n in counts]
    return np.asarray(build(divisions, 64).local_steps)


def test_all_take_part():
    np.testing.assert_array_equal(sample(jax.random.key(0), 5, 0), [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(sample(jax.random.key(0), 5, 5), [0, 1, 2, 3, 4])


@pytest.mark.parametrize("count", [1, 4, 5, 6, 9])
def test_sampled_without_replacement(count):
    # Up to a half by draws until enough are distinct, above it by a permutation.
    for seed in range(20):
        ids = sample(jax.random.key(seed), 10, count)
        assert ids.dtype == np.int32
        assert len(ids) == count
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


def test_chunks_are_made_for_as_many_as_there_may_be():
    # Three of five take part: the shapes are those of five, and what is empty has no steps.
    steps = np.array([3, 9, 1, 8, 2])
    cohort = in_chunks(np.array([0, 2, 4]), steps, 2, places=5)
    np.testing.assert_array_equal(cohort.ids, [[0, 4], [2, NOBODY], [NOBODY, NOBODY]])
    np.testing.assert_array_equal(cohort.steps, [3, 1, 0])
    nobody = in_chunks(np.zeros(0, np.int32), steps, 2, places=5)
    np.testing.assert_array_equal(nobody.ids, np.full((3, 2), NOBODY))
    np.testing.assert_array_equal(nobody.steps, [0, 0, 0])
    assert nobody.padding_share(steps) == 0


def test_clients_with_like_work_share_a_chunk():
    # Steps times epochs: 3 * 4, 9 * 1, 1 * 4, 8 * 2.
    steps, epochs = np.array([3, 9, 1, 8]), np.array([4, 1, 4, 2])
    cohort = in_chunks(np.arange(4), steps, 2, 7, facts={"local_epochs": epochs})
    np.testing.assert_array_equal(cohort.ids, [[3, 0], [1, 2]])
    np.testing.assert_array_equal(cohort.facts["local_epochs"], [[2, 4], [1, 4]])
    np.testing.assert_array_equal(cohort.steps, [8, 9])
    assert cohort.round == 7
    # The longest of a chunk need not be the first: 3 * 4 and 9 * 1.
    two = in_chunks(np.arange(2), steps, 2, facts={"local_epochs": epochs[:2]})
    assert two.steps.tolist() == [9]
    # Computed: 2 places x (8 * 4 + 9 * 4) = 136; wanted: 12 + 9 + 4 + 16 = 41.
    assert cohort.padding_share(steps) == pytest.approx(1 - 41 / 136)


@pytest.mark.parametrize(
    ("per_round", "fraction", "wanted"),
    [(7, 1.0, 7), (0, 1.0, 100), (0, 0.1, 10), (0, 0.29, 29), (0, 0.001, 1), (0, 0.25, 25)],
)
def test_how_many_are_drawn(per_round, fraction, wanted):
    # 100 * 0.29 is a little below 29 in floating point.
    assert size(100, per_round, fraction) == wanted


IDS = np.arange(0, 4000, 2, dtype=np.int32)


def test_everyone_attends_by_default():
    found = attend(jax.random.key(0), IDS, 5)
    assert found == (IDS, None, 0, 0)


def test_shares_of_unreachable_clients_and_stragglers():
    # 2,000 clients: 600 unreachable, standard deviation 20; of 1,400 others half, deviation 19.
    shares = {"unreachable_share": 0.3, "stragglers_share": 0.5}
    found = attend(jax.random.key(1), IDS, 5, **shares)
    assert abs(found.unreachable - 600) < 80
    assert abs(found.stragglers - 700) < 80
    assert len(found.ids) == len(IDS) - found.unreachable
    assert set(found.ids) < set(IDS)
    assert (np.diff(found.ids) > 0).all()
    assert (found.epochs < 5).sum() == found.stragglers
    # 1, 2, 3 or 4 epochs, 175 each, standard deviation 11.
    counts = np.bincount(found.epochs, minlength=6)
    assert counts[0] == 0
    assert counts[1:5].min() > 120
    assert counts[1:5].max() < 230
    assert counts[5] == len(found.ids) - found.stragglers
    # The same clients are slow where they are dropped.
    dropped = attend(jax.random.key(1), IDS, 5, stragglers="drop", **shares)
    np.testing.assert_array_equal(dropped.ids, found.ids[found.epochs == 5])
    assert dropped.epochs is None
    assert dropped[2:] == found[2:]


def test_a_keys_draws_are_those_of_earlier_versions():
    # A run is gone on with by a later version, which has to draw the same clients.
    key, ids = jax.random.key(7), np.arange(10, dtype=np.int32)
    assert sample(key, 50, 5).tolist() == [6, 15, 21, 34, 39]
    assert sample(key, 8, 5).tolist() == [1, 3, 4, 5, 7]
    found = attend(key, ids, 5, unreachable_share=0.3, stragglers_share=0.5)
    assert found.ids.tolist() == [0, 2, 3, 4, 5, 6, 9]
    assert found.epochs.tolist() == [4, 2, 5, 5, 3, 5, 4]


def test_attendance_follows_from_the_key_alone():
    one, two, other = (
        attend(jax.random.key(seed), IDS, 3, unreachable_share=0.5) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one.ids, two.ids)
    assert set(one.ids) != set(other.ids)
    assert one.epochs is None


def test_nobody_may_be_left():
    found = attend(jax.random.key(0), IDS, 3, unreachable_share=1.0, stragglers_share=1.0)
    assert len(found.ids) == len(found.epochs) == 0
    assert found[2:] == (len(IDS), 0)
    found = attend(jax.random.key(0), IDS, 3, stragglers_share=1.0, stragglers="drop")
    assert len(found.ids) == 0
    assert found[2:] == (0, len(IDS))


def test_the_longest_goes_first_to_the_least_loaded():
    # 7 to 0; 6 to 1; 5 to 1, which has 6 of 7; 4 to 0, 7 of 11; 3 to the lower of two with 11.
    work = np.array([3, 4, 5, 6, 7])
    shares = deal(np.array([10, 11, 12, 13, 14]), work, 2)
    assert [share.tolist() for share in shares] == [[4, 1, 0], [3, 2]]


def test_of_equal_clients_the_lower_id_comes_first_wherever_it_stands():
    shares = deal(np.array([9, 3, 6]), np.array([2, 2, 2]), 2)
    assert [share.tolist() for share in shares] == [[1, 0], [2]]


def test_more_ranks_than_clients_leave_some_without():
    shares = deal(np.array([0]), np.array([5]), 3)
    assert [share.tolist() for share in shares] == [[0], [], []]


@pytest.mark.parametrize("seed", range(20))
def test_nobody_is_lost_and_ranks_differ_by_a_client_at_most(seed):
    rng = np.random.RandomState(seed)
    ranks, work = rng.randint(1, 6), rng.randint(0, 50, rng.randint(0, 40))
    shares = deal(np.arange(len(work)), work, ranks)
    assert sorted(np.concatenate(shares).tolist()) == list(range(len(work)))
    loads = [int(work[share].sum()) for share in shares]
    # The last client of the busiest rank went to what was then the least loaded.
    assert max(loads) - min(loads) <= max(work, default=0)


def test_each_ranks_chunks_lie_behind_anothers():
    steps = np.array([3, 4, 5, 6, 7])
    epochs = np.array([1, 1, 1, 1, 1])
    facts = {"local_epochs": epochs}
    both = in_chunks(np.arange(5), steps, 2, 9, facts=facts, places=6, ranks=2)
    assert both.ids.tolist() == [[4, 1], [0, -1], [-1, -1], [3, 2], [-1, -1], [-1, -1]]
    assert both.steps.tolist() == [7, 3, 0, 6, 0, 0]
    first, second = both.of_rank(0, 2), both.of_rank(1, 2)
    assert second.ids.tolist() == [[3, 2], [-1, -1], [-1, -1]]
    assert (second.steps.tolist(), int(second.round)) == ([6, 0, 0], 9)
    assert second.facts["local_epochs"].tolist() == [[1, 1], [0, 0], [0, 0]]
    assert (first.chunks_with_clients(), second.chunks_with_clients()) == (2, 1)
    assert [part.local_steps(steps, 1) for part in (first, second)] == [14, 11]
    assert in_chunks(np.array([], int), steps, 2, places=4).chunks_with_clients() == 0


def test_each_ranks_limits_are_those_of_its_clients():
    # Of 3, 4 and 5 steps twice: the work left is 1, 7 and 4, dealt as 7 | 4, 1.
    steps, two = np.array([3, 4, 5]), np.array([2, 2, 2])
    facts = {"local_epochs": two, "step_limit": np.array([1, 7, 4])}
    both = in_chunks(np.arange(3), steps, 1, facts=facts, ranks=2)
    parts = [both.of_rank(rank, 2) for rank in range(2)]
    assert [part.ids.ravel().tolist() for part in parts] == [[1, -1, -1], [2, 0, -1]]
    limits = [part.facts["step_limit"].ravel().tolist() for part in parts]
    assert limits == [[7, 0, 0], [4, 1, 0]]
    assert [part.local_steps(steps, 2) for part in parts] == [7, 5]


def test_local_steps_count_each_ones_epochs():
    steps = np.array([3, 4])
    same = in_chunks(np.arange(2), steps, 2)
    assert same.local_steps(steps, 5) == 5 * 7
    unequal = in_chunks(np.arange(2), steps, 2, facts={"local_epochs": np.array([1, 2])})
    assert unequal.local_steps(steps, 5) == 3 + 8


def test_metrics_of_clients_come_by_ascending_id_without_empty_places() -> None:
    ids = np.array([[5, 0], [2, NOBODY]], np.int32)
    found = client_metrics({"loss": np.array([[5.0, 0.5], [2.0, 99.0]])}, ids)
    assert found["id"].tolist() == [0, 2, 5]
    assert found["loss"].tolist() == [0.5, 2.0, 5.0]
