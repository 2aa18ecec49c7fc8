"""The charts of a page that show alphas: a heat map with a slider over rounds, an edge's history.

Both read one data set, a row a sampled round, and unfold it in the browser: named one by one, the
numbers would take ten times the room.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fednas_jax.report.charts import Spec, finish, round_axis
from fednas_jax.report.vega import alt
from fednas_jax.spaces.darts.genotype import KINDS, derive, largest_probability, softmax
from fednas_jax.spaces.darts.space import EDGES, PRIMITIVES

_MOST_ROUNDS = 101
"""More are thinned out evenly: the slider is no finer, and the page stays small."""

_INPUTS = ("cₖ₋₂", "cₖ₋₁")
UNIFORM, UNIFORM_LABEL = 1 / len(PRIMITIVES), f"1/{len(PRIMITIVES)}"
"""The probability of each operation where all alphas of an edge are equal, and its label."""

EDGE_LABELS = [f"{_INPUTS[state] if state < 2 else state - 2} → {node}" for node, state in EDGES]
"""Of the 14 edges, as text: a cell's inputs are cₖ₋₂ and cₖ₋₁, its nodes 0 to 3."""


class Alphas:
    """The operations' probabilities over the rounds of a run, and charts of them."""

    def __init__(self, history: Sequence[Mapping[str, Any]], at: int | None = None) -> None:
        """Samples the rounds.

        Args:
          history: the rows of alphas.jsonl; at least one.
          at: the round that charts show at first, which is always sampled; None, or a round that is
            not in the history: the last.
        """
        sampled = [history[index] for index in _picked([row["round"] for row in history], at)]
        self.rounds: list[int] = [row["round"] for row in sampled]
        self.at = at if at in self.rounds else self.rounds[-1]
        """The round that charts show at first."""
        self._rows = [_row(row) for row in sampled]
        self.most: float = round(largest_probability(history), 4)
        """The largest probability of all rounds, also of those that are not sampled."""

    def _data(self) -> alt.InlineData:
        return alt.InlineData(values=self._rows)

    def _at_round(self) -> alt.Parameter:
        return alt.param(name="at_round", value=self.at)

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
        shade = alt.Scale(domain=[0, self.most], range=[0, 1])
        tiles = base.mark_rect(color="var(--heat)", cornerRadius=2).encode(
            opacity=alt.Opacity("probability:Q", scale=shade, legend=None),
            tooltip=["edge:N", "operation:N", alt.Tooltip("probability:Q", format=".4f")],
        )
        frames = base.transform_filter(f"indexof(datum.{kind}_kept, datum.place) >= 0").mark_rect(
            fillOpacity=0, stroke="var(--test)", strokeWidth=2, cornerRadius=2
        )
        numbers = base.mark_text(fontSize=9, color="currentColor").encode(
            text=alt.Text("probability:Q", format=".2f")
        )
        chart = alt.layer(tiles, numbers, frames).properties(height=22 * len(EDGES))
        return finish(
            chart.add_params(self._at_round()),
            f"Heat map of the {kind} cell: probability of each of {len(PRIMITIVES)} operations on "
            f"each of {len(EDGES)} edges in the round chosen with the slider, at first round "
            f"{self.at}; the darkest is {self.most:.3f}; the 8 that the genotype keeps are framed.",
        )

    def edge_history(self) -> Spec:
        """An edge's 8 probabilities over rounds; signal `edge`: 0..13 normal, 14..27 reduce."""
        count = len(PRIMITIVES)
        names = list(PRIMITIVES)
        base = alt.Chart(self._data())
        color = alt.Color(
            "operation:N",
            scale=alt.Scale(domain=names, range=[f"var(--{name})" for name in names]),
            legend=None,
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
                x=round_axis(),
                y=alt.Y("probability:Q", scale=alt.Scale(zero=False), axis=alt.Axis(format="~g")),
                color=color,
                tooltip=["operation:N", "round:Q", alt.Tooltip("probability:Q", format=".4f")],
            )
        )
        chart = alt.layer(_shown_round(base), lines).properties(height=280)
        return finish(
            chart.add_params(self._at_round(), alt.param(name="edge", value=0)),
            f"Line chart of the probabilities of the 8 operations on one edge, over rounds "
            f"{self.rounds[0]} to {self.rounds[-1]}; which edge is chosen above the chart.",
            [[name, f"var(--{name})"] for name in names],
        )

    def architecture(self, rows: Sequence[Mapping[str, Any]]) -> Spec:
        """Convolutions and skips of the derived cells over rounds.

        Args:
          rows: the rows of metrics.jsonl.
        """
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
        lines = (
            alt.Chart(alt.Data(values=points))
            .mark_line(interpolate="step-after", strokeWidth=2, point=alt.OverlayMarkDef(size=25))
            .encode(
                x=round_axis(),
                y=alt.Y("operations:Q", title="of 8 operations", axis=alt.Axis(tickMinStep=1)),
                color=alt.Color(
                    "what:N", scale=alt.Scale(domain=list(labels), range=list(colors)), legend=None
                ),
                tooltip=["what:N", "round:Q", "operations:Q"],
            )
        )
        last = rows[-1]
        chart = alt.layer(_shown_round(alt.Chart(self._data())), lines).properties(height=220)
        return finish(
            chart.add_params(self._at_round()),
            "Line chart of how many of a cell's 8 operations are convolutions and skips, over "
            f"rounds. At the end {last['normal_convolutions']} convolutions in the normal cell and "
            f"{last['reduce_convolutions']} in the reduction cell.",
            list(names.values()),
        )


def _picked(rounds: Sequence[int], at: int | None) -> list[int]:
    """Indices of at most `_MOST_ROUNDS` rounds and of the round `at`, in order."""
    even = np.linspace(0, len(rounds) - 1, _MOST_ROUNDS).round().astype(int).tolist()
    return sorted({*even, *(index for index, number in enumerate(rounds) if number == at)})


def _shown_round(base: Any) -> Any:
    """A dashed line at the round of the slider."""
    return (
        base.transform_filter("datum.round == at_round")
        .mark_rule(color="currentColor", opacity=0.4, strokeDash=[4, 4])
        .encode(x="round:Q")
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
