"""What a page is made of; `assets/page.html` knows how each part looks."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias


class Tile(NamedTuple):
    """A number to be seen first."""

    label: str
    value: str
    note: str = ""


class Tiles(NamedTuple):
    """Tiles side by side."""

    tiles: Sequence[Tile]
    kind: str = "tiles"


class Chart(NamedTuple):
    """A chart; `spec` is Vega-Lite's, with a description for those who cannot see it."""

    id: str
    title: str
    spec: dict[str, Any]
    wide: bool = False
    kind: str = "chart"


class Drawing(NamedTuple):
    """An SVG with a title of its own; scrolls where the page is narrow."""

    title: str
    svg: str
    kind: str = "drawing"


class Slider(NamedTuple):
    """Sets a signal of the charts to one of `marks`; begins at the last."""

    id: str
    label: str
    signal: str
    marks: Sequence[int]
    charts: Sequence[str]
    kind: str = "slider"


class Choice(NamedTuple):
    """Sets a signal of the charts to the value of one of (value, text); begins at the first."""

    id: str
    label: str
    signal: str
    options: Sequence[tuple[Any, str]]
    charts: Sequence[str]
    kind: str = "choice"


class Table(NamedTuple):
    """A table; one with a title folds."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    open: bool = False
    kind: str = "table"


class Code(NamedTuple):
    """Text to be copied."""

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
