"""The confusion matrix of a model: numbers and a plot."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_NUMBERS = 20
"""Maximum number of classes for which the plot shows counts and all class names."""


class Confusion(NamedTuple):
    """The predictions of a model for labelled examples.

    Attributes:
      counts: [classes, classes], number of examples by true class (rows) and predicted class.
      loss: mean cross-entropy, in nats.
    """

    counts: np.ndarray
    loss: float

    @property
    def accuracy(self) -> float:
        """Share of examples that are predicted correctly."""
        return float(np.trace(self.counts) / self.counts.sum())

    def to_json(self, class_names: Sequence[str]) -> dict[str, Any]:
        """All numbers as JSON values; the accuracy of a class without examples is None."""
        sizes = self.counts.sum(axis=1)
        classes = [
            {
                "name": name,
                "examples": int(size),
                "accuracy": float(self.counts[i, i] / size) if size else None,
            }
            for i, (name, size) in enumerate(zip(class_names, sizes, strict=True))
        ]
        return {
            "examples": int(sizes.sum()),
            "accuracy": self.accuracy,
            "loss": self.loss,
            "classes": classes,
            "confusion": self.counts.tolist(),
        }


def measure(logits: np.ndarray, labels: np.ndarray) -> Confusion:
    """Compares logits with labels.

    Args:
      logits: [N, classes].
      labels: [N] integers from 0 to classes - 1; N is 1 or more.
    """
    classes = logits.shape[1]
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, logits.argmax(axis=1)), 1)
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    log_total = np.log(np.exp(exact).sum(axis=1))
    losses = log_total - exact[np.arange(len(labels)), labels]
    return Confusion(counts, float(losses.mean()))


def draw(
    confusion: Confusion, class_names: Sequence[str], path: Path | str | None = None
) -> "Figure":
    """Plots the confusion matrix as fractions of each true class; with counts for few classes.

    Args:
      confusion: from `measure`.
      class_names: names of the rows and columns.
      path: file to save the plot in; None to save nothing.
    """
    from matplotlib.figure import Figure  # imported here because the numbers do not need it

    from fednas_jax.report.figures import finish
    from fednas_jax.report.plots import shortened

    counts = confusion.counts
    parts = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    few = len(class_names) <= _MOST_NUMBERS
    side = 2.5 + 0.5 * len(class_names) if few else 9
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(parts, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.8, label="fraction of the true class")
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"{confusion.accuracy:.2%} of {counts.sum()} right", fontsize=11)
    if few:
        places, names = range(len(class_names)), [shortened(str(name)) for name in class_names]
        axes.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(places, names)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                color = "white" if parts[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=color, size=8)
    return finish(figure, path)
