"""Who comes back from a round, how much of the work counts, and what is recorded of the others."""

import jax
import numpy as np
import pytest

from fednas_jax.federated.cohort import Attendance, attend, in_chunks
from fednas_jax.federated.faults import Faults, Participants, draw_participants

KEY = jax.random.key(4)
COUNT = 2000
IDS = np.arange(0, 2 * COUNT, 2, dtype=np.int32)
STEPS = np.full(2 * COUNT, 10)
ALL = Attendance(IDS, None, 0, 0)


def drawn(
    present: Attendance = ALL, wanted: int = COUNT, **faults: float | int | str
) -> Participants:
    return draw_participants(KEY, present, STEPS, 3, wanted, Faults(**faults))  # type: ignore[arg-type]


def test_nothing_is_drawn_where_nothing_is_asked_for() -> None:
    present = Attendance(IDS[:3], np.array([1, 2, 3]), 7, 1)
    found = drawn(present, 3)
    assert found.ids is present.ids
    assert found.epochs is present.epochs
    assert found.steps is None
    assert found.counts == {"unreachable": 7, "stragglers": 1}


def test_dropouts_whose_work_is_lost() -> None:
    # 2,000 clients: 600 break off, standard deviation 20.
    found = drawn(dropout_share=0.3)
    assert abs(found.counts["dropouts"] - 600) < 80
    assert len(found.ids) == COUNT - found.counts["dropouts"]
    assert (np.diff(found.ids) > 0).all()
    assert found.steps is None
    assert found.epochs is None
    assert (found.counts["late"], found.counts["surplus"]) == (0, 0)


