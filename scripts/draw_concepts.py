"""Draws the pictures of docs/concepts_nas.md and docs/concepts_fl.md from a real search.

    python -m scripts.draw_concepts [--out=docs/images] [--workdir=runs/concepts]

Eight clients search for ten rounds on the digits of scikit-learn: some minutes on two cores. Where
the search of `--workdir` is finished, it is read and not repeated. `fednas_jax.report` draws all
that it has a drawing for; the rest is drawn here, in its colours.
"""

import argparse
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fednas_jax.runtime import environment

if __name__ == "__main__":
    environment.prepare("scripts.draw_concepts")  # as the command line does

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path as Outline
from PIL import Image

from fednas_jax import config as schema
from fednas_jax import experiment
from fednas_jax.algorithms.fednas import findings
from fednas_jax.data import partition as partitions
from fednas_jax.data.datasets import Dataset
from fednas_jax.experiment import assembly
from fednas_jax.federated.clients import divide
from fednas_jax.federated.participation import Participation
from fednas_jax.fields import config_file
from fednas_jax.report import plots
from fednas_jax.report.cells import drawing
from fednas_jax.report.colors import ON_OPERATION_COLORS, OPERATION_COLORS, SERIES
from fednas_jax.runtime.files import make_folder, write_atomic
from fednas_jax.spaces.darts.genotype import Genotype, derive, largest_probability, softmax
from fednas_jax.spaces.darts.space import EDGES, PRIMITIVES

DPI, COLORS = 100, 200
KEPT = "#cc3311"
"""The frame of what a genotype keeps, as in `plots.alphas`."""
STATES = ("$c_{k-2}$", "$c_{k-1}$", "0", "1", "2", "3")
PARTITIONS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("homo", {}),
    ("hetero", {"concentration": 10.0}),
    ("hetero", {"concentration": 0.5}),
    ("shards", {}),
)
"""Partitions that are drawn beside each other, from clients that are alike to unlike ones."""


def search_config() -> Any:
    """The search that the pictures show.

    Its alphas learn ten times as fast as in `digits_quick`, so that ten short rounds move them
    visibly.
    """
    config = config_file.load("digits_quick")
    config.rounds = 10
    config.supernet.init_channels = 4
    config.arch_optimizer.learning_rate = 0.03
    config.partition.concentration = 0.5
    config.report.progress = config.report.page = config.report.plots = False
    return config


def main(argv: Sequence[str] | None = None) -> int:
    """Draws all pictures; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--workdir", type=Path, default=Path("runs/concepts"))
    given = parser.parse_args(argv)
    config = search_config()
    experiment.run(config, given.workdir)
    history = findings.read_alphas(given.workdir / "alphas.jsonl", last_round=config.rounds)
    draw(config, history, given.out)
    return 0


def draw(config: Any, history: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Writes every picture.

    Args:
      config: of the search: its data, clients and parts are drawn.
      history: the alphas of its rounds, from `findings.read_alphas`.
      out: the folder.
    """
    make_folder(out, "--out")
    resolved = schema.resolve(config)
    dataset = assembly.load_dataset(resolved)
    dealt = assembly.make_partition(resolved, dataset)
    counts = partitions.class_counts(dealt, dataset.train.labels, dataset.num_classes)
    genotype = derive(history[-1])
    pictures = {
        "concepts_mixed_edge": mixed_edge(history),
        "concepts_supernet_cell": supernet_cell(history[-1], genotype),
        "concepts_alphas": plots.alphas(history[-1], most=largest_probability(history)),
        "concepts_alphas_over_rounds": plots.alphas_over_rounds(history),
        "concepts_genotype_cell": drawing.draw_cell(genotype, "normal"),
        "concepts_partition": plots.partition(counts, dataset.class_names),
        "concepts_partitions": unlike_partitions(dataset, resolved["partition"]["num_clients"]),
        "concepts_cohorts": cohorts(resolved),
        "concepts_parts": parts(resolved, dealt, len(dataset.test.labels)),
    }
    for name, figure in pictures.items():
        save(figure, out / f"{name}.png")


def save(figure: Figure, path: Path) -> None:
    """Writes a picture with few colours, on white: it is as readable on a dark page."""
    whole, small = io.BytesIO(), io.BytesIO()
    figure.savefig(whole, format="png", dpi=DPI, facecolor="white")
    palette = Image.open(whole).convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    palette.save(small, "png", optimize=True)
    write_atomic(path, small.getvalue())


