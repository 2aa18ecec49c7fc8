"""The cells of a genotype as SVG inside of a page, in the page's own colours."""

import io
import re
from collections.abc import Sequence

import matplotlib

from fednas_jax.report.cells import drawing as cells
from fednas_jax.report.colors import OPERATION_COLORS
from fednas_jax.report.page_parts import Drawing, Section
from fednas_jax.spaces.darts.genotype import KINDS, Genotype

_TITLES = {"normal": "normal cell", "reduce": "reduction cell"}


def section(drawings: Sequence[Drawing]) -> Section:
    """The section of a page that shows cells."""
    text = "Each node adds two operations of earlier states."
    return Section("cells", "Cells", text, list(drawings))


def part(title: str, genotype: Genotype) -> Drawing:
    """Both cells with a title; errors as of `drawing`."""
    return Drawing(title, drawing(genotype))


def drawing(genotype: Genotype) -> str:
    """Draws both cells; black and white follow the page, light or dark.

    Raises:
      UserError: the genotype cannot be built.
    """
    figure = cells.draw_genotype(genotype)
    content = io.StringIO()
    # A salt of its own: two drawings of a page must not share the names of their clip paths.
    with matplotlib.rc_context({"svg.hashsalt": f"{genotype}"}):
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    words = " ".join(describe(genotype, kind) for kind in KINDS)
    return _in_page_colors(_without_head(content.getvalue()), words)


def describe(genotype: Genotype, kind: str) -> str:
    """The cell in words, for those who cannot see it."""
    pairs = getattr(genotype, kind)

    def named(state: int) -> str:
        return ("the input c(k-2)", "the input c(k-1)")[state] if state < 2 else f"node {state - 2}"

    nodes = [
        f"node {node} adds "
        + " and ".join(
            f"{name} of {named(state)}" for name, state in pairs[2 * node : 2 * node + 2]
        )
        for node in range(len(pairs) // 2)
    ]
    return f"Drawing of the {_TITLES[kind]}: {'; '.join(nodes)}."


def _without_head(svg: str) -> str:
    """From the element on: no XML declaration, no metadata, no style that would reach the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)


def _in_page_colors(svg: str, description: str) -> str:
    for name, color in OPERATION_COLORS.items():
        svg = svg.replace(color, f"var(--{name})")
    # Boxes of states; what is white otherwise is the text on a coloured label, and stays so.
    svg = svg.replace("fill: #ffffff; stroke: #333333", "fill: var(--surface); stroke: var(--ink)")
    svg = svg.replace("fill: #e8edf3; stroke: #333333", "fill: var(--soft); stroke: var(--ink)")
    svg = svg.replace("#9a9a9a", "var(--quiet)")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{description}" ', 1)
