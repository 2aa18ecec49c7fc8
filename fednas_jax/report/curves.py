"""A plot of the test accuracy of several runs over rounds, with target accuracies."""

from collections.abc import Mapping, Sequence
from itertools import cycle, product
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fednas_jax.report.figures import finish
from fednas_jax.report.targets import Curve

# The colours of Okabe and Ito, which the colour-blind can tell apart; then again, dashed and
# dotted.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_LINES = ("-", "--", ":")


def accuracy(
    curves: Mapping[str, Curve],
    targets: Sequence[float] = (),
    path: Path | str | None = None,
    *,
    lowest: float = 0.0,
) -> Figure:
    """Draws a line for each run, and a horizontal line for each target.

    Args:
      curves: name of a run -> its curve; a curve without points is left out.
      targets: target accuracies.
      path: file to save the plot in; None to save nothing.
      lowest: lower end of the axis of accuracies, below 1; a higher one shows small differences.
    """
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    styles = cycle(product(_LINES, _COLORS))
    for (name, curve), (line, color) in zip(curves.items(), styles, strict=False):
        if curve:
            rounds, accuracies = zip(*curve, strict=True)
            axes.plot(rounds, accuracies, c=color, ls=line, lw=1.5, label=name)
            if len(curve) == 1:
                axes.lines[-1].set_marker("o")
    for target in targets:
        axes.axhline(target, c="#777777", lw=1, ls=(0, (6, 3)), label=f"target {target:.4g}")
    axes.set(xlabel="round", ylabel="accuracy on the test set", ylim=(lowest, 1.0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        outside = len(axes.lines) > 8
        place = {"loc": "upper left", "bbox_to_anchor": (1, 1)} if outside else {"loc": "best"}
        axes.legend(frameon=False, fontsize=8, **place)
    return finish(figure, path)
