"""Rows and summaries: values worked out by hand, None where nothing was measured."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fednas_jax.federated.evaluation import Score, mean_score
from fednas_jax.report import rows
from fednas_jax.report.findings import Findings
from fednas_jax.runtime.errors import UserError

NAMES = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
NOTHING = Score(math.nan, math.nan)
BEST = {"gates": [3, 1]}


class Gates(Findings):
    """What `BEST` is of, for people."""

    title, scored, files, picture = "Best gates", "Gated network", ("gates/best.npy",), "gates.png"

    def lines(self, best: Any) -> list[str]:
        return [f"  {gate} open" for gate in best["gates"]]


def row(number: int, held_out: float | None, test: float | None) -> rows.Row:
    return {"round": number, "held_out_accuracy": held_out, "test_accuracy": test}


def test_means_are_weighted_by_examples() -> None:
    clients = {name: np.array([1.0, 5.0], np.float32) for name in NAMES}
    found = rows.means(clients | {"weight": np.array([3.0, 1.0], np.float32)})
    assert found == dict.fromkeys(NAMES, (3 * 1 + 1 * 5) / 4)


def test_whatever_else_clients_measure_is_averaged_and_may_not_take_a_name() -> None:
    clients = {"weight": np.array([3.0, 1.0]), "finite": np.array([True, True])}
    clients |= {"flops": np.array([4.0, 8.0]), "train_loss": np.array([1.0, 5.0])}
    assert rows.means(clients) == {"train_loss": 2.0, "flops": 5.0}
    with pytest.raises(UserError, match=r"^algorithm: its clients. metric .test_loss. has "):
        rows.means(clients | {"test_loss": np.zeros(2)})


def test_means_of_clients_without_examples_are_unknown() -> None:
    clients = {name: np.zeros(2, np.float32) for name in (*NAMES, "weight")}
    assert rows.means(clients) == dict.fromkeys(NAMES)


def test_scores_that_were_not_taken_are_none() -> None:
    held_out = [Score(1.0, 0.5), Score(2.0, 0.25), NOTHING]
    found = rows.scores(held_out, Score(3.0, 0.75))
    assert (found["held_out_loss"], found["held_out_accuracy"]) == (1.0, 0.5)
    assert found["held_out_accuracy_of_clients"][0] == 0.25
    assert math.isnan(found["held_out_accuracy_of_clients"][1])
    assert (found["test_loss"], found["test_accuracy"]) == (3.0, 0.75)
    found = rows.scores([NOTHING, NOTHING], None)
    assert found["held_out_accuracy_of_clients"] is None
    assert found["test_loss"] is None
    assert found["test_accuracy"] is None


def test_columns_of_an_algorithm_may_not_take_a_name() -> None:
    clients = {"weight": np.array([3.0]), "flops": np.array([4.0])}
    assert rows.of_findings({"open_gates": 3}, clients) == {"open_gates": 3}
    for name in ("test_accuracy", "round", "train_loss", "flops"):
        with pytest.raises(UserError, match=rf"^algorithm: its column '{name}' has the name of an"):
            rows.of_findings({"open_gates": 3, name: 1}, clients)


@pytest.mark.parametrize(
    ("held_out", "losses", "best"),
    [
        ((0.1, 0.2, 0.3), (1, 1, 1), 3),
        ((0.1, 0.3, 0.2), (1, 9, 1), 2),  # accuracy goes before loss
        ((0.1, 0.3, 0.3), (1, 2, 3), 2),  # of equals the least loss
        ((1.0, 1.0, 1.0), (3, 2, 1), 3),
        ((0.3, 0.3, 0.1), (2, 2, 1), 2),  # and of these the later
        ((None, 0.0, None), (None, 5, None), 2),
        ((None, None, None), (None, None, None), 3),
        ((0.3, 0.3, 0.3), (None, 4, math.nan), 2),  # an unknown loss is the worst
        ((0.3, math.nan, 0.2), (1, 0, 0), 1),
    ],
)
def test_best_round_by_accuracy_then_loss_then_the_later(
    held_out: tuple[float | None, ...], losses: tuple[float | None, ...], best: int
) -> None:
    made = [
        row(number, accuracy, None) | {"held_out_loss": loss}
        for number, (accuracy, loss) in enumerate(zip(held_out, losses, strict=True), start=1)
    ]
    assert rows.best_round(made) == best


def test_as_many_images_are_a_tie_however_they_lie_among_the_clients() -> None:
    # 15 of 39 images right: of clients of 23 and 16 images once 12 and 3, once 13 and 2.
    sizes = [23, 16]
    first, second = (
        mean_score([Score(loss, right / n) for right, n in zip(pair, sizes, strict=True)], sizes)
        for loss, pair in ((2.0, (12, 3)), (1.0, (13, 2)))
    )
    assert first.accuracy > second.accuracy  # by a rounding, or this shows nothing
    made = [
        row(number, score.accuracy, None) | {"held_out_loss": score.loss}
        for number, score in enumerate((first, second), start=1)
    ]
    assert rows.best_round(made) == 2
    assert rows.summary(made, BEST)["tied_rounds"] == [1]


def test_a_run_that_began_by_the_earlier_rule_keeps_it() -> None:
    made = [row(i, 1.0, None) | {"held_out_loss": 1 / i} for i in range(1, 6)]
    assert rows.best_round(made, list(rows.SELECTED_EARLIEST)) == 1
    assert rows.best_round(made, list(rows.SELECTED_BY)) == 5
    found = rows.summary(made, BEST, rows.SELECTED_EARLIEST)
    assert (found["best_round"], found["tie_decided_by"]) == (1, "earliest")
    assert "round 1 is the first of the highest before rounding" in text(**found)
    # Rounds 2 and 3 are tied to 9 digits, and the earlier rule takes the higher of them.
    made = [row(1, 0.1, None), row(2, 0.3, None), row(3, 0.3 + 1e-12, None)]
    found = rows.summary(made, BEST, rows.SELECTED_EARLIEST)
    assert (found["best_round"], found["tied_rounds"]) == (3, [2])
    told = text(**found)
    assert "round 3 is the first of the highest before rounding" in told
    assert "held-out loss" not in told


@pytest.mark.parametrize(
    ("losses", "tied", "decided", "says"),
    [
        (
            (3, 2, 1),
            [1, 2],
            "held_out_loss",
            "rounds 1, 2, 3; round 3 has the lowest held-out loss",
        ),
        ((3, 1, 1), [1, 2], "round", "round 3 is the last of those with the lowest held-out loss"),
        ((1, 1, 2), [1, 3], "round", "round 2 is the last of those with the lowest held-out loss"),
    ],
)
def test_summary_tells_of_a_tie(
    losses: tuple[float, ...], tied: list[int], decided: str, says: str
) -> None:
    made = [row(i, 1.0, 0.5) | {"held_out_loss": x} for i, x in enumerate(losses, start=1)]
    made.append(row(4, 0.9, 0.5) | {"held_out_loss": 0.1})
    found = rows.summary(made, BEST)
    assert (found["tied_rounds"], found["tie_decided_by"]) == (tied, decided)
    assert says in text(**found)


def test_no_tie_is_told_of_where_there_is_none() -> None:
    found = rows.summary([row(1, 0.1, None), row(2, 0.2, None)], BEST)
    assert (found["tied_rounds"], found["tie_decided_by"]) == ([], None)
    found = rows.summary([row(1, None, None), row(2, None, None)], BEST)  # nothing is held out
    assert (found["tied_rounds"], found["tie_decided_by"]) == ([], None)
    assert "the same in rounds" not in text()
    earlier = {name: value for name, value in found.items() if not name.startswith("tie")}
    assert rows._tied(earlier) == []  # of a summary of an earlier version


def test_summary_tells_the_best_round_tested_or_else_the_last() -> None:
    found = rows.summary([row(1, 0.1, 0.5), row(2, 0.3, 0.6), row(3, 0.2, 0.7)], BEST)
    assert (found["rounds"], found["best_round"], found["held_out_accuracy"]) == (3, 2, 0.3)
    assert (found["test_accuracy"], found["test_accuracy_round"]) == (0.6, 2)
    assert found["last_test_accuracy"] == 0.7
    assert found["genotype"] == BEST
    found = rows.summary([row(1, 0.3, None), row(2, 0.2, 0.7)], BEST)
    assert found["best_round"] == 1
    assert (found["test_accuracy"], found["test_accuracy_round"]) == (0.7, 2)


def text(*, with_pictures: bool = False, with_page: bool = False, **changes: Any) -> str:
    result = rows.summary([row(1, 0.25, 0.5)], BEST) | changes
    result |= {"seconds": 12.4, "compile_seconds": 3.6, "peak_memory_bytes": 1_500_000_000}
    return rows.summary_text(
        result,
        Path("runs/x"),
        Gates({}, Path("runs/x")),
        selected=True,
        with_pictures=with_pictures,
        with_page=with_page,
    )


def test_summary_for_people() -> None:
    found = text(with_pictures=True)
    assert "\nBest gates (round 1 of 1):\n  3 open\n  1 open\nGated network: 25.00%" in found
    assert "25.00% on held-out client data, 50.00% on the test set (round 1)" in found
    assert "Time 12 s, of which compiling 4 s; memory at most 1.50 GB" in found
    assert "held-out" not in text(with_pictures=True, held_out_accuracy=None)


@pytest.mark.parametrize("with_pictures", [True, False])
def test_files_that_are_there_are_named(with_pictures: bool) -> None:
    assert ("plots/, " in text(with_pictures=with_pictures)) == with_pictures


@pytest.mark.parametrize(
    ("title", "selected", "heading"),
    [
        ("Best network", True, "Best network (round 1 of 1)"),
        ("Best network", False, "Network after round 1"),
        ("Best genotype", False, "Genotype after round 1"),
        ("Shares", False, "Shares after round 1"),
    ],
)
def test_only_a_selected_round_is_called_the_best(title: str, selected: bool, heading: str) -> None:
    """Where nothing is found, the network is told of."""
    result = rows.summary([row(1, 0.25, 0.5)], None)
    result |= {"seconds": 12.4, "compile_seconds": 3.6, "peak_memory_bytes": 1_500_000_000}
    findings = Findings({}, Path("x"))
    findings.title = title
    about = {"selected": selected, "with_pictures": True, "with_page": False}
    found = rows.summary_text(result, Path("x"), findings, **about)
    assert f"\n{heading}\nNetwork: 25.00% on held-out" in found
    assert found.endswith("\nFiles in x: plots/, metrics.jsonl, summary.json, checkpoints/")


def test_a_round_is_selected_among_several_that_are_scored() -> None:
    scored, not_scored = row(1, 0.25, 0.5), row(2, None, 0.5)
    assert not rows.is_selected([scored])
    assert not rows.is_selected([not_scored, row(3, math.nan, 0.5), scored])
    assert rows.is_selected([scored, not_scored, row(3, 0.1, None)])


def test_the_page_is_among_the_files() -> None:
    found = text(with_pictures=True, with_page=True)
    files = "report.html, plots/, metrics.jsonl, summary.json, checkpoints/"
    assert found.endswith(f"Files in runs/x: gates/best.npy, {files}")
    assert "report.html" not in text(with_pictures=True)
