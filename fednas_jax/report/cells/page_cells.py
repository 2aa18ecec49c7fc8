"""The cells of a genotype as SVG inside of a page, in the page's own colours."""

import io
import re
from collections.abc import Sequence

import matplotlib

from fednas_jax.report.cells import drawing as cells
from fednas_jax.report.colors import ON_OPERATION_COLORS, OPERATION_COLORS
from fednas_jax.report.page_parts import Drawing, Section
from fednas_jax.spaces.darts.genotype import KINDS, Genotype

_WIDEST, _NARROWEST = 7.0, 5.2
"""Root ems for an inch of a drawing, where the page is wide and where it is narrow."""

_TITLES = {"normal": "normal cell", "reduce": "reduction cell"}


def section(drawings: Sequence[Drawing]) -> Section:
    """The section of a page that shows cells."""
    text = (
        "Each node adds two operations of earlier states; the grey lines concatenate the nodes "
        "into the output. Separable convolutions are blue, dilated ones green, those with larger "
        "kernels darker."
    )
    return Section("cells", "Cells", text, list(drawings))


def parts(about: str, genotype: Genotype) -> list[Drawing]:
    """Both cells, each with its kind and `about` as its title; errors as of `drawing`."""
    return [
        Drawing(f"{_TITLES[kind].capitalize()}, {about}", drawing(genotype, kind)) for kind in KINDS
    ]


def drawing(genotype: Genotype, kind: str) -> str:
    """Draws a cell; black and white follow the page, light or dark.

    Raises:
      UserError: the genotype cannot be built.
    """
    figure = cells.draw_cell(genotype, kind, bare=True)
    content = io.StringIO()
    # A salt of its own: two drawings of a page must not share the names of their clip paths.
    with matplotlib.rc_context({"svg.hashsalt": f"{kind} {genotype}"}):
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    svg = _without_head(content.getvalue())
    return _in_page_colors(svg, describe(genotype, kind), figure.get_figwidth())


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


def _in_page_colors(svg: str, description: str, inches: float) -> str:
    """In the page's colours, and in the page's scale: that of all cells is the same."""
    on_skip = ON_OPERATION_COLORS["skip_connect"]
    svg = svg.replace(on_skip, "var(--on-skip_connect)")
    for name, color in OPERATION_COLORS.items():
        svg = svg.replace(color, f"var(--{name})")
    # Boxes of states; what is white otherwise is the text on a coloured label, and stays so.
    svg = svg.replace("fill: #ffffff; stroke: #333333", "fill: var(--surface); stroke: var(--ink)")
    svg = svg.replace("fill: #e8edf3; stroke: #333333", "fill: var(--soft); stroke: var(--ink)")
    svg = svg.replace("#9a9a9a", "var(--quiet)")
    widest, narrowest = (f"{rems * inches:.1f}rem" for rems in (_WIDEST, _NARROWEST))
    size = f"width: {widest}; min-width: {narrowest}; max-width: 100%"
    return svg.replace("<svg ", f'<svg role="img" aria-label="{description}" style="{size}" ', 1)
