"""Rounds to a target, by hand."""

import pytest

from fednas_jax.report.targets import curve_of, rounds_to

# The best so far is 0.5, 0.8, 0.8, 0.9, 1.0.
CURVE = [(1, 0.5), (2, 0.8), (3, 0.6), (4, 0.9), (5, 1.0)]


@pytest.mark.parametrize(
    ("target", "rounds"),
    [
        (0.4, 1.0),
        (0.5, 1.0),
        (0.65, 1.5),
        (0.8, 2.0),
        (0.85, 3.5),  # from the best so far, 0.8 in round 3, not from the 0.6 measured there
        (0.95, 4.5),
        (1.0, 5.0),
    ],
)
def test_crossings_are_interpolated_on_the_best_so_far(target: float, rounds: float) -> None:
    assert rounds_to(CURVE, target) == pytest.approx(rounds)


def test_what_is_not_reached_has_no_count() -> None:
    assert rounds_to(CURVE[:4], 0.95) is None
    assert rounds_to([], 0.5) is None


def test_a_curve_may_begin_at_round_0_and_leave_rounds_out() -> None:
    rows = [
        {"round": 0, "test_accuracy": 0.1},
        {"round": 1, "test_accuracy": None},
        {"round": 2, "test_accuracy": 0.9},
        {"round": 3},
    ]
    curve = curve_of(rows)
    assert curve == [(0, 0.1), (2, 0.9)]
    assert rounds_to(curve, 0.5) == pytest.approx(1.0)
