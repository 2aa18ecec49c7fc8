"""The sections of a search's page: the cells that it has found, and its alphas over rounds."""

from collections.abc import Sequence
from typing import Any

from fednas_jax.algorithms.fednas.findings import ALPHAS_FILE, read_alphas
from fednas_jax.report.page_parts import Chart, Choice, Part, Section, Slider
from fednas_jax.report.run_types import RunFolder
from fednas_jax.spaces.darts import genotype as genotypes

KIND_TITLES = {"normal": "Normal cell", "reduce": "Reduction cell"}


def sections(run: RunFolder) -> list[Section]:
    """The cells of the best genotype, and the alphas, as far as they were recorded."""
    # Imported here, since it is slow to import and needs packages that may not be installed.
    from fednas_jax.report.cells import page_cells

    history = alphas_of(run)
    chosen = run.summary["best_round"]
    best = next((genotypes.derive(row) for row in history if row.get("round") == chosen), None)
    drawn = [] if best is None else [page_cells.part(f"Best round: {chosen}", best)]
    return [
        page_cells.section(drawn),
        Section(
            "alphas",
            "Alphas",
            "The probabilities of the operations on each edge. The slider goes through the rounds; "
            "frames mark the operations in the genotype of that round.",
            _parts(run, history) if history else [],
        ),
    ]


def alphas_of(run: RunFolder) -> list[dict[str, Any]]:
    """The alphas before the first round and after each; none if the file is damaged.

    Args:
      run: a search.

    Returns:
      Dictionaries with "round", and "normal" and "reduce", raw alphas [14, 8] each.
    """
    return read_alphas(run.folder / ALPHAS_FILE, run.rows[-1]["round"])


def _parts(run: RunFolder, history: Sequence[dict[str, Any]]) -> list[Part]:
    from fednas_jax.report.cells import alpha_charts

    alphas = alpha_charts.Alphas(history)
    maps = {f"chart-alphas-{kind}": kind for kind in KIND_TITLES}
    over_rounds = "chart-edge"
    edges = [
        (14 * index + edge, f"{kind}: {label}")
        for index, kind in enumerate(KIND_TITLES)
        for edge, label in enumerate(alpha_charts.EDGE_LABELS)
    ]
    parts: list[Part] = [
        Slider("slider-round", "Round", "at_round", alphas.rounds, [*maps, over_rounds])
    ]
    parts += [Chart(id, KIND_TITLES[kind], alphas.heat_map(kind)) for id, kind in maps.items()]
    parts += [
        Choice("choice-edge", "Edge", "edge", edges, [over_rounds]),
        Chart(over_rounds, "One edge over rounds", alphas.edge_history()),
    ]
    if "normal_convolutions" in run.rows[-1]:
        spec = alpha_charts.architecture(run.rows)
        parts.append(Chart("chart-operations", "Operations of the derived cells", spec))
    return parts
