"""Which tensor of the PyTorch supernet is which part of the package's trees; both ways, by name.

The package keeps one array for a primitive of a whole cell, edges ahead, ordered by their source
(the two inputs' edges first), and one matrix for each 1 x 1 convolution. PyTorch has a tensor for
each edge. Trees of the package are flat here: "params/cell_0/preprocess0" and so on. NumPy alone.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from benchmarks.pytorch.space import EDGES, PRIMITIVES, reductions

Arrays = Mapping[str, np.ndarray]
Convert = Callable[[np.ndarray], np.ndarray]

BY_SOURCE = sorted(range(len(EDGES)), key=lambda edge: (EDGES[edge][1], EDGES[edge][0]))
FIRST_OF_SOURCE = [
    edge
    for i, edge in enumerate(BY_SOURCE)
    if i == 0 or EDGES[edge][1] > EDGES[BY_SOURCE[i - 1]][1]
]
"""An edge of each of the five sources. Pools of one source's edges have equal moments."""
EDGES_OF_INPUTS = [edge for edge in BY_SOURCE if EDGES[edge][1] < 2]


class Layout(NamedTuple):
    """How one tensor lies here and there."""

    from_torch: Convert
    to_torch: Convert


SAME = Layout(lambda x: x, lambda x: x)
POINTWISE = Layout(lambda x: x[:, :, 0, 0], lambda x: x[:, :, None, None])
DEPTHWISE = Layout(lambda x: x[:, 0], lambda x: x[:, None])
TRANSPOSED = Layout(lambda x: x.T, lambda x: x.T)
PATCHES = Layout(  # of the stem, 3 x 3: [kernel row, kernel column, channel] in one axis
    lambda x: x.transpose(0, 2, 3, 1).reshape(len(x), -1),
    lambda x: x.reshape(len(x), 3, 3, -1).transpose(0, 3, 1, 2),
)


class Match(NamedTuple):
    """A tensor and its place."""

    torch: str
    """Its name in the module."""
    ours: str
    """The leaf that holds it."""
    place: tuple[int, ...] = ()
    """Where in the leaf; the leaf itself, if empty."""
    layout: Layout = SAME


def from_torch(tensors: Arrays, layers: int) -> dict[str, np.ndarray]:
    """The package's leaves from the module's tensors (or gradients: whatever is there of both)."""
    places: dict[str, dict[tuple[int, ...], np.ndarray]] = {}
    for match in matches(layers):
        if match.torch in tensors:
            value = match.layout.from_torch(tensors[match.torch])
            places.setdefault(match.ours, {})[match.place] = value
    return {name: _assemble(parts) for name, parts in places.items()}


def to_torch(leaves: Arrays, layers: int) -> dict[str, np.ndarray]:
    """The module's tensors from the package's leaves."""
    return {
        match.torch: match.layout.to_torch(leaves[match.ours][match.place])
        for match in matches(layers)
        if match.ours in leaves
    }


def _assemble(parts: dict[tuple[int, ...], np.ndarray]) -> np.ndarray:
    """One array from its parts by place."""
    if () in parts:
        return np.asarray(parts[()])
    shape = tuple(1 + max(place[i] for place in parts) for i in range(len(next(iter(parts)))))
    whole = np.empty((*shape, *next(iter(parts.values())).shape), next(iter(parts.values())).dtype)
    for place, part in parts.items():
        whole[place] = part
    return whole


def matches(layers: int) -> Iterator[Match]:
    """All tensors of a supernet, those of running moments among them."""
    yield Match("stem.0.weight", "params/stem/kernel", layout=PATCHES)
    yield Match("stem.1.weight", "params/stem/scale")
    yield Match("stem.1.bias", "params/stem/bias")
    yield from _moments("stem.1", "stem/batch_norm")
    yield Match("classifier.weight", "params/classifier/kernel", layout=TRANSPOSED)
    yield Match("classifier.bias", "params/classifier/bias")
    for kind in ("normal", "reduce"):
        yield Match(f"alphas.{kind}", f"arch/{kind}")
    for layer in range(layers):
        cell, ours = f"cells.{layer}", f"cell_{layer}"
        for name in ("preprocess0", "preprocess1"):
            halves = name == "preprocess0" and layer - 1 in reductions(layers)
            yield from _reducing(f"{cell}.{name}", f"{ours}/{name}", (), halves=halves)
        yield from _pools(cell, ours)
        for place, edge in enumerate(BY_SOURCE):
            for name in PRIMITIVES[4:]:
                yield from _convolution(
                    f"{cell}.edges.{edge}.operations.{name}", f"{ours}/{name}", place
                )
        if layer in reductions(layers):
            for place, edge in enumerate(EDGES_OF_INPUTS):
                skip = f"{cell}.edges.{edge}.operations.skip_connect"
                yield from _reducing(skip, f"{ours}/skip_connect", (place,), halves=True)


def _moments(torch: str, ours: str, place: tuple[int, ...] = ()) -> Iterator[Match]:
    yield Match(f"{torch}.running_mean", f"batch_stats/{ours}/mean", place)
    yield Match(f"{torch}.running_var", f"batch_stats/{ours}/var", place)


def _reducing(torch: str, ours: str, place: tuple[int, ...], *, halves: bool) -> Iterator[Match]:
    """A 1 x 1 convolution, or the two of a factorised reduction, and its BatchNorm."""
    if halves:
        for half in (0, 1):
            name = f"{torch}.conv{1 + half}.weight"
            yield Match(name, f"params/{ours}", (*place, half), POINTWISE)
    else:
        yield Match(f"{torch}.conv.weight", f"params/{ours}", place, POINTWISE)
    yield from _moments(f"{torch}.norm", ours, place)


def _pools(torch: str, ours: str) -> Iterator[Match]:
    """Their moments; the package keeps those of one edge of each source."""
    for edge, (_, source) in enumerate(EDGES):
        for name in PRIMITIVES[1:3]:
            norm = f"{torch}.edges.{edge}.operations.{name}.norm"
            yield from _moments(norm, f"{ours}/{name}", (source,))


def _convolution(torch: str, ours: str, place: int) -> Iterator[Match]:
    """A separable or dilated convolution of one edge."""
    separable = "sep_conv" in ours
    for suffix in ("1", "2") if separable else ("",):
        for part, layout in (("depthwise", DEPTHWISE), ("pointwise", POINTWISE)):
            full = f"{part}{suffix}"
            yield Match(f"{torch}.{full}.weight", f"params/{ours}_{full}", (place,), layout)
    if separable:
        yield from _moments(f"{torch}.norm1", f"{ours}_middle", (place,))
    yield from _moments(f"{torch}.norm2" if separable else f"{torch}.norm", ours, (place,))
