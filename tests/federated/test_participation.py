"""Who takes part in a run's rounds: what follows from its config, its key, and what is recorded."""

from typing import Any

import jax
import numpy as np
import pytest

from fednas_jax import config as schema
from fednas_jax.federated.cohort import attend, sample
from fednas_jax.federated.evaluation import Score
from fednas_jax.federated.faults import Faults, Participants, draw_participants
from fednas_jax.federated.participation import TRIES, Participation
from tests.tiny import fedavg_config

KEY = jax.random.key(3)
STEPS = np.array([4, 1, 3, 0, 2, 5, 4, 4])
CLIENTS, WANTED, EPOCHS = 8, 5, 3
NAN = Score(np.nan, np.nan)


def participation(ranks: int = 1, **fields: Any) -> Participation:
    config = fedavg_config()
    config.clients_per_round, config.local_epochs = WANTED, EPOCHS
    config.update_from_flattened_dict(fields)
    return Participation(schema.resolve(config), STEPS, KEY, ranks)


def rounds_of(turns: Participation, attempt: int = 0) -> list[tuple[int, ...]]:
    return [tuple(turns.participants(number, attempt).ids.tolist()) for number in range(1, 40)]


def test_rounds_and_their_repetitions_each_draw_anew() -> None:
    turns = participation()
    first, again, third = (rounds_of(turns, attempt) for attempt in (0, 1, 2))
    # 56 ways to choose 5 of 8: of 39 rounds about 28 differ, and one in 56 is drawn twice running.
    for one, other in ((first, again), (again, third), (first, third), (first, first[1:])):
        assert sum(a == b for a, b in zip(one, other, strict=False)) <= 4
    assert len(set(first)) > 20
    assert rounds_of(participation()) == first


def test_a_repetition_uses_no_key_that_the_round_itself_uses() -> None:
    # 0 and 1 are folded into the key of a round, for who takes part and for what they draw.
    turns = participation()
    used = [turns.key(2), *(jax.random.fold_in(turns.key(2), n) for n in (0, 1))]
    used += [turns.key(2, attempt) for attempt in (1, 2, 3)]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in used}) == len(used)
    np.testing.assert_array_equal(
        jax.random.key_data(turns.key(2)), jax.random.key_data(jax.random.fold_in(KEY, 2))
    )


@pytest.mark.parametrize(
    ("fields", "attendance", "faults"),
    [
        ({}, {}, Faults()),
        ({"unreachable_share": 0.4}, {"unreachable_share": 0.4}, Faults()),
        ({"stragglers_share": 0.5}, {"stragglers_share": 0.5}, Faults()),
        (
            {"stragglers_share": 0.5, "stragglers": "drop"},
            {"stragglers_share": 0.5, "stragglers": "drop"},
            Faults(),
        ),
        (
            {"faults.extra_share": 0.4, "faults.deadline_steps": 7, "faults.speed_sigma": 0.5},
            {},
            Faults(extra_share=0.4, deadline_steps=7, speed_sigma=0.5),
        ),
        (
            {"faults.dropout_share": 0.5, "faults.dropouts": "keep"},
            {},
            Faults(dropout_share=0.5, dropouts="keep"),
        ),
    ],
)
def test_all_that_the_config_says_is_heeded(
    fields: dict[str, Any], attendance: dict[str, Any], faults: Faults
) -> None:
    turns = participation(**fields)
    for number in range(1, 6):
        key = jax.random.fold_in(jax.random.fold_in(KEY, number), 0)
        drawn = sample(key, CLIENTS, 7 if faults.extra_share else WANTED)
        present = attend(key, drawn, EPOCHS, **attendance)
        wanted = draw_participants(key, present, STEPS, EPOCHS, WANTED, faults)
        found = turns.participants(number)
        jax.tree.map(np.testing.assert_array_equal, found, wanted)
        assert len(found.ids) <= WANTED


