"""What is known after a round, as a row of metrics.jsonl; and after the last, as summary.json.

Accuracies are fractions, losses mean cross-entropies in nats, both means over examples. Times are
wall-clock seconds, the only values in a row that differ from run to run.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from fednas_jax.errors import UserError, listed
from fednas_jax.federated.evaluation import Score
from fednas_jax.search import genotype as genotypes
from fednas_jax.search.genotype import Genotype

Row = dict[str, Any]
SELECTED_BY = ("held_out_accuracy", "held_out_loss", "round")
"""What selects the best round, in this order: the highest, of equals the least, then the last."""
SELECTED_EARLIEST = ("held_out_accuracy",)
"""Of runs begun with an earlier version, which took the first of equals; they end as they began."""

_FIRST = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
_FACTS = ("id", "weight", "local_steps", "finite")
"""Metrics of clients that are no measurements."""
_RESERVED = (
    "round", "held_out_loss", "held_out_accuracy", "held_out_accuracy_of_clients", "test_loss",
    "test_accuracy", "seconds", "client_steps_per_second", "bytes_up_per_client",
    "bytes_down_per_client", "clients", "not_finite", "tries", "skipped", "local_steps_of_ranks",
    "unreachable", "stragglers", "dropouts", "late", "surplus",
)  # fmt: skip
"""What a row says of the round itself."""


def means(clients: Mapping[str, np.ndarray]) -> Row:
    """What clients measured while learning, averaged with N_k / N as the weights are.

    None each where nobody has an example, as a sample of the clients may turn out.

    Args:
      clients: name -> [clients]; `_FACTS`, and whatever else an algorithm measures.

    Raises:
      UserError: a metric has the name of something that is known of the round.
    """
    others = sorted(name for name in clients if name not in (*_FIRST, *_FACTS))
    if taken := [name for name in others if name in _RESERVED]:
        raise UserError(
            f"algorithm: its clients' metric {taken[0]!r} has the name of something else in "
            "metrics.jsonl; another name is needed"
        )
    names = [*(name for name in _FIRST if name in clients), *others]
    weight = clients["weight"].astype(np.float64)
    if not weight.any():
        return dict.fromkeys(names)
    return {
        name: float(np.average(clients[name].astype(np.float64), weights=weight)) for name in names
    }


def before_training(test: Score) -> Row:
    """Round 0: what the first weights score on the test set."""
    return {"round": 0, "train_loss": None, "train_accuracy": None, **scores([], test)}


def rounds_done(rows: Sequence[Row]) -> int:
    """How many rounds the rows are of; round 0 is none."""
    return rows[-1]["round"] if rows else 0


def scores(held_out: Sequence[Score], test: Score | None) -> Row:
    """Scores of the server's state.

    Args:
      held_out: of all held-out examples together, then of each client's; empty when it was not
        their turn.
      test: of the test set; None when it was not its turn.
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


def architecture(arch: Mapping[str, np.ndarray]) -> Row:
    """Convolutions and skips of the genotype that alphas stand for; their entropy in nats."""
    derived = genotypes.derive(arch)
    convolutions = genotypes.count_convolutions(derived)
    skips = genotypes.count_skips(derived)
    entropy = genotypes.entropy(arch)
    return {
        **{f"{kind}_convolutions": count for kind, count in convolutions.items()},
        **{f"{kind}_skips": count for kind, count in skips.items()},
        **{f"{kind}_entropy": float(value) for kind, value in entropy.items()},
    }


def without_lists(row: Mapping[str, Any]) -> Row:
    """A row without what it says of each client: what memory holds of every round of a run."""
    return {name: value for name, value in row.items() if not isinstance(value, list)}


def best_round(rows: Sequence[Row], by: Sequence[str] = SELECTED_BY) -> int:
    """The round of the highest held-out accuracy; of equals the least held-out loss, then the last.

    Where nothing is held out it is the last round.

    Args:
      rows: of all rounds so far, None where something was not measured.
      by: `SELECTED_BY`; or `SELECTED_EARLIEST`, of runs that began with it: the first of equals.
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
    """By what rounds are ordered, the best last."""
    loss = row.get("held_out_loss")
    return _accuracy(row), -loss if _known(loss) else -math.inf, row["round"]


def _accuracy(row: Row) -> float:
    """The held-out accuracy, the same for as many images: a mean over clients has rounding in it.

    Accuracies over n images differ by 1 / n; n is far below 10 ** 9.
    """
    return round(row["held_out_accuracy"], 9)


def _tie(rows: Sequence[Row], chosen: Row, by: Sequence[str]) -> Row:
    """`tied_rounds`: others of the best round's held-out accuracy; `tie_decided_by`: what decided.

    That is "held_out_loss" or "round", and None where no round is tied. Of runs that choose by
    `SELECTED_EARLIEST` it is "earliest": the first of the highest, unrounded.
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