def test_dropouts_whose_work_counts_have_made_any_part_of_their_steps() -> None:
    found = drawn(dropout_share=1.0, dropouts="keep")
    assert found.steps is not None
    assert found.epochs is not None
    assert found.counts["dropouts"] == COUNT
    # 0 to 29 of 30 steps, about 67 clients each; who has made none sends nothing.
    counts = np.bincount(found.steps, minlength=31)
    assert counts[0] == counts[30] == 0
    assert counts[1:30].min() > 30
    assert len(found.ids) == COUNT - (COUNT - counts.sum())
    # 1 to 10 steps lie in the first epoch of ten steps, 11 to 20 in the second.
    np.testing.assert_array_equal(found.epochs, (found.steps + 9) // 10)
    lost = drawn(dropout_share=1.0)
    assert len(lost.ids) == 0


def test_a_deadline_for_clients_of_unequal_size_by_hand() -> None:
    # Three epochs of 2, 10, 4 and 0 steps: 6, 30, 12 and 0; the deadline is at 12.
    steps, ids = np.array([2, 10, 4, 0]), np.arange(4, dtype=np.int32)
    present = Attendance(ids, None, 0, 0)
    dropped = draw_participants(KEY, present, steps, 3, 4, Faults(deadline_steps=12))
    np.testing.assert_array_equal(dropped.ids, [0, 2, 3])
    assert dropped.steps is None
    assert dropped.counts["late"] == 1
    kept = draw_participants(KEY, present, steps, 3, 4, Faults(deadline_steps=12, late="keep"))
    np.testing.assert_array_equal(kept.ids, ids)
    np.testing.assert_array_equal(kept.steps, [6, 12, 12, 0])
    np.testing.assert_array_equal(kept.epochs, [3, 2, 3, 0])
    assert kept.counts["late"] == 1


def test_slow_clients_are_cut_off_where_their_speed_has_brought_them() -> None:
    # 30 steps until a deadline at 30: who is slower than 1 is late, half of all, deviation 22.
    found = drawn(deadline_steps=30, late="keep", speed_sigma=0.5)
    assert found.steps is not None
    assert abs(found.counts["late"] - COUNT / 2) < 90
    assert (found.steps < 30).sum() == found.counts["late"]
    # The median of those below the median speed: exp(-0.674 * 0.5) * 30 = 21.4.
    assert 20 <= np.median(found.steps[found.steps < 30]) <= 22


def test_the_first_to_come_back_are_those_with_the_fewest_steps() -> None:
    steps, ids = np.array([9, 2, 7, 1, 5]), np.arange(5, dtype=np.int32)
    found = draw_participants(
        KEY, Attendance(ids, None, 0, 0), steps, 3, 3, Faults(extra_share=0.67)
    )
    np.testing.assert_array_equal(found.ids, [1, 3, 4])
    assert found.counts["surplus"] == 2


def test_of_equal_clients_the_fastest_come_back_first() -> None:
    # A deadline at 30 of 30 steps shows who has a speed of 1 or more: who makes them all.
    faults = {"speed_sigma": 0.5, "extra_share": 1.0}
    shown = drawn(deadline_steps=30, late="keep", **faults)
    assert shown.steps is not None
    in_time = IDS[shown.steps == 30]
    assert abs(len(in_time) - COUNT / 2) < 90
    np.testing.assert_array_equal(drawn(wanted=len(in_time), **faults).ids, in_time)
    # Then those that have come the furthest.
    further = IDS[shown.steps >= 28]
    np.testing.assert_array_equal(drawn(wanted=len(further), **faults).ids, further)


def test_who_is_cut_off_at_the_deadline_comes_back_after_all_others() -> None:
    # Also who has a few steps to send: these come at the deadline, not when they were made.
    faults = {"speed_sigma": 0.5, "extra_share": 1.0, "deadline_steps": 30, "late": "keep"}
    everyone = drawn(**faults)
    assert everyone.steps is not None
    in_time = IDS[everyone.steps == 30]
    found = drawn(wanted=len(in_time), **faults)
    np.testing.assert_array_equal(found.ids, in_time)
    assert found.counts["surplus"] == found.counts["late"] == COUNT - len(in_time)


def test_a_client_is_late_or_breaks_off_and_not_both() -> None:
    # All would break off, after 0 to 29 of 30 steps; 14 of these 30 numbers are above 15.
    both = {"dropout_share": 1.0, "deadline_steps": 15}
    found = drawn(**both)
    assert found.counts["dropouts"] + found.counts["late"] == COUNT
    assert abs(found.counts["late"] - COUNT * 14 / 30) < 90
    assert len(found.ids) == 0
    # What is done about the one is not done about the other.
    late = drawn(late="keep", **both)
    assert len(late.ids) == found.counts["late"]
    assert late.steps is not None
    assert (late.steps == 15).all()
    broken = drawn(dropouts="keep", **both)
    assert broken.steps is not None
    assert (broken.steps <= 15).all()
    assert broken.counts == found.counts


def test_who_has_nothing_to_do_neither_breaks_off_nor_is_late() -> None:
    steps, ids = np.array([0, 10]), np.arange(2, dtype=np.int32)
    faults = Faults(dropout_share=1.0, deadline_steps=1)
    found = draw_participants(KEY, Attendance(ids, None, 0, 0), steps, 3, 2, faults)
    np.testing.assert_array_equal(found.ids, [0])
    assert found.counts["dropouts"] + found.counts["late"] == 1


def test_who_is_slow_does_not_for_that_break_off_earlier() -> None:
    # Attendance and faults draw apart: both halves break off half way on average, deviation 1 %.
    present = attend(KEY, IDS, 3, stragglers_share=0.5)
    assert present.epochs is not None
    found = drawn(present, dropout_share=1.0, dropouts="keep")
    assert found.steps is not None
    epochs = dict(zip(present.ids.tolist(), present.epochs.tolist(), strict=True))
    whole = 10 * np.array([epochs[i] for i in found.ids.tolist()])
    parts = found.steps / whole
    assert abs(parts[whole < 30].mean() - parts[whole == 30].mean()) < 0.1


def test_equals_come_first_by_chance_and_not_by_number() -> None:
    found = drawn(wanted=1000, extra_share=1.0)
    assert len(found.ids) == found.counts["surplus"] == 1000
    assert abs((found.ids < COUNT).sum() - 500) < 80


def test_stragglers_keep_their_epochs() -> None:
    present = Attendance(IDS[:2], np.array([1, 3], np.int32), 0, 1)
    found = drawn(present, 2, deadline_steps=20, late="keep")
    np.testing.assert_array_equal(found.steps, [10, 20])
    np.testing.assert_array_equal(found.epochs, [1, 2])
    dropped = drawn(present, 2, deadline_steps=20)
    np.testing.assert_array_equal(dropped.ids, IDS[:1])
    np.testing.assert_array_equal(dropped.epochs, [1])
    other_way = Attendance(IDS[:2], np.array([3, 1], np.int32), 0, 1)
    dropped = drawn(other_way, 2, deadline_steps=20)
    np.testing.assert_array_equal(dropped.ids, IDS[1:2])
    np.testing.assert_array_equal(dropped.epochs, [1])


@pytest.mark.parametrize(
    ("wanted", "extra", "asked"), [(10, 0.29, 13), (10, 0.0, 10), (80, 1, 100)]
)
def test_how_many_are_drawn(wanted: int, extra: float, asked: int) -> None:
    assert Faults(extra_share=extra).drawn(wanted, 100) == asked


def test_a_keys_draws_are_those_of_earlier_versions() -> None:
    present = Attendance(np.arange(10, dtype=np.int32), None, 0, 0)
    faults = Faults(0.5, "keep", deadline_steps=25, late="keep", speed_sigma=0.5)
    found = draw_participants(jax.random.key(7), present, STEPS, 3, 6, faults)
    assert found.ids.tolist() == [0, 1, 2, 3, 5, 6]
    assert found.steps is not None
    assert found.steps.tolist() == [30, 9, 30, 30, 7, 12]


def test_the_key_alone_decides() -> None:
    one, two = drawn(dropout_share=0.5), drawn(dropout_share=0.5)
    np.testing.assert_array_equal(one.ids, two.ids)
    other = draw_participants(jax.random.key(5), ALL, STEPS, 3, COUNT, Faults(dropout_share=0.5))
    assert set(other.ids) != set(one.ids)


def test_steps_that_are_cut_short_are_no_padding() -> None:
    # Two places walk through 4 steps of 2 epochs each; 5 and 8 of these are wanted.
    cohort = in_chunks(
        np.array([0, 1]),
        np.array([4, 4]),
        2,
        facts={"local_epochs": np.array([2, 2]), "step_limit": np.array([5, 8])},
        places=4,
    )
    np.testing.assert_array_equal(cohort.ids, [[1, 0], [-1, -1]])
    np.testing.assert_array_equal(cohort.facts["step_limit"], [[8, 5], [0, 0]])
    assert cohort.padding_share(np.array([4, 4])) == pytest.approx(3 / 16)
