"""The cells of a genotype drawn as graphs: inputs at the left, output at the right."""

import itertools
import math
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, PathPatch
from matplotlib.path import Path as Outline

from fednas_jax.report.cells.layout import Graph, heights
from fednas_jax.report.colors import ON_OPERATION_COLORS, OPERATION_COLORS
from fednas_jax.report.figures import finish
from fednas_jax.spaces.darts.genotype import KINDS, Genotype, validate
from fednas_jax.spaces.darts.space import NODES, PRIMITIVES

# Lengths in inches, so that the text fits its box whatever the cell.
_STATE_WIDTH, _STATE_HEIGHT = 0.52, 0.36
_LABEL_WIDTH, _LABEL_HEIGHT = 1.06, 0.25
_WAYPOINT_HEIGHT = 0.02
_GAP = 0.14
_BETWEEN_COLUMNS = 0.44
_MARGIN = 0.15
_TITLE_HEIGHT = 0.35
_LEGEND_WIDTH, _LEGEND_HEIGHT = 1.13, 0.2
_OUTPUT = "output"
_OUTER_NAMES: dict[Hashable, str] = {0: "$c_{k-2}$", 1: "$c_{k-1}$", _OUTPUT: "$c_{k}$"}
_PLAIN = "#9a9a9a"
_TITLES = {"normal": "normal cell", "reduce": "reduction cell"}


class _Wire(NamedTuple):
    """A line from box to box through waypoints; `operation` None: into the output, unlabelled."""

    items: tuple[Hashable, ...]
    operation: str | None


class _Placed(NamedTuple):
    """A cell with a place for everything: middles `x` and `y`, and room to the sides of `x`."""

    wires: list[_Wire]
    x: dict[Hashable, float]
    y: dict[Hashable, float]
    half_width: dict[Hashable, float]


def draw_cell(
    genotype: Genotype,
    kind: str,
    path: Path | str | None = None,
    *,
    about: str = "",
    bare: bool = False,
) -> Figure:
    """Draws one kind of cell.

    Args:
      genotype: the architecture.
      kind: "normal" or "reduce".
      path: where to save it, if anywhere (.png, .pdf or .svg).
      about: what is said behind the kind in the title, such as the round.
      bare: whether to leave out the title and the legend.

    Raises:
      UserError: the genotype cannot be built, or the file cannot be written.
    """
    return _draw(genotype, (kind,), path, about, bare=bare)


def draw_genotype(genotype: Genotype, path: Path | str | None = None, *, about: str = "") -> Figure:
    """Draws both cells, the normal one above; arguments and errors as `draw_cell`."""
    return _draw(genotype, KINDS, path, about)


def _draw(
    genotype: Genotype,
    kinds: tuple[str, ...],
    path: Path | str | None,
    about: str,
    *,
    bare: bool = False,
) -> Figure:
    validate(genotype, "genotype")
    cells = [_place(getattr(genotype, kind), getattr(genotype, f"{kind}_concat")) for kind in kinds]
    border = _STATE_HEIGHT / 2 + _MARGIN
    ranges = [(min(cell.y.values()) - border, max(cell.y.values()) + border) for cell in cells]
    width = max(max(cell.x.values()) for cell in cells) + _STATE_WIDTH + 2 * _MARGIN
    handles = [] if bare else _legend(cells)
    rows = math.ceil(len(handles) * _LEGEND_WIDTH / width)
    title_height = 0.0 if bare else _TITLE_HEIGHT
    legend_height = 0.0 if bare else _LEGEND_HEIGHT * rows + _MARGIN
    height = sum(high - low + title_height for low, high in ranges) + legend_height
    figure = Figure(figsize=(width, height))
    top = height
    for kind, cell, (low, high) in zip(kinds, cells, ranges, strict=True):
        if not bare:
            title = ", ".join(filter(None, (_TITLES[kind], about)))
            middle = top - title_height / 2
            figure.text(0.5, middle / height, title, ha="center", va="center", fontsize=12)
        top -= high - low + title_height
        axes = figure.add_axes((0, top / height, 1, (high - low) / height))
        axes.set_axis_off()
        centre = max(cell.x.values()) / 2
        axes.set(xlim=(centre - width / 2, centre + width / 2), ylim=(low, high))
        _draw_cell(axes, cell)
    if handles:
        figure.legend(
            handles=handles,
            loc="lower center",
            ncols=math.ceil(len(handles) / rows),
            frameon=False,
            fontsize=8,
            handlelength=1.2,
            columnspacing=1.2,
            borderaxespad=0.3,
        )
    return finish(figure, path, dpi=200)


# Where everything goes ---------------------------------------------------------------------------


