"""The charts of a page that show alphas: a heat map with a slider over rounds, an edge's history.

Both read one data set, a row a sampled round, and unfold it in the browser: named one by one, the
numbers would take ten times the room.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fednas_jax.report.charts import Spec, finish
from fednas_jax.report.vega import alt
from fednas_jax.spaces.darts.genotype import KINDS, derive, softmax
from fednas_jax.spaces.darts.space import EDGES, PRIMITIVES

_MOST_ROUNDS = 101
"""More are thinned out evenly: the slider is no finer, and the page stays small."""

_INPUTS = ("cₖ₋₂", "cₖ₋₁")
EDGE_LABELS = [f"{_INPUTS[state] if state < 2 else state - 2} → {node}" for node, state in EDGES]
"""Of the 14 edges, as text: a cell's inputs are cₖ₋₂ and cₖ₋₁, its nodes 0 to 3."""


class Alphas:
    """The operations' probabilities over the rounds of a run, and charts of them."""

    def __init__(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Args: history, the rows of alphas.jsonl; at least one."""
        picked = np.unique(np.linspace(0, len(history) - 1, _MOST_ROUNDS).round().astype(int))
        sampled = [history[index] for index in picked]
        self.rounds: list[int] = [row["round"] for row in sampled]
        self._rows = [_row(row) for row in sampled]
        values = [p for row in self._rows for kind in KINDS for p in row[kind]]
        self._range = [min(values), max(values)]

    def _data(self) -> alt.InlineData:
        return alt.InlineData(values=self._rows)

    def _at_round(self) -> alt.Parameter:
        return alt.param(name="at_round", value=self.rounds[-1])

    def heat_map(self, kind: str) -> Spec:
        """Edges by operations of a kind of cell; what the derived genotype keeps is framed.

        The signal `at_round` says of which round.
        """
        base = (
            alt.Chart(self._data())
            .transform_filter("datum.round == at_round")
            .transform_flatten([kind], ["probability"])
            .transform_window(number="row_number()")
            .transform_calculate(
                place="datum.number - 1",
                edge=f"{EDGE_LABELS}[floor(datum.place / {len(PRIMITIVES)})]",
                operation=f"{list(PRIMITIVES)}[datum.place % {len(PRIMITIVES)}]",
            )
            .encode(
                x=alt.X(
                    "operation:N",
                    sort=list(PRIMITIVES),
                    title=None,
                    axis=alt.Axis(labelAngle=-40, orient="top", ticks=False, domain=False),
                ),
                y=alt.Y(
                    "edge:N", sort=EDGE_LABELS, title=None, axis=alt.Axis(ticks=False, domain=False)
                ),
            )
        )
        low, high = self._range
        shade = alt.Scale(domain=[low, max(high, low + 1e-3)], range=[0.05, 1])
        tiles = base.mark_rect(color="var(--accent)", cornerRadius=2).encode(
            opacity=alt.Opacity("probability:Q", scale=shade, legend=None),
            tooltip=["edge:N", "operation:N", alt.Tooltip("probability:Q", format=".4f")],
        )
        frames = base.transform_filter(f"indexof(datum.{kind}_kept, datum.place) >= 0").mark_rect(
            fillOpacity=0, stroke="var(--test)", strokeWidth=2, cornerRadius=2
        )
        dark = f"datum.probability > {low + 0.55 * (high - low)}"
        numbers = base.mark_text(fontSize=9).encode(
            text=alt.Text("probability:Q", format=".2f"),
            color=alt.condition(dark, alt.value("var(--on-accent)"), alt.value("currentColor")),
        )
        chart = alt.layer(tiles, numbers, frames).properties(height=22 * len(EDGES))
        return finish(
            chart.add_params(self._at_round()),
            f"Heat map of the {kind} cell: probability of each of 8 operations on each of 14 edges "
            f"in the round chosen with the slider, between {low:.3f} and {high:.3f}; the 8 that "
            "the genotype keeps are framed.",
        )

    def edge_history(self) -> Spec:
        """An edge's 8 probabilities over rounds; signal `edge`: 0..13 normal, 14..27 reduce."""
        count = len(PRIMITIVES)
        names = list(PRIMITIVES)
        base = alt.Chart(self._data())
        color = alt.Color(
            "operation:N",
            scale=alt.Scale(domain=names, range=[f"var(--{name})" for name in names]),
            legend=alt.Legend(title=None),
        )
        lines = (
            base.transform_calculate(
                probability=f"slice(edge < 14 ? datum.normal : datum.reduce, "
                f"(edge % 14) * {count}, (edge % 14 + 1) * {count})",
                operation=f"{names}",
            )
            .transform_flatten(["probability", "operation"])
            .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=25))
            .encode(
                x=alt.X(
                    "round:Q",
                    axis=alt.Axis(tickMinStep=1, format="d", grid=False),
                    scale=alt.Scale(nice=False, padding=8),
                ),
                y=alt.Y("probability:Q", scale=alt.Scale(zero=False), axis=alt.Axis(format="~g")),
                color=color,
                tooltip=["operation:N", "round:Q", alt.Tooltip("probability:Q", format=".4f")],
            )
        )
        mark = (
            base.transform_filter("datum.round == at_round")
            .mark_rule(color="currentColor", opacity=0.4, strokeDash=[4, 4])
            .encode(x="round:Q")
        )
        chart = alt.layer(mark, lines).properties(height=280)
        return finish(
            chart.add_params(self._at_round(), alt.param(name="edge", value=0)),
            f"Line chart of the probabilities of the 8 operations on one edge, over rounds "
            f"{self.rounds[0]} to {self.rounds[-1]}; which edge is chosen above the chart.",
        )


