"""Number of rounds to a target accuracy, counted as by McMahan et al. (2017), section 3."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Curve = Sequence[tuple[int, float]]
"""Pairs (round, accuracy), by ascending round."""


def curve_of(rows: Iterable[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """The accuracy on the test set after each round in which it was measured.

    Args:
      rows: rows of metrics.jsonl.
    """
    points = [(row["round"], row.get("test_accuracy")) for row in rows]
    return [(at, accuracy) for at, accuracy in points if accuracy is not None]


def rounds_to(curve: Curve, target: float) -> float | None:
    """The number of rounds after which the best accuracy so far reaches the target.

    The curve of best accuracies is interpolated linearly between rounds, so that the result can be
    a fraction.

    Args:
      curve: accuracies on the test set.
      target: an accuracy.

    Returns:
      The number of rounds; that of the first point if it reaches the target; None if none does.
    """
    before, best = None, 0.0
    for at, accuracy in curve:
        if accuracy >= target:
            if before is None:
                return float(at)
            return before + (at - before) * (target - best) / (accuracy - best)
        before, best = at, max(best, accuracy)
    return None