# Architecture search -----------------------------------------------------------------------------


def mixed_edge(history: Sequence[Mapping[str, Any]]) -> Figure:
    """One edge before and after the search: eight operations, the wider the more probable.

    The edge is the one, of the normal cell, whose most probable operation is most probable.
    """
    values = softmax(history[-1]["normal"])
    edge = int(values[:, 1:].max(axis=1).argmax())
    node, state = EDGES[edge]
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    for axes, row in zip(figure.subplots(1, 2), (history[0], history[-1]), strict=True):
        probabilities = softmax(row["normal"])[edge]
        number = row["round"]
        axes.set_title("before the search" if not number else f"after round {number}", fontsize=11)
        _mixture(axes, probabilities, STATES[state], str(node))
    return figure


def _mixture(axes: Axes, probabilities: np.ndarray, start: str, end: str) -> None:
    axes.set(xlim=(-0.45, 5.45), ylim=(-4.1, 4.1))
    axes.set_axis_off()
    equal = np.ptp(probabilities) < 0.01  # as before a search
    best = None if equal else 1 + int(probabilities[1:].argmax())
    for index, (name, value) in enumerate(zip(PRIMITIVES, probabilities, strict=True)):
        y, color, width = 3.5 - index, OPERATION_COLORS[name], 16 * float(value)
        for points in (
            ((0, 0), (0.9, 0), (0.6, y), (1.5, y)),
            ((3.5, y), (4.4, y), (4.1, 0), (5, 0)),
        ):
            _curve(axes, points, color, width)
        edge = KEPT if index == best else color
        _box(axes, 2.5, y, (2.0, 0.74), color, edge, lw=2.4 if index == best else 1)
        label = f"{name}  {value:.0%}"
        ink = ON_OPERATION_COLORS[name]
        axes.text(2.5, y, label, ha="center", va="center", fontsize=9, c=ink, zorder=4)
    for x, name in ((0.0, start), (5.0, end)):
        _box(axes, x, 0, (0.72, 1.1), "#e8edf3", "#333333")
        axes.text(x, 0, name, ha="center", va="center", fontsize=12, zorder=4)


