"""The row of a round in metrics.jsonl, and the summary of a run in summary.json.

Accuracies are fractions and losses are cross-entropies in nats, both means over examples. Times are
wall-clock seconds. Only times differ between two runs of one config.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from fednas_jax.federated.evaluation import Score
from fednas_jax.report.findings import IN_SUMMARY, Findings
from fednas_jax.runtime.errors import UserError, listed

Row = dict[str, Any]
SELECTED_BY = ("held_out_accuracy", "held_out_loss", "round")
"""What selects the best round: the highest accuracy, then the lowest loss, then the last round."""
SELECTED_EARLIEST = ("held_out_accuracy",)
"""The rule of runs begun with an earlier version, which selected the first of equal rounds."""

_FIRST = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
_FACTS = ("id", "weight", "local_steps", "finite")
"""Metrics of clients that are not measurements."""
_RESERVED = (
    "round", "held_out_loss", "held_out_accuracy", "held_out_accuracy_of_clients", "test_loss",
    "test_accuracy", "seconds", "client_steps_per_second", "bytes_up_per_client",
    "bytes_down_per_client", "clients", "not_finite", "tries", "skipped", "local_steps_of_ranks",
    "unreachable", "stragglers", "dropouts", "late", "surplus",
)  # fmt: skip
"""Columns of a row that a metric of an algorithm may not have as its name."""


def means(clients: Mapping[str, np.ndarray]) -> Row:
    """The means of the clients' metrics, weighted by N_k / N like the network's weights.

    All are None if no client of the round has an example, which can happen by chance.

    Args:
      clients: name -> [clients]: `_FACTS`, and everything that the algorithm measures.

    Raises:
      UserError: a metric has the name of a column that every row has.
    """
    others = sorted(name for name in clients if name not in (*_FIRST, *_FACTS))
    _check_free("its clients' metric", others, _RESERVED)
    names = [*(name for name in _FIRST if name in clients), *others]
    weight = clients["weight"].astype(np.float64)
    if not weight.any():
        return dict.fromkeys(names)
    return {
        name: float(np.average(clients[name].astype(np.float64), weights=weight)) for name in names
    }


def before_training(test: Score) -> Row:
    """The row of round 0: the score of the first weights on the test set."""
    return {"round": 0, "train_loss": None, "train_accuracy": None, **scores([], test)}


def rounds_done(rows: Sequence[Row]) -> int:
    """The number of finished rounds in the rows; round 0 does not count."""
    return rows[-1]["round"] if rows else 0


def scores(held_out: Sequence[Score], test: Score | None) -> Row:
    """The columns with scores of the server state.

    Args:
      held_out: the score of all held-out examples together, then that of each client's; empty in a
        round in which they are not scored.
      test: the score of the test set; None in a round in which it is not scored.
    """
    together, *each = held_out or [Score(np.nan, np.nan)]
    accuracies = [score.accuracy for score in each]
    return {
        "held_out_loss": together.loss,
        "held_out_accuracy": together.accuracy,
        "held_out_accuracy_of_clients": accuracies if np.isfinite(accuracies).any() else None,
        "test_loss": test.loss if test else None,
        "test_accuracy": test.accuracy if test else None,
    }


def of_findings(found: Mapping[str, Any], clients: Mapping[str, Any]) -> Row:
    """The columns of an algorithm's findings.

    Args:
      found: as `Findings.columns` returns them.
      clients: as for `means`.

    Raises:
      UserError: a column has the name of another in the row.
    """
    _check_free("its column", found, (*_RESERVED, *_FIRST, *clients))
    return dict(found)


def _check_free(what: str, names: Iterable[str], others: Iterable[str]) -> None:
    """Refuses names that another column has."""
    if taken := sorted({*names} & {*others}):
        raise UserError(
            f"algorithm: {what} {taken[0]!r} has the name of another column of metrics.jsonl; "
            "another name is needed"
        )


def without_lists(row: Mapping[str, Any]) -> Row:
    """A row without its lists of values of each client; memory holds such a row of every round."""
    return {name: value for name, value in row.items() if not isinstance(value, list)}


def best_round(rows: Sequence[Row], by: Sequence[str] = SELECTED_BY) -> int:
    """The round with the highest held-out accuracy.

    Of equal rounds, it is the one with the lowest held-out loss, then the last. If nothing is held
    out, it is the last round.

    Args:
      rows: the rows of all rounds so far, with None for what was not measured.
      by: `SELECTED_BY`; or, for runs that began with it, `SELECTED_EARLIEST`, the first of equal
        rounds.
    """
    scored = [row for row in rows if _known(row.get("held_out_accuracy"))]
    if not scored:
        return rows[-1]["round"]
    if tuple(by) == SELECTED_EARLIEST:
        return max(scored, key=lambda row: (row["held_out_accuracy"], -row["round"]))["round"]
    return max(scored, key=_merit)["round"]


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _merit(row: Row) -> tuple[float, float, int]:
    """The key by which rounds are ordered; the best round has the highest."""
    loss = row.get("held_out_loss")
    return _accuracy(row), -loss if _known(loss) else -math.inf, row["round"]


def _accuracy(row: Row) -> float:
    """The held-out accuracy, rounded so that equal numbers of correct images are equal.

    A mean over clients has rounding errors. Accuracies over n images differ by 1 / n, and n is far
    below 10 ** 9.
    """
    return round(row["held_out_accuracy"], 9)


def _tie(rows: Sequence[Row], chosen: Row, by: Sequence[str]) -> Row:
    """`tied_rounds`, the other rounds with the best held-out accuracy, and `tie_decided_by`.

    `tie_decided_by` is "held_out_loss", "round", or None if no round is tied. For runs with
    `SELECTED_EARLIEST` it is "earliest": the first round with the highest unrounded accuracy.
    """
    scored = [row for row in rows if _known(row.get("held_out_accuracy"))]
    tied = [row for row in scored if row is not chosen and _accuracy(row) == _accuracy(chosen)]
    same_loss = [row for row in tied if _merit(row)[1] == _merit(chosen)[1]]
    decided = "round" if same_loss else "held_out_loss"
    if tuple(by) == SELECTED_EARLIEST:
        decided = "earliest"
    return {
        "tied_rounds": [row["round"] for row in tied],
        "tie_decided_by": decided if tied else None,
    }


def summary(rows: Sequence[Row], best: Any, by: Sequence[str] = SELECTED_BY) -> Row:
    """The result of a run; accuracies are those of the best round.

    The test accuracy is that of the best round, or of the last round if the best was not tested.
    `tied_rounds` are the other rounds with the same held-out accuracy, and `tie_decided_by` is
    "held_out_loss", "round", "earliest", or None if there are no tied rounds.

    Args:
      rows: the rows of all rounds, with None for what was not measured.
      best: the findings of the best round, in JSON's types; None if there are none.
      by: as for `best_round`.
    """
    chosen = best_round(rows, by)
    row = next(row for row in rows if row["round"] == chosen)
    tested = row if row["test_accuracy"] is not None else rows[-1]
    return {
        "rounds": rows[-1]["round"],
        "best_round": chosen,
        **_tie(rows, row, by),
        "held_out_accuracy": row["held_out_accuracy"],
        "test_accuracy": tested["test_accuracy"],
        "test_accuracy_round": tested["round"],
        "last_test_accuracy": rows[-1]["test_accuracy"],
        IN_SUMMARY: best,
    }


def is_selected(rows: Sequence[Row]) -> bool:
    """Whether the best round was selected among several by its held-out accuracy.

    Otherwise the last round counts as the best.

    Args:
      rows: the rows of all rounds so far, with None for what was not measured.
    """
    return sum(_known(row.get("held_out_accuracy")) for row in rows) > 1


def summary_text(
    result: Mapping[str, Any],
    folder: Path,
    findings: Findings,
    *,
    selected: bool,
    with_pictures: bool,
    with_page: bool,
) -> str:
    """The printed summary: what was found, its accuracy, and its files.

    Args:
      result: `summary`, with the costs.
      folder: the run's folder.
      findings: the findings of the run's algorithm.
      selected: as `is_selected` returns it.
      with_pictures: whether there are pictures.
      with_page: whether there is a report.html.
    """

    def percent(value: float | None) -> str:
        return "not measured" if value is None else f"{value:.2%}"

    scored = result["held_out_accuracy"]
    found = findings.lines(result[IN_SUMMARY])
    held_out = "" if scored is None else f"{percent(scored)} on held-out client data, "
    lines = [
        "",
        f"{_heading(result, findings.title, selected)}{':' if found else ''}",
        *found,
        *_tied(result),
        f"{findings.scored}: {held_out}"
        f"{percent(result['test_accuracy'])} on the test set "
        f"(round {result['test_accuracy_round']})",
        f"Time {result['seconds']:.0f} s, of which compiling {result['compile_seconds']:.0f} s; "
        f"memory at most {result['peak_memory_bytes'] / 1e9:.2f} GB",
        f"Files in {folder}: {''.join(f'{name}, ' for name in findings.files)}"
        f"{'report.html, ' if with_page else ''}{'plots/, ' if with_pictures else ''}"
        "metrics.jsonl, summary.json, checkpoints/",
    ]
    return "\n".join(lines)


def _heading(result: Mapping[str, Any], title: str, selected: bool) -> str:
    """What the summary is of: the best of several rounds, or just the last round."""
    if selected:
        return f"{title} (round {result['best_round']} of {result['rounds']})"
    what = title.removeprefix("Best ")
    return f"{what[:1].upper()}{what[1:]} after round {result['best_round']}"


def _tied(result: Mapping[str, Any]) -> list[str]:
    """A line about what decided between rounds with the same held-out accuracy, if there were."""
    if not result.get("tied_rounds"):  # summaries of earlier versions lack it
        return []
    best, tied = result["best_round"], result["tied_rounds"]
    why = {
        "held_out_loss": "has the lowest held-out loss",
        "round": "is the last of those with the lowest held-out loss",
        "earliest": "is the first of the highest before rounding, as this run began with an "
        "earlier version",
    }[result["tie_decided_by"]]
    rounds = listed(sorted([best, *tied]))
    return [f"Held-out accuracy is the same in rounds {rounds}; round {best} {why}"]