def summary(rows: Sequence[Row], best: Genotype | None, by: Sequence[str] = SELECTED_BY) -> Row:
    """The result of a run; accuracies are those of the best round.

    The test accuracy is that of the best round, or of the last one if the best was not tested. The
    genotype is None where none is searched. `tied_rounds` are the others of the same held-out
    accuracy, and `tie_decided_by` is "held_out_loss", "round", "earliest", or None where there are
    none.

    Args:
      rows: of all rounds, None where something was not measured.
      best: genotype of the best round.
      by: as of `best_round`.
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
        "genotype": genotypes.to_json(best) if best else None,
    }


def summary_text(
    result: Mapping[str, Any],
    folder: Path,
    *,
    dataset: str,
    with_pictures: bool,
    with_page: bool,
) -> str:
    """The summary for people: what was found, how good it is, where it lies, what comes next.

    Args:
      result: `summary`, and what it cost.
      folder: of the run.
      dataset: the name of the data that was searched on.
      with_pictures: whether they are there to look at.
      with_page: whether report.html is.
    """

    def percent(value: float | None) -> str:
        return "not measured" if value is None else f"{value:.2%}"

    searched = result["genotype"] is not None
    scored = result["held_out_accuracy"]
    held_out = "" if scored is None else f"{percent(scored)} on held-out client data, "
    lines = [
        "",
        *_found(result),
        f"{'Supernet' if searched else 'Network'}: "
        f"{held_out}"
        f"{percent(result['test_accuracy'])} on the test set "
        f"(round {result['test_accuracy_round']})",
        f"Time {result['seconds']:.0f} s, of which compiling {result['compile_seconds']:.0f} s; "
        f"memory at most {result['peak_memory_bytes'] / 1e9:.2f} GB",
        f"Files in {folder}: {'genotypes/best.json, ' if searched else ''}"
        f"{'report.html, ' if with_page else ''}{'plots/, ' if with_pictures else ''}"
        "metrics.jsonl, summary.json, checkpoints/",
        *_next_steps(dataset, _to_look_at(folder, with_pictures, with_page, searched), searched),
    ]
    return "\n".join(lines)


def _found(result: Mapping[str, Any]) -> list[str]:
    """Which round was best, and its genotype if one was searched."""
    which = f"(round {result['best_round']} of {result['rounds']})"
    cell = result["genotype"]
    if cell is None:
        return [f"Best network {which}", *_tied(result)]

    def described(kind: str) -> str:
        pairs = [f"{name}({state})" for name, state in cell[kind]]
        return " | ".join(" ".join(pairs[i : i + 2]) for i in range(0, len(pairs), 2))

    kinds = [f"  {kind}  {described(kind)}" for kind in ("normal", "reduce")]
    return [f"Best genotype {which}:", *kinds, *_tied(result)]


def _tied(result: Mapping[str, Any]) -> list[str]:
    """What decided between rounds of the same held-out accuracy; nothing where there was one."""
    if not result.get("tied_rounds"):  # nor do summaries of earlier versions have it
        return []
    best, tied = result["best_round"], result["tied_rounds"]
    why = {
        "held_out_loss": "has the least held-out loss",
        "round": "is the last of those with the least held-out loss",
        "earliest": "is the first of the highest before rounding, as this run began with an "
        "earlier version",
    }[result["tie_decided_by"]]
    rounds = listed(sorted([best, *tied]))
    return [f"Held-out accuracy is the same in rounds {rounds}; round {best} {why}"]


def _to_look_at(folder: Path, with_pictures: bool, with_page: bool, searched: bool) -> Path | None:
    """The file that shows most; None where none does."""
    if with_page:
        return folder / "report.html"
    picture = "cells.png" if searched else "accuracy_and_loss.png"
    return folder / "plots" / picture if with_pictures else None


def _next_steps(dataset: str, picture: Path | None, searched: bool) -> list[str]:
    steps = [f"look at {picture}"] if picture else []
    if dataset == "digits" and searched:
        steps.append(
            "search on CIFAR-10:\n  python -m fednas_jax.main "
            "--config=configs/cifar_hetero.py:quick"
        )
    return ["", "Next: " + ", then ".join(steps)] if steps else []
