"""Scores of groups of examples, whatever their sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.data.task import Scores
from fednas_jax.federated.algorithm import Algorithm
from fednas_jax.federated.clients import Examples
from fednas_jax.federated.evaluation import Evaluator, Score, mean_score
from fednas_jax.federated.ranks.communicator import LOCAL
from tests.federated.toys import OneOf

# Example i has the image value i and the label 2 i. The toy's loss is state * value + label, and it
# is right on even values.
COUNT = 12
EXAMPLES = Examples(
    jnp.arange(COUNT, dtype=jnp.uint8).reshape(COUNT, 1, 1, 1),
    2 * jnp.arange(COUNT, dtype=jnp.int32),
)
NOTHING = np.array([], np.int64)


def evaluator(groups, batch_size=4, traces=None, communicator=LOCAL):
    def evaluate(state, images, labels):
        if traces is not None:
            traces.append(images.shape)
        values = images[:, 0, 0, 0].astype(jnp.float32)
        even = (values % 2 == 0).astype(jnp.float32)
        return Scores(state * values + labels, even, jnp.ones(labels.shape, jnp.int32))

    algorithm = Algorithm(lambda key: jnp.zeros(()), [], evaluate)
    groups = [np.asarray(g) for g in groups]
    return Evaluator(algorithm, EXAMPLES, groups, batch_size, communicator)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 5, 64])
def test_scores_by_hand_with_a_partial_last_batch(batch_size):
    # Values 0, 1, 2, 4, 8, mean 3; four of five even; loss at state 10: (10 + 2) * 3.
    (score,) = evaluator([[0, 1, 2, 4, 8]], batch_size)(jnp.float32(10))
    assert score == Score(36, pytest.approx(0.8))


def test_groups_that_share_batches_are_kept_apart():
    groups = [[1, 3, 5], [2], [0, 11, 4, 9, 6, 7]]
    scores = evaluator(groups)(jnp.float32(0))
    expected = [Score(6, 0), Score(4, 1), Score(2 * 37 / 6, 0.5)]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_an_example_may_be_in_several_groups():
    scores = evaluator([[5, 6], [6, 7, 8]])(jnp.float32(0))
    np.testing.assert_allclose(scores, [(11, 0.5), (14, 2 / 3)], rtol=1e-6)


def test_empty_groups_have_no_score():
    scores = evaluator([NOTHING, [3], NOTHING, [4]])(jnp.float32(0))
    np.testing.assert_array_equal(scores, [(np.nan, np.nan), (6, 0), (np.nan, np.nan), (8, 1)])


def test_nothing_to_score_at_all():
    scores = evaluator([NOTHING, NOTHING])(jnp.float32(0))
    assert len(scores) == 2
    assert np.isnan(scores).all()


def test_first_groups_alone():
    groups = [[1, 3, 5], [2, 4], [0, 11, 6, 9]]
    score_all = evaluator(groups)
    state = jnp.float32(3)
    for count in range(4):
        np.testing.assert_array_equal(score_all(state, count), score_all(state)[:count])


def walked(score, monkeypatch):
    """Lists the batches, first and stop, that an evaluator walks through in each call."""
    calls, run = [], score._run
    monkeypatch.setattr(score, "_run", lambda *a: calls.append(tuple(map(int, a[4:]))) or run(*a))
    return calls


GROUPS = [[1, 3, 5], [2, 4], [0, 11, 6, 9], NOTHING, [7, 8, 10]]
"""12 examples: batches of 2 are cut across the groups."""


def test_groups_from_one_to_another_alone(monkeypatch):
    score = evaluator(GROUPS, 2)
    state = jnp.float32(3)
    whole, calls = score(state), walked(score, monkeypatch)
    # Groups begin at places 0, 3, 5, 9 and 9 of 12.
    for start, stop, batches in [
        (1, 3, (1, 5)),
        (0, 1, (0, 2)),
        (4, 5, (4, 6)),
        (2, None, (2, 6)),
        (0, None, (0, 6)),
    ]:
        np.testing.assert_array_equal(score(state, stop, start), whole[start:stop])
        assert calls.pop() == batches
    assert np.isnan(score(state, 4, 3)).all()
    assert calls == [], "of no example nothing is computed"


@pytest.mark.parametrize("ranks", [2, 3, 7])
@pytest.mark.parametrize(("start", "stop"), [(0, None), (1, 3), (4, 5)])
def test_ranks_share_the_batches_and_none_is_scored_twice(ranks, start, stop, monkeypatch):
    # Of one process's sums each rank has a part: these add up to its scores.
    state, alone = jnp.float32(3), evaluator(GROUPS, 2)
    calls = walked(alone, monkeypatch)
    whole = np.array(alone(state, stop, start))
    parts, walks = [], []
    for rank in range(ranks):
        part = evaluator(GROUPS, 2, communicator=OneOf(rank, ranks))
        walks.append(walked(part, monkeypatch))
        means = np.nan_to_num(part(state, stop, start))
        parts.append(means * np.array(part.counts[start:stop])[:, None])
    counts = np.array(alone.counts[start:stop])[:, None]
    np.testing.assert_allclose(np.sum(parts, axis=0), np.nan_to_num(whole) * counts, rtol=1e-6)
    np.testing.assert_array_equal(np.isnan(whole).all(axis=1), counts[:, 0] == 0)
    ((first, last),) = calls
    batches = [list(range(*walk)) for (walk,) in walks]
    assert np.concatenate(batches).tolist() == list(range(first, last))
    assert max(map(len, batches)) - min(map(len, batches)) <= 1


def test_first_groups_leave_later_batches_out():
    # The later group's loss would be infinite in float32.
    groups = [[1, 2, 3, 4], [5, 6, 7, 8]]
    examples = EXAMPLES._replace(targets=EXAMPLES.targets.at[5].set(-1))

    def evaluate(state, images, labels):
        ones = jnp.ones(labels.shape)
        return Scores(jnp.log(labels.astype(jnp.float32)), ones, ones.astype(jnp.int32))

    algorithm = Algorithm(lambda key: jnp.zeros(()), [], evaluate)
    score = Evaluator(algorithm, examples, [np.array(g) for g in groups], 4)
    assert np.isfinite(score(jnp.zeros(()), 1)).all()
    assert np.isnan(score(jnp.zeros(()))[1].loss)


def test_a_bad_score_stays_in_its_group():
    # Both groups are in one batch.
    groups = [[1, 2], [5, 6]]
    examples = EXAMPLES._replace(targets=EXAMPLES.targets.at[5].set(-1))

    def evaluate(state, images, labels):
        ones = jnp.ones(labels.shape)
        return Scores(jnp.log(labels.astype(jnp.float32)), ones, ones.astype(jnp.int32))

    algorithm = Algorithm(lambda key: jnp.zeros(()), [], evaluate)
    scores = Evaluator(algorithm, examples, [np.array(g) for g in groups], 4)(jnp.zeros(()))
    assert scores[0].loss == pytest.approx((np.log(2) + np.log(4)) / 2)
    assert np.isnan(scores[1].loss)


def test_one_compilation_for_all_and_for_the_first_groups():
    traces: list[tuple[int, ...]] = []
    score = evaluator([[1, 3, 5], [2, 4], [0, 11, 6, 9]], traces=traces)
    score(jnp.float32(0))
    assert traces
    before = len(traces)
    for value in range(1, 4):
        score(jnp.float32(value), value)
        score(jax.device_put(np.float32(value)))
    assert len(traces) == before


def test_mean_score_over_the_union():
    # (3 * 2 + 1 * 6) / 4 and (3 * 1 + 1 * 0) / 4; the empty group counts for nothing.
    scores = [Score(2.0, 1.0), Score(np.nan, np.nan), Score(6.0, 0.0)]
    assert mean_score(scores, [3, 0, 1]) == Score(3.0, 0.75)


def test_mean_score_of_nothing():
    assert np.isnan(mean_score([Score(np.nan, np.nan)], [0])).all()
    assert np.isnan(mean_score([], [])).all()


def test_mean_score_needs_a_size_for_each_score():
    with pytest.raises(ValueError, match="zip"):
        mean_score([Score(1.0, 1.0)], [1, 2])


def test_means_are_over_the_units_that_examples_consist_of():
    """Example i has i units, each with a loss of i; all of example 3's are right."""

    def evaluate(state, inputs, targets):
        units = inputs[:, 0, 0, 0].astype(jnp.int32)
        return Scores(1.0 * units * units, jnp.where(units == 3, 3.0, 0.0), units)

    found = Evaluator(
        Algorithm(None, [], evaluate), EXAMPLES, [np.array([1, 3]), np.array([0]), np.array([2])], 2
    )
    scores = found(jnp.float32(0))
    assert found.counts == [4, 0, 2]
    np.testing.assert_allclose(scores, [(10 / 4, 3 / 4), (np.nan, np.nan), (2, 0)])
    assert mean_score(scores, found.counts) == Score(14 / 6, pytest.approx(3 / 6))