def supernet_cell(arch: Mapping[str, Any], genotype: Genotype) -> Figure:
    """The normal cell of the supernet above, and what the genotype keeps of it below."""
    probabilities = softmax(arch["normal"])
    kept = {
        (index // 2, state): PRIMITIVES.index(name)
        for index, (name, state) in enumerate(genotype.normal)
    }
    figure = Figure(figsize=(10, 8.6), layout="constrained")
    above, below = figure.subplots(2, 1)
    above.set_title("the supernet's cell: 14 edges, eight operations on each", fontsize=12)
    below.set_title(
        "the genotype's cell: two edges into each node, one operation on each", fontsize=12
    )
    for edge in EDGES:
        _bundle(above, edge, range(len(PRIMITIVES)), probabilities[EDGES.index(edge)])
        if edge in kept:
            _bundle(below, edge, [kept[edge]], np.full(len(PRIMITIVES), 0.3))
    for axes in (above, below):
        axes.set(xlim=(-0.5, 5.5), ylim=(-1.85, 2.25))
        axes.set_axis_off()
        for x, name in enumerate(STATES):
            _box(axes, x, 0, (0.36, 0.3), "#e8edf3" if x < 2 else "white", "#333333")
            axes.text(x, 0, name, ha="center", va="center", fontsize=12, zorder=4)
    handles = [Rectangle((0, 0), 1, 1, color=OPERATION_COLORS[name]) for name in PRIMITIVES]
    figure.legend(handles, PRIMITIVES, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _bundle(
    axes: Axes, edge: tuple[int, int], operations: Sequence[int], probabilities: np.ndarray
) -> None:
    """Lines of an edge's operations: above the states from even ones, below from odd ones."""
    node, state = edge
    start, end, side = state, node + 2, 1 if state % 2 == 0 else -1
    for place, operation in enumerate(operations):
        apart = (place - (len(operations) - 1) / 2) * 0.045
        height = side * (0.36 * (end - start) + 0.12 + apart)
        points = ((start, 0), (start + 0.15, 1.33 * height), (end - 0.15, 1.33 * height), (end, 0))
        color = OPERATION_COLORS[PRIMITIVES[operation]]
        _curve(axes, points, color, 10 * float(probabilities[operation]))


def _curve(axes: Axes, points: Sequence[tuple[float, float]], color: str, width: float) -> None:
    codes = [Outline.MOVETO, *[Outline.CURVE4] * 3]
    axes.add_patch(PathPatch(Outline(points, codes), fill=False, ec=color, lw=width, zorder=1))


def _box(
    axes: Axes, x: float, y: float, size: tuple[float, float], face: str, edge: str, lw: float = 1.2
) -> None:
    width, height = size
    shape = "round,pad=0,rounding_size=0.1"
    corner = (x - width / 2, y - height / 2)
    axes.add_patch(
        FancyBboxPatch(corner, width, height, boxstyle=shape, fc=face, ec=edge, lw=lw, zorder=3)
    )


# Federated learning ------------------------------------------------------------------------------


def unlike_partitions(dataset: Dataset, num_clients: int) -> Figure:
    """How many examples of each class every client holds, in several partitions."""
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    panels = figure.subplots(1, len(PARTITIONS), sharey=True)
    for axes, (name, options) in zip(panels, PARTITIONS, strict=True):
        dealt = partitions.make(name, dataset.train, num_clients=num_clients, seed=0, **options)
        counts = partitions.class_counts(dealt, dataset.train.labels, dataset.num_classes)
        axes.imshow(np.sqrt(counts.T), cmap="Blues", aspect="auto", vmin=0, vmax=12)
        for (client, label), count in np.ndenumerate(counts):
            color = "white" if count > 0.36 * 12**2 else "black"
            axes.text(client, label, str(count), ha="center", va="center", fontsize=8, c=color)
        more = "".join(f" {value:g}" for value in options.values())
        axes.set(title=f"{name}{more}", xlabel="client")
        axes.set_xticks(range(num_clients))
        axes.set_yticks(range(dataset.num_classes), dataset.class_names)
        axes.tick_params(length=0)
    panels[0].set(ylabel="class")
    return figure


def cohorts(config: Mapping[str, Any], clients: int = 20, rounds: int = 12) -> Figure:
    """Which clients take part in each round, of many clients of whom a quarter is drawn."""
    drawing_of = {**config, "clients_per_round": clients // 4}
    key = jax.random.fold_in(jax.random.key(config["seed"]), 1)
    participation = Participation(drawing_of, np.ones(clients, np.int32), key)
    present = np.zeros((rounds, clients))
    for number in range(1, rounds + 1):
        present[number - 1, participation.participants(number).ids] = 1
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    for (row, client), drawn in np.ndenumerate(present):
        corner = (client - 0.42, row + 0.58)
        color = SERIES["train"][1] if drawn else "#e8edf3"
        axes.add_patch(Rectangle(corner, 0.84, 0.84, color=color, lw=0))
    axes.set(xlim=(-0.6, clients - 0.4), ylim=(rounds + 0.6, 0.4), xlabel="client", ylabel="round")
    axes.set_xticks(range(clients))
    axes.set_yticks(range(1, rounds + 1))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def parts(config: Mapping[str, Any], dealt: partitions.Partition, tests: int) -> Figure:
    """What each client's examples are used for in FedNAS, and the test set, as bars."""
    client = config["client"]
    divisions = [
        divide(indices, client["held_out_fraction"], client["train_fraction"])
        for indices in dealt.clients
    ]
    uses = ("train", "valid", "held_out")
    sizes = np.array([[len(getattr(one, use)) for use in uses] for one in divisions])
    ends = np.array([list(itertools.accumulate(row)) for row in sizes])
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    names = [*(f"client {number}" for number in range(len(sizes))), "server"]
    for column, use in enumerate(uses):
        label, color = SERIES[use]
        left = ends[:, column] - sizes[:, column]
        axes.barh(names[:-1], sizes[:, column], left=left, color=color, label=label)
    label, color = SERIES["test"]
    axes.barh(names[-1:], [tests], color=color, label=label)
    axes.invert_yaxis()
    axes.set(xlabel="examples")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    axes.legend(frameon=False, loc="center right")
    return figure


if __name__ == "__main__":
    raise SystemExit(main())
