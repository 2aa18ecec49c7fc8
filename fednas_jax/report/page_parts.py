"""The parts of a page; `assets/page.html` decides how each part looks."""

from collections.abc import Sequence
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


class Chart(NamedTuple):
    """A chart; `spec` is a Vega-Lite specification with a description for screen readers."""

    id: str
    title: str
    spec: dict[str, Any]
    wide: bool = False
    kind: str = "chart"


class Drawing(NamedTuple):
    """An SVG with a title, which scrolls on a narrow page."""

    title: str
    svg: str
    kind: str = "drawing"


class Slider(NamedTuple):
    """A slider that sets a signal of the charts to one of `marks`; starts at the last."""

    id: str
    label: str
    signal: str
    marks: Sequence[int]
    charts: Sequence[str]
    kind: str = "slider"


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


Part: TypeAlias = Tiles | Chart | Drawing | Slider | Choice | Table | Code


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