def test_a_cohort_has_room_for_all_that_may_come() -> None:
    turns = participation(unreachable_share=0.5)
    shapes = {turns.cohort(turns.participants(n), n, 2).ids.shape for n in range(1, 20)}
    assert shapes == {(3, 2)}
    present = Participants(np.array([1, 5]), np.array([2, 3]), np.array([2, 14]), {})
    found = turns.cohort(present, 4, 2)
    assert found.ids.tolist() == [[5, 1], [-1, -1], [-1, -1]]
    assert found.facts["step_limit"][0].tolist() == [14, 2]
    assert found.facts["local_epochs"][0].tolist() == [3, 2]
    assert (int(found.round), found.steps.tolist()) == (4, [5, 0, 0])


def test_a_skipped_round_has_the_counts_and_the_form_of_the_others() -> None:
    turns = participation()
    some = Participants(np.array([1, 5]), np.array([2, 3]), np.array([2, 14]), {"late": 3})
    nobody = turns.nobody(some)
    assert [len(part) for part in nobody[:3]] == [0, 0, 0]
    assert nobody.counts == {"late": 3}
    whole = turns.nobody(Participants(np.array([1, 5]), None, None, {}))
    assert (len(whole.ids), whole.epochs, whole.steps) == (0, None, None)


def test_everyone_makes_all_steps() -> None:
    plain = participation().everyone()
    key = jax.random.fold_in(jax.random.fold_in(KEY, 1), 0)
    assert plain.ids.tolist() == sample(key, CLIENTS, WANTED).tolist()
    assert (plain.epochs, plain.steps) == (None, None)
    partial = participation(**{"faults.dropout_share": 0.5, "faults.dropouts": "keep"}).everyone()
    assert partial.epochs is not None
    assert partial.steps is not None
    assert partial.epochs.tolist() == [EPOCHS] * WANTED
    assert partial.steps.tolist() == (EPOCHS * STEPS[partial.ids]).tolist()
    # Of two ranks, who rank 0 has: these and those of rank 1 are all.
    mine = participation(2).everyone().ids
    parts = participation(2).cohort(plain, 1, 1)
    assert sorted(parts.of_rank(0, 2).ids[parts.of_rank(0, 2).ids >= 0]) == mine.tolist()
    assert 0 < len(mine) < WANTED


def test_scores_that_are_not_finite_do_not_count_where_they_are_left_out() -> None:
    good, sizes = Score(1.0, 0.5), [4, 0, 2]
    careful = participation(**{"faults.not_finite": "leave_out"})
    assert careful.counted([good, NAN, Score(np.inf, 0.0)], sizes) == [4, 0, 0]
    assert careful.counted([NAN, NAN, NAN], sizes) == sizes, "it is the network"
    assert careful.counted([], sizes) == []
    assert participation().counted([good, NAN, NAN], sizes) == sizes


def test_what_a_row_says() -> None:
    counts = {"unreachable": 1, "stragglers": 2, "dropouts": 3, "late": 4, "surplus": 5}
    present = Participants(np.array([1, 4, 6]), None, None, counts)
    assert participation().row(present, 1, []) == {}
    assert participation(unreachable_share=0.1).row(present, 1, []) == {
        "clients": 3,
        "unreachable": 1,
    }
    fields = {"faults.dropout_share": 0.1, "faults.deadline_steps": 9, "faults.extra_share": 0.2}
    found = participation(stragglers_share=0.1, **fields).row(present, 1, [])
    assert found == {"clients": 3, "stragglers": 2, "dropouts": 3, "late": 4, "surplus": 5}
    careful = participation(**{"faults.not_finite": "leave_out"})
    assert careful.row(present, 1, [4]) == {"clients": 2, "not_finite": [4]}
    for too_few, tries in (("repeat", TRIES), ("skip", 1)):
        least = participation(**{"faults.min_clients": 2, "faults.too_few": too_few})
        assert (least.tries, least.least) == (tries, 2)
        assert least.row(present, 1, []) == {"clients": 3, "tries": 1, "skipped": False}
        assert least.row(present, 0, []) == {"clients": 3, "tries": tries, "skipped": True}


def test_a_row_of_several_ranks_says_how_the_steps_are_dealt() -> None:
    # 5, 4, 3, 1 steps an epoch, three epochs: 5 and 1 to the one, 4 and 3 to the other.
    present = Participants(np.array([0, 1, 2, 5]), None, None, {})
    assert participation(2).row(present, 1, []) == {"local_steps_of_ranks": [18, 21]}
