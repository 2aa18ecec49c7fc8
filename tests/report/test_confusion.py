"""Counts, accuracies and losses that one can work out by hand."""

from pathlib import Path

import numpy as np
import pytest

from fednas_jax.report import confusion

LOGITS = np.log(np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.25, 0.5, 0.25]], np.float32))
LABELS = np.array([0, 1, 1], np.int32)


def test_counts_accuracy_and_loss() -> None:
    found = confusion.measure(LOGITS, LABELS)
    assert found.counts.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.loss == pytest.approx((np.log(2) + np.log(4) + np.log(2)) / 3)
    told = found.to_json(("a", "b", "c"))
    assert [entry["accuracy"] for entry in told["classes"]] == [1.0, 0.5, None]
    assert [entry["examples"] for entry in told["classes"]] == [1, 2, 0]


def test_large_logits_do_not_overflow() -> None:
    assert confusion.measure(np.array([[1e4, 0.0]], np.float32), np.array([1])).loss == 1e4


@pytest.mark.parametrize("classes", [3, 100])
def test_picture(tmp_path: Path, classes: int) -> None:
    found = confusion.Confusion(np.eye(classes, dtype=int), 0.0)
    figure = confusion.draw(found, [str(c) for c in range(classes)], tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), np.eye(classes))
    assert [text.get_text() for text in axes.texts] == (["1"] * classes if classes == 3 else [])