def _row(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Probabilities [112] a kind, and the places among them that the derived genotype keeps."""
    genotype = derive(entry)
    row: dict[str, Any] = {"round": entry["round"]}
    for kind in KINDS:
        row[kind] = softmax(entry[kind]).round(4).ravel().tolist()
        row[f"{kind}_kept"] = [
            EDGES.index((index // 2, state)) * len(PRIMITIVES) + PRIMITIVES.index(name)
            for index, (name, state) in enumerate(getattr(genotype, kind))
        ]
    return row


def architecture(rows: Sequence[Mapping[str, Any]]) -> Spec:
    """Convolutions and skips of the derived cells over rounds."""
    names = {
        "normal_convolutions": ("convolutions, normal", "var(--sep_conv_5x5)"),
        "reduce_convolutions": ("convolutions, reduction", "var(--sep_conv_3x3)"),
        "normal_skips": ("skips, normal", "var(--max_pool_3x3)"),
        "reduce_skips": ("skips, reduction", "var(--avg_pool_3x3)"),
    }
    points = [
        {"round": row["round"], "what": label, "operations": row[name]}
        for row in rows
        for name, (label, _) in names.items()
        if row.get(name) is not None
    ]
    labels, colors = zip(*names.values(), strict=True)
    chart = (
        alt.Chart(alt.Data(values=points))
        .mark_line(interpolate="step-after", strokeWidth=2, point=alt.OverlayMarkDef(size=25))
        .encode(
            x=alt.X(
                "round:Q",
                axis=alt.Axis(tickMinStep=1, format="d", grid=False),
                scale=alt.Scale(nice=False, padding=8),
            ),
            y=alt.Y("operations:Q", title="of 8 operations", axis=alt.Axis(tickMinStep=1)),
            color=alt.Color(
                "what:N",
                scale=alt.Scale(domain=list(labels), range=list(colors)),
                legend=alt.Legend(title=None),
            ),
            tooltip=["what:N", "round:Q", "operations:Q"],
        )
        .properties(height=220)
    )
    last = rows[-1]
    return finish(
        chart,
        "Line chart of how many of a cell's 8 operations are convolutions and skips, over rounds. "
        f"At the end {last['normal_convolutions']} convolutions in the normal cell and "
        f"{last['reduce_convolutions']} in the reduction cell.",
    )
