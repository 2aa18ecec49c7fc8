"""Rounds to a target accuracy, as McMahan et al. (2017) count them, section 3."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Curve = Sequence[tuple[int, float]]
"""(round, accuracy), by round."""


def curve_of(rows: Iterable[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """The accuracy on the test set after each round in which it was measured.

    Args:
      rows: of metrics.jsonl.
    """
    points = [(row["round"], row.get("test_accuracy")) for row in rows]
    return [(at, accuracy) for at, accuracy in points if accuracy is not None]


def rounds_to(curve: Curve, target: float) -> float | None:
    """Where the curve, made monotone by taking the best so far, crosses the target.

    Between two rounds the curve is a straight line, so that the count is a fraction.

    Args:
      curve: of the test set.
      target: an accuracy.

    Returns:
      Rounds; those of the first point where that reaches the target already; None where none does.
    """
    before, best = None, 0.0
    for at, accuracy in curve:
        if accuracy >= target:
            if before is None:
                return float(at)
            return before + (at - before) * (target - best) / (accuracy - best)
        before, best = at, max(best, accuracy)
    return None
