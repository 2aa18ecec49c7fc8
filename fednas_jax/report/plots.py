"""Plots of a run: accuracy and loss, the alphas, the partition.

Every function returns its matplotlib Figure, for notebooks, and saves it if a path is given.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from fednas_jax.report.colors import OPERATION_COLORS, SERIES
from fednas_jax.report.figures import finish
from fednas_jax.spaces.darts.genotype import KINDS, derive, largest_probability, softmax
from fednas_jax.spaces.darts.space import EDGES, NODES, PRIMITIVES

_PALE_BLUES = LinearSegmentedColormap.from_list("pale blues", ["#ffffff", "#7bb5ea"])
"""Light enough for black numbers and for red frames around them."""

_LONGEST_NAME, _LONGEST_UPRIGHT = 20, 6
"""Characters of a client or class that are shown, and that fit below a column."""

_TITLES = {"normal": "normal cell", "reduce": "reduction cell"}


def accuracy_and_loss(rows: Sequence[Mapping[str, Any]], path: Path | str | None = None) -> Figure:
    """Accuracy and loss over rounds, on the parts of the clients' examples and on the test set.

    Args:
      rows: rows from `writers.read_rows`: `round` and metrics such as `test_accuracy`. Where a
        value is missing or None, the line connects the values before and after.
      path: file to save the plot in; None to save nothing.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, quantity in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        for name, (label, color) in SERIES.items():
            points = [(row["round"], row.get(f"{name}_{quantity}")) for row in rows]
            points = [(at, value) for at, value in points if value is not None]
            if points:
                marker = "o" if len(points) <= 30 else ""
                axes.plot(*zip(*points, strict=True), marker=marker, ms=3.5, c=color, label=label)
        axes.set(xlabel="round", ylabel=quantity)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    lines = {line.get_label(): line for axes in figure.axes for line in axes.lines}
    if lines:  # above both panels, where it hides nothing
        figure.legend(
            handles=list(lines.values()),
            loc="outside upper center",
            ncols=len(lines),
            frameon=False,
            fontsize=9,
        )
    return finish(figure, path)


def edge_label(node: int, state: int) -> str:
    """The label of an edge, such as "c_{k-2} -> 0" in mathematical notation, for matplotlib."""
    return rf"${_state_label(state)}\rightarrow {node}$"


def _state_label(state: int) -> str:
    return ("c_{k-2}", "c_{k-1}")[state] if state < 2 else str(state - 2)


