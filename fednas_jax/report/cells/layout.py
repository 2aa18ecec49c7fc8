"""Layered layout of a small directed graph, in which lines do not run through boxes.

The method is that of Sugiyama, Tagawa and Toda (1981). Every item has a column. A line that passes
a column has a waypoint there, which takes space like a box, so that the line runs through no box.
The order within columns is improved until few lines cross. Heights keep neighbours apart and long
lines horizontal.
"""

import itertools
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog

_RESTARTS = 24
_SWEEPS = 12


class Graph(NamedTuple):
    """Items in columns, and links (left item, right item) between neighbouring columns.

    `waypoints` are the items that are not boxes but points of a line across several columns.
    """

    columns: tuple[tuple[Hashable, ...], ...]
    links: tuple[tuple[Hashable, Hashable], ...]
    waypoints: frozenset[Hashable]


def heights(
    graph: Graph, sizes: Mapping[Hashable, float], gap: float, seed: int = 0
) -> dict[Hashable, float]:
    """Places the items of every column above one another.

    The heights minimise the weighted sum of the rises of all links, subject to minimum distances.
    This is a linear program, in whose solutions many links are exactly horizontal.

    Args:
      graph: items and links.
      sizes: height of each item.
      gap: minimum distance between two neighbours in a column.
      seed: seed of the orders that are tried; the same seed gives the same layout.

    Returns:
      The height of the middle of each item.
    """
    columns = _best_orders(graph, np.random.RandomState(seed))
    items = [item for column in columns for item in column]
    unit = dict(zip(items, np.eye(len(items)), strict=True))
    rises = [unit[a] - unit[b] for a, b in graph.links]
    weights = [_weight(graph, link) for link in graph.links]
    for item, left in _sources(graph).items():
        if len(left) > 1:  # centred between its sources, not just anywhere in their range
            rises.append(unit[item] - np.mean([unit[other] for other in left], axis=0))
            weights.append(1.0)
    distances = [
        (unit[lower] - unit[upper], -(sizes[lower] + sizes[upper]) / 2 - gap)
        for column in columns
        for lower, upper in itertools.pairwise(column)
    ]
    y = _least_rises(np.stack(rises), np.array(weights), distances)
    return dict(zip(items, y.tolist(), strict=True))


def _weight(graph: Graph, link: tuple[Hashable, Hashable]) -> float:
    """The cost of the rise of a link: high for the bends of long lines, low for links of boxes."""
    return (1.0, 2.0, 8.0)[sum(item in graph.waypoints for item in link)]


def _sources(graph: Graph) -> dict[Hashable, list[Hashable]]:
    found: dict[Hashable, list[Hashable]] = {}
    for left, right in graph.links:
        found.setdefault(right, []).append(left)
    return found


def _least_rises(
    rises: np.ndarray, weights: np.ndarray, distances: Sequence[tuple[np.ndarray, float]]
) -> np.ndarray:
    """Heights [items] that minimise the sum of weights * abs(rises @ heights).

    Each absolute value is a variable t of the linear program, with t >= rise and t >= -rise.
    """
    num_rises, num_items = rises.shape
    slack = np.eye(num_rises)
    above = np.stack([row for row, _ in distances])
    constraints = np.block(
        [[rises, -slack], [-rises, -slack], [above, np.zeros((len(distances), num_rises))]]
    )
    bounds = np.concatenate([np.zeros(2 * num_rises), [bound for _, bound in distances]])
    solution = linprog(
        np.concatenate([np.zeros(num_items), weights]),
        A_ub=constraints,
        b_ub=bounds,
        bounds=[(None, None)] * num_items + [(0, None)] * num_rises,
    )
    return solution.x[:num_items]


def _best_orders(graph: Graph, rng: np.random.RandomState) -> list[list[Hashable]]:
    """The best order of the columns among those tried: fewest crossings, then shortest lines."""
    best: tuple[tuple[float, float], list[list[Hashable]]] | None = None
    for restart in range(_RESTARTS):
        columns = [list(column) for column in graph.columns]
        if restart:
            for column in columns:
                order = rng.permutation(len(column))
                column[:] = [column[i] for i in order]
        for sweep in range(_SWEEPS):
            _sweep(graph, columns, forward=sweep % 2 == 0)
            cost = _cost(graph, columns)
            if best is None or cost < best[0]:
                best = cost, [list(column) for column in columns]
    assert best is not None
    return best[1]


def _sweep(graph: Graph, columns: list[list[Hashable]], forward: bool) -> None:
    """Sorts each column by the mean position of each item's neighbours in the previous column."""
    sides: dict[Hashable, list[Hashable]] = {}
    for left, right in graph.links:
        near, far = (right, left) if forward else (left, right)
        sides.setdefault(near, []).append(far)
    order = range(1, len(columns)) if forward else range(len(columns) - 2, -1, -1)
    for index in order:
        place = _places([columns[index - 1 if forward else index + 1]])
        own = _places([columns[index]])
        columns[index].sort(
            key=lambda item, place=place, own=own: (  # type: ignore[misc]
                float(np.mean([place[far] for far in sides[item]])) if item in sides else own[item]
            )
        )


def _places(columns: list[list[Hashable]]) -> dict[Hashable, float]:
    """Position of each item in its column, counted from the middle of the column."""
    return {
        item: place - (len(column) - 1) / 2
        for column in columns
        for place, item in enumerate(column)
    }


def _cost(graph: Graph, columns: list[list[Hashable]]) -> tuple[float, float]:
    place = _places(columns)
    column_of = {item: index for index, column in enumerate(columns) for item in column}
    lines = np.array([(column_of[a], place[a], place[b]) for a, b in graph.links])
    same_gap = lines[:, None, 0] == lines[None, :, 0]
    swapped = (lines[:, None, 1] - lines[None, :, 1]) * (lines[:, None, 2] - lines[None, :, 2]) < 0
    length = np.abs(lines[:, 1] - lines[:, 2]).sum()
    return float((same_gap & swapped).sum() / 2), float(length)