def _place(pairs: tuple[tuple[str, int], ...], concat: tuple[int, ...]) -> _Placed:
    """Columns alternate: states (even), labels of the operations into the next states (odd)."""
    depth = {0: 0, 1: 0}
    for node in range(NODES):
        depth[2 + node] = 1 + max(depth[state] for _, state in pairs[2 * node : 2 * node + 2])
    last = 2 * max(depth.values()) + 1
    column_of: dict[Hashable, int] = {state: 2 * column for state, column in depth.items()}
    column_of[_OUTPUT] = last
    wires = [
        _wire(column_of, state, 2 + index // 2, index, operation)
        for index, (operation, state) in enumerate(pairs)
    ]
    wires += [_wire(column_of, state, _OUTPUT, f"concat{state}", None) for state in concat]
    columns: list[list[Hashable]] = [[] for _ in range(last + 1)]
    for item, column in column_of.items():
        columns[column].append(item)
    y = heights(
        Graph(
            tuple(tuple(column) for column in columns),
            tuple(link for wire in wires for link in itertools.pairwise(wire.items)),
            frozenset(item for item in column_of if _is(item, "waypoint")),
        ),
        {item: _height(item) for item in column_of},
        _GAP,
    )
    sign = 1 if y[0] > y[1] else -1  # the older input on top
    widths = [_LABEL_WIDTH if i % 2 and i < last else _STATE_WIDTH for i in range(last + 1)]
    left = np.cumsum([0.0] + [width + _BETWEEN_COLUMNS for width in widths[:-1]])
    middles = left + np.array(widths) / 2 - widths[0] / 2
    return _Placed(
        wires,
        {item: float(middles[column]) for item, column in column_of.items()},
        {item: sign * value for item, value in y.items()},
        {item: widths[column] / 2 for item, column in column_of.items()},
    )


def _wire(
    column_of: dict[Hashable, int],
    start: Hashable,
    end: Hashable,
    name: Hashable,
    operation: str | None,
) -> _Wire:
    """The line between two states; its label and waypoints are entered in `column_of`."""
    first, last = column_of[start] + 1, column_of[end] - 1
    between: list[Hashable] = []
    for column in range(first, last + 1):
        labelled = operation is not None and column == last
        item = ("label" if labelled else "waypoint", name, column)
        column_of[item] = column
        between.append(item)
    return _Wire((start, *between, end), operation)


def _is(item: Hashable, kind: str) -> bool:
    return isinstance(item, tuple) and item[0] == kind


def _height(item: Hashable) -> float:
    if _is(item, "waypoint"):
        return _WAYPOINT_HEIGHT
    return _LABEL_HEIGHT if _is(item, "label") else _STATE_HEIGHT


# Drawing -----------------------------------------------------------------------------------------


def _draw_cell(axes: Axes, cell: _Placed) -> None:
    for wire in cell.wires:
        _draw_wire(axes, cell, wire)
    for item in cell.x:
        if not isinstance(item, tuple):
            _draw_state(axes, item, cell.x[item], cell.y[item])


def _draw_wire(axes: Axes, cell: _Placed, wire: _Wire) -> None:
    color = OPERATION_COLORS[wire.operation] if wire.operation else _PLAIN
    points: list[tuple[float, float]] = []
    codes: list[np.uint8] = []
    for left, right in itertools.pairwise(wire.items):
        start = (cell.x[left] + cell.half_width[left], cell.y[left])
        end = (cell.x[right] - cell.half_width[right], cell.y[right])
        middle = (start[0] + end[0]) / 2
        points += [start, (middle, start[1]), (middle, end[1]), end]
        codes += [Outline.LINETO if codes else Outline.MOVETO, *[Outline.CURVE4] * 3]
    axes.add_patch(PathPatch(Outline(points, codes), fill=False, ec=color, lw=1.6, zorder=1))
    tip = points[-1]
    axes.add_patch(
        FancyArrowPatch(
            (tip[0] - 0.05, tip[1]),
            tip,
            arrowstyle="-|>",
            mutation_scale=16,
            color=color,
            lw=0,
            shrinkA=0,
            shrinkB=0,
            zorder=2,
        )
    )
    if wire.operation:
        label = wire.items[-2]
        _draw_box(axes, cell.x[label], cell.y[label], (_LABEL_WIDTH, _LABEL_HEIGHT), color, color)
        axes.text(
            cell.x[label],
            cell.y[label],
            wire.operation,
            ha="center",
            va="center_baseline",
            fontsize=8.5,
            color=ON_OPERATION_COLORS[wire.operation],
            zorder=4,
        )


def _draw_state(axes: Axes, item: Hashable, x: float, y: float) -> None:
    name = _OUTER_NAMES.get(item)
    face = "white" if name is None else "#e8edf3"
    _draw_box(axes, x, y, (_STATE_WIDTH, _STATE_HEIGHT), face, "#333333")
    text = f"{int(str(item)) - 2}" if name is None else name
    axes.text(x, y, text, ha="center", va="center_baseline", fontsize=11, zorder=4)


def _draw_box(
    axes: Axes, x: float, y: float, size: tuple[float, float], face: str, edge: str
) -> None:
    width, height = size
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle=f"round,pad=0,rounding_size={height * 0.35}",
            fc=face,
            ec=edge,
            lw=1.2,
            zorder=3,
        )
    )


def _legend(cells: Sequence[_Placed]) -> list[Line2D]:
    used = {wire.operation for cell in cells for wire in cell.wires}
    operations = [name for name in PRIMITIVES if name in used]
    lines = [Line2D([], [], color=OPERATION_COLORS[name], lw=4, label=name) for name in operations]
    return [*lines, Line2D([], [], color=_PLAIN, lw=1.6, label="concatenate")]