def alphas(
    arch: Mapping[str, ArrayLike],
    path: Path | str | None = None,
    *,
    about: str = "",
    most: float | None = None,
) -> Figure:
    """Heat maps of softmax(alpha), edges by operations, with frames around the derived genotype.

    Colours go from 0 to the largest probability, with a mark where all operations are equal. `none`
    is never framed, since the derivation leaves it out.

    Pictures of several rounds can be compared if all have the same `most`:
    `genotype.largest_probability` of these rounds.

    Args:
      arch: "normal" and "reduce", each [14, 8], before the softmax.
      about: what is said behind the kind of cell in its title, such as the round.
      most: the probability at which the colours end, such as the largest of all rounds; at least
        the largest of this picture, which it is if not given.
      path: file to save the plot in; None to save nothing.

    Raises:
      UserError: an array is missing, of another shape, or not finite.
    """
    genotype = derive(arch)
    probabilities = {kind: softmax(arch[kind]) for kind in KINDS}
    high = max(largest_probability([arch]), most or 0.0)
    figure = Figure(figsize=(12, 6), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, kind in zip(panels, KINDS, strict=True):
        values = probabilities[kind]
        image = axes.imshow(values, cmap=_PALE_BLUES, vmin=0, vmax=high, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7)
        for index, (name, state) in enumerate(getattr(genotype, kind)):
            corner = PRIMITIVES.index(name) - 0.5, EDGES.index((index // 2, state)) - 0.5
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, ec="#cc3311", lw=1.8))
        for node in range(1, NODES):
            axes.axhline(EDGES.index((node, 0)) - 0.5, c="black", lw=0.8)
        axes.set_xticks(range(len(PRIMITIVES)), PRIMITIVES, rotation=35, ha="right", fontsize=8)
        axes.set_yticks(range(len(EDGES)), [edge_label(*edge) for edge in EDGES])
        axes.set_title(", ".join(filter(None, (_TITLES[kind], about))))
        axes.tick_params(length=0)
    uniform, name = 1 / len(PRIMITIVES), f"1/{len(PRIMITIVES)}"
    label = f"probability; {name}: all operations of an edge are equally probable"
    scale = figure.colorbar(image, ax=list(panels), label=label, shrink=0.9)
    scale.set_ticks([0, high], labels=["0", f"{high:.3f}"])
    scale.ax.axhline(uniform, c="black", lw=1.5)
    scale.ax.text(-0.3, uniform, name, ha="right", va="center", fontsize=9)
    figure.supxlabel(
        "Frames: the operations of the derived genotype. The operation none is never framed: the "
        "derivation leaves it out.",
        fontsize=9,
    )
    return finish(figure, path)


def alphas_over_rounds(
    history: Sequence[Mapping[str, Any]], path: Path | str | None = None
) -> Figure:
    """softmax(alpha) over rounds: a panel for each edge, with a line for each operation.

    Args:
      history: entries with "normal" and "reduce", each [14, 8], before the softmax, and "round".
        Without "round", entry 0 is the initial state and entry i is that after round i.
      path: file to save the plot in; None to save nothing.
    """
    rounds = [entry.get("round", index) for index, entry in enumerate(history)]
    values = {kind: np.stack([softmax(arch[kind]) for arch in history]) for kind in KINDS}
    low = min(array.min() for array in values.values())
    high = max(array.max() for array in values.values())
    margin = 0.05 * (high - low) + 1e-3
    figure = Figure(figsize=(15, 6), layout="constrained")
    grid = figure.add_gridspec(1, 2, wspace=0.03)
    blocks = [figure.add_subfigure(grid[0, index]) for index in (0, 1)]
    for block, kind in zip(blocks, KINDS, strict=True):
        panels = block.subplots(NODES, NODES + 1, sharex=True, sharey=True)
        for axes in panels.flat:
            axes.set_axis_off()
        for edge, (node, state) in enumerate(EDGES):
            axes = panels[node, state]
            axes.set_axis_on()
            _draw_edge_history(axes, rounds, values[kind][:, edge], edge_label(node, state))
            axes.set_ylim(low - margin, high + margin)
            axes.tick_params(labelbottom=node == NODES - 1, labelleft=state == 0, labelsize=7)
        block.suptitle(_TITLES[kind])
        block.supxlabel("round", fontsize=9)
        block.supylabel("probability", fontsize=9)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    blocks[0].legend(
        handles, labels, loc="upper right", bbox_to_anchor=(0.99, 0.93), ncols=2, fontsize=8
    )
    return finish(figure, path)


def _draw_edge_history(axes: Axes, rounds: Sequence[int], values: np.ndarray, title: str) -> None:
    for operation, name in enumerate(PRIMITIVES):
        axes.plot(
            rounds,
            values[:, operation],
            marker="o" if len(values) == 1 else "",
            markersize=3,
            linestyle="--" if name == "none" else "-",
            linewidth=1.4,
            color=OPERATION_COLORS[name],
            label=name,
        )
    axes.set_title(title, fontsize=9, pad=2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def partition(
    class_counts: ArrayLike,
    class_names: Sequence[str],
    path: Path | str | None = None,
    *,
    client_ids: Sequence[int | str] | None = None,
) -> Figure:
    """The partition: number of examples by client (bars), and by client and class (heat map).

    Args:
      class_counts: [K, classes], number of examples of each class that each client holds.
      class_names: names of the classes.
      path: file to save the plot in; None to save nothing.
      client_ids: [K], names or ids of the clients in the data; their numbers if not given. Shown
        where there is room.
    """
    counts = np.asarray(class_counts)
    clients, classes = counts.shape
    width = min(max(0.62 * clients, 3), 14)
    height = min(max(0.36 * classes, 1.3), 9)
    figure = Figure(figsize=(2.6 + width, 2.6 + height), layout="constrained")
    bars, heat = figure.subplots(2, 1, sharex=True, height_ratios=[1.3, height])
    bars.bar(range(clients), counts.sum(axis=1), color="#4477aa", width=0.8)
    bars.set(ylabel="examples")
    bars.spines[["top", "right"]].set_visible(False)
    bars.tick_params(labelbottom=False, bottom=False)
    # Counts span four decades (Table 2: 0 to 1926), so that colours show their square root.
    image = heat.imshow(np.sqrt(counts.T), cmap="Blues", aspect="auto", vmin=0)
    if clients <= 20 and classes <= 20:
        for (client, label), count in np.ndenumerate(counts):
            color = "white" if count > 0.36 * counts.max() else "black"
            heat.text(client, label, str(count), ha="center", va="center", fontsize=8, c=color)
    _label_ticks(heat, clients, classes, class_names)
    if client_ids is not None and clients <= 20:
        _name_clients(heat, [shortened(str(one)) for one in client_ids])
    scale = figure.colorbar(image, ax=heat, label="examples", pad=0.01)
    top = int(counts.max())
    levels = sorted({0, top // 16, top // 4, top * 9 // 16, top})
    scale.set_ticks(np.sqrt(levels).tolist(), labels=[str(level) for level in levels])
    return finish(figure, path)


def shortened(name: str) -> str:
    """A name of a client or class that fits an axis."""
    return (
        name
        if len(name) <= _LONGEST_NAME
        else f"{name[: _LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
    )


def _name_clients(heat: Axes, names: Sequence[str]) -> None:
    """Names below the axis; aslant where they would run into each other."""
    aslant = max(map(len, names)) > _LONGEST_UPRIGHT
    heat.set_xticks(range(len(names)), names)
    if aslant:
        for label in heat.get_xticklabels():
            label.set(rotation=35, ha="right", rotation_mode="anchor")


def _label_ticks(heat: Axes, clients: int, classes: int, class_names: Sequence[str]) -> None:
    heat.set(xlabel="client")
    heat.set_xticks(range(0, clients, 1 if clients <= 20 else -(-clients // 200) * 10))
    if classes <= 20:
        heat.set_yticks(range(classes), [shortened(str(name)) for name in class_names])
        heat.set(ylabel="class" if all(str(name).isdigit() for name in class_names) else "")
    else:
        heat.set_yticks(range(0, classes, -(-classes // 200) * 10))
        heat.set(ylabel="class")
