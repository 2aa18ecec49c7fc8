"""The sections of a search's page: the cells that it has found, and its alphas over rounds."""

from collections.abc import Sequence
from typing import Any

from fednas_jax.algorithms.fednas.findings import ALPHAS_FILE, read_alphas
from fednas_jax.report.page_parts import Chart, Choice, Part, Scale, Section, Slider
from fednas_jax.report.run_types import RunFolder
from fednas_jax.spaces.darts import genotype as genotypes

KIND_TITLES = {"normal": "Normal cell", "reduce": "Reduction cell"}


def sections(run: RunFolder) -> list[Section]:
    """The cells of the best genotype, and the alphas, as far as they were recorded.

    Both show the best round at first, or the last if no round was selected.
    """
    # Imported here, since it is slow to import and needs packages that may not be installed.
    from fednas_jax.report.cells import page_cells

    history = alphas_of(run)
    chosen = run.summary["best_round"]
    best = next((genotypes.derive(row) for row in history if row.get("round") == chosen), None)
    drawn = [] if best is None else page_cells.parts(f"round {chosen}, {run.note}", best)
    return [
        page_cells.section(drawn),
        Section("alphas", "Alphas", _about(run, bool(drawn)), _parts(run, history)),
    ]


def _about(run: RunFolder, drawn: bool) -> str:
    chosen = f"round {run.summary['best_round']}, {run.note}"
    stays = f" They start at {chosen}; the cells above stay at it." if drawn else ""
    return (
        "The maps show the probability of each operation on each edge, the softmax of its alphas. "
        f"The slider moves both maps and the dashed lines through the rounds.{stays} Frames mark "
        "the operations in the genotype of the shown round. The operation none is never framed: "
        "the derivation of a genotype leaves it out, however probable it is."
    )


def alphas_of(run: RunFolder) -> list[dict[str, Any]]:
    """The alphas before the first round and after each; none if the file is damaged.

    Args:
      run: a search.

    Returns:
      Dictionaries with "round", and "normal" and "reduce", raw alphas [14, 8] each.
    """
    return read_alphas(run.folder / ALPHAS_FILE, run.rows[-1]["round"])


def _parts(run: RunFolder, history: Sequence[dict[str, Any]]) -> list[Part]:
    if not history:
        return []
    from fednas_jax.report.cells import alpha_charts

    chosen = run.summary["best_round"]
    alphas = alpha_charts.Alphas(history, chosen)
    maps = {f"chart-alphas-{kind}": kind for kind in KIND_TITLES}
    over_rounds, operations = "chart-edge", "chart-operations"
    counted = "normal_convolutions" in run.rows[-1]
    moved = [*maps, over_rounds, *([operations] if counted else [])]
    notes = {alphas.rounds[-1]: "the last", chosen: run.note}
    slider = Slider("slider-round", "Round", "at_round", alphas.rounds, moved, alphas.at, notes)
    edges = [
        (14 * index + edge, f"{kind}: {label}")
        for index, kind in enumerate(KIND_TITLES)
        for edge, label in enumerate(alpha_charts.EDGE_LABELS)
    ]
    parts: list[Part] = [
        slider,
        *(
            Chart(id, KIND_TITLES[kind], alphas.heat_map(kind), follows=slider)
            for id, kind in maps.items()
        ),
        Scale(
            "Probability",
            alphas.most,
            alpha_charts.UNIFORM,
            alpha_charts.UNIFORM_LABEL,
            f"From 0 to the largest of all rounds. At {alpha_charts.UNIFORM_LABEL} all operations "
            "of an edge are equally probable.",
        ),
        Choice("choice-edge", "Edge", "edge", edges, [over_rounds]),
        Chart(over_rounds, "One edge over rounds", alphas.edge_history()),
    ]
    if counted:
        spec = alphas.architecture(run.rows)
        parts.append(Chart(operations, "Operations of the derived cells", spec))
    return parts
