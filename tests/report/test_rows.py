"""Rows and summaries: values worked out by hand, None where nothing was measured."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fednas_jax.federated.cohort import NOBODY
from fednas_jax.federated.evaluation import Score
from fednas_jax.report import rows
from fednas_jax.search import genotype as genotypes

NAMES = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
NOTHING = Score(math.nan, math.nan)
BEST = genotypes.random_genotype(np.random.RandomState(0))


def row(number: int, held_out: float | None, test: float | None) -> rows.Row:
    return {"round": number, "held_out_accuracy": held_out, "test_accuracy": test}


def test_metrics_of_clients_come_by_ascending_id_without_empty_places() -> None:
    ids = np.array([[5, 0], [2, NOBODY]], np.int32)
    found = rows.client_metrics({"loss": np.array([[5.0, 0.5], [2.0, 99.0]])}, ids)
    assert found["id"].tolist() == [0, 2, 5]
    assert found["loss"].tolist() == [0.5, 2.0, 5.0]


def test_means_are_weighted_by_examples() -> None:
    clients = {name: np.array([1.0, 5.0], np.float32) for name in NAMES}
    found = rows.means(clients | {"weight": np.array([3.0, 1.0], np.float32)})
    assert found == dict.fromkeys(NAMES, (3 * 1 + 1 * 5) / 4)


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


def test_architecture_counts_what_alphas_stand_for() -> None:
    arch = {kind: np.zeros((14, 8)) for kind in ("normal", "reduce")}
    arch["normal"][:, genotypes.PRIMITIVES.index("skip_connect")] = 9.0
    arch["reduce"][:, genotypes.PRIMITIVES.index("dil_conv_5x5")] = 9.0
    found = rows.architecture(arch)
    assert (found["normal_skips"], found["reduce_skips"]) == (8, 0)
    assert (found["normal_convolutions"], found["reduce_convolutions"]) == (0, 8)
    total = math.exp(9) + 7
    chances = [math.exp(9) / total] + 7 * [1 / total]
    assert found["normal_entropy"] == pytest.approx(-sum(p * math.log(p) for p in chances))


@pytest.mark.parametrize(
    ("held_out", "best"),
    [((0.1, 0.3, 0.3), 2), ((0.1, 0.2, 0.3), 3), ((None, 0.0, None), 2), ((None, None, None), 3)],
)
def test_best_round_is_the_earliest_of_the_highest_or_the_last(
    held_out: tuple[float | None, ...], best: int
) -> None:
    assert rows.best_round([row(i, h, None) for i, h in enumerate(held_out, start=1)]) == best


def test_summary_tells_the_best_round_tested_or_else_the_last() -> None:
    found = rows.summary([row(1, 0.1, 0.5), row(2, 0.3, 0.6), row(3, 0.2, 0.7)], BEST)
    assert (found["rounds"], found["best_round"], found["held_out_accuracy"]) == (3, 2, 0.3)
    assert (found["test_accuracy"], found["test_accuracy_round"]) == (0.6, 2)
    assert found["last_test_accuracy"] == 0.7
    assert genotypes.from_json(found["genotype"], "summary") == BEST
    found = rows.summary([row(1, 0.3, None), row(2, 0.2, 0.7)], BEST)
    assert found["best_round"] == 1
    assert (found["test_accuracy"], found["test_accuracy_round"]) == (0.7, 2)


def text(
    dataset: str, *, with_pictures: bool = False, with_page: bool = False, **changes: Any
) -> str:
    result = rows.summary([row(1, 0.25, 0.5)], BEST) | changes
    result |= {"seconds": 12.4, "compile_seconds": 3.6, "peak_memory_bytes": 1_500_000_000}
    return rows.summary_text(
        result,
        Path("runs/x"),
        dataset=dataset,
        with_pictures=with_pictures,
        with_page=with_page,
    )


def test_summary_for_people() -> None:
    found = text("digits", with_pictures=True)
    assert "Best genotype (round 1 of 1)" in found
    assert "25.00% on held-out client data, 50.00% on the test set (round 1)" in found
    assert "Time 12 s, of which compiling 4 s; memory at most 1.50 GB" in found
    pairs = [f"{name}({state})" for name, state in BEST.normal]
    assert f"  normal  {pairs[0]} {pairs[1]} | {pairs[2]} " in found
    assert "held-out" not in text("digits", with_pictures=True, held_out_accuracy=None)


@pytest.mark.parametrize("with_pictures", [True, False])
@pytest.mark.parametrize("dataset", ["digits", "cifar10"])
def test_next_step_is_one_that_is_left(dataset: str, with_pictures: bool) -> None:
    found = text(dataset, with_pictures=with_pictures)
    assert ("look at runs/x/plots/cells.png" in found) == with_pictures
    assert ("plots/, " in found) == with_pictures
    assert ("search on CIFAR-10" in found) == (dataset == "digits")
    assert ("Next: " in found) == (with_pictures or dataset == "digits")


def test_the_page_is_what_to_look_at() -> None:
    found = text("cifar10", with_pictures=True, with_page=True)
    files = "report.html, plots/, metrics.jsonl, summary.json, checkpoints/"
    assert f"Files in runs/x: genotypes/best.json, {files}\n" in found
    assert found.endswith("\nNext: look at runs/x/report.html")
    assert "report.html" not in text("cifar10", with_pictures=True)
