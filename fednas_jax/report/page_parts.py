"""The parts of a page; `assets/page.html` decides how each part looks."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias


class Tile(NamedTuple):
    """A prominent number."""

    label: str
    value: str
    note: str = ""


class Tiles(NamedTuple):
    """Tiles side by side."""

    tiles: Sequence[Tile]
    kind: str = "tiles"


class Slider(NamedTuple):
    """A slider that sets a signal of the charts to one of `marks`."""

    id: str
    label: str
    signal: str
    marks: Sequence[int]
    charts: Sequence[str]
    start: int | None = None
    """The mark at which it starts; None: the last."""
    notes: Mapping[int, str] = {}
    """Text beside some of the marks."""
    kind: str = "slider"

    @property
    def at(self) -> int:
        """The mark at which it starts."""
        return self.marks[-1] if self.start is None else self.start

    @property
    def texts(self) -> list[str]:
        """The marks as they are shown."""
        return [", ".join(filter(None, (f"{m}", self.notes.get(m, "")))) for m in self.marks]


class Chart(NamedTuple):
    """A chart; `spec` is a Vega-Lite specification with a description for screen readers.

    `spec["usermeta"]["legend"]` holds pairs of label and CSS colour, or triples with the line's
    dashes and gaps in pixels ("6 3"), for the legend above the chart, which wraps on a narrow page.
    """

    id: str
    title: str
    spec: dict[str, Any]
    wide: bool = False
    follows: Slider | None = None
    """The slider whose value stands behind the title."""
    kind: str = "chart"

    @property
    def legend(self) -> Sequence[Sequence[str]]:
        """The entries of the legend; none if the chart has none, or draws its own."""
        return self.spec.get("usermeta", {}).get("legend", [])


class Drawing(NamedTuple):
    """An SVG with a title, which scrolls on a narrow page."""

    title: str
    svg: str
    kind: str = "drawing"


class Scale(NamedTuple):
    """The colour scale of heat maps, from 0 to `most`, with a mark."""

    title: str
    most: float
    mark: float
    mark_label: str
    note: str = ""
    kind: str = "scale"


class Choice(NamedTuple):
    """A choice that sets a signal of the charts to a value of (value, text); starts at the
    first."""

    id: str
    label: str
    signal: str
    options: Sequence[tuple[Any, str]]
    charts: Sequence[str]
    kind: str = "choice"


class Table(NamedTuple):
    """A table; one with a title can be folded."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    open: bool = False
    kind: str = "table"


class Code(NamedTuple):
    """Text to copy."""

    title: str
    text: str
    kind: str = "code"


Part: TypeAlias = Tiles | Chart | Drawing | Scale | Slider | Choice | Table | Code


class Section(NamedTuple):
    """Parts under a heading."""

    id: str
    title: str
    text: str
    parts: Sequence[Part]


class Page(NamedTuple):
    """A whole page."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    footer: str
