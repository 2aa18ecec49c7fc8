"""The charts of a run's page, made with Vega-Altair.

Colours are CSS variables and `currentColor`, so that one chart serves the light and the dark page.
Heat maps use opacity instead of hue, so that they look the same on both backgrounds. Charts are as
wide as the page. Every chart has a description for screen readers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fednas_jax.report.colors import SERIES
from fednas_jax.report.page_text import NOTHING, counted
from fednas_jax.report.vega import alt

Spec = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]
Series = Mapping[str, tuple[str, str]]
"""Metric -> the label of its curve, and its colour."""

_CURVE_HEIGHT = 280
_ATTENDANCE = {
    "clients": ("took part", "var(--held_out)"),
    "unreachable": ("not reached", "var(--test)"),
    "stragglers": ("slow", "var(--valid)"),
    "dropouts": ("dropped out", "var(--skip_connect)"),
    "late": ("late", "var(--sep_conv_5x5)"),
    "surplus": ("not waited for", "var(--sep_conv_3x3)"),
}


def finish(chart: Any, description: str, legend: Sequence[Sequence[str]] = ()) -> Spec:
    """The Vega-Lite specification of a chart, as wide as the page.

    Args:
      chart: the chart.
      description: for screen readers.
      legend: its entries, as `page_parts.Chart` describes them.
    """
    fitted = chart.properties(
        width="container",
        description=description,
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
    )
    return fitted.to_dict() | ({"usermeta": {"legend": legend}} if legend else {})


def curves(rows: Rows, quantity: str) -> Spec | None:
    """A chart of accuracy or loss over rounds; hovering or tapping shows all values of a round.

    Args:
      rows: rows of metrics.jsonl.
      quantity: "accuracy" or "loss".

    Returns:
      The specification; None where the quantity was never measured.
    """
    every = {f"{k}_{quantity}": (label, f"var(--{k})") for k, (label, _) in SERIES.items()}
    series = _measured(rows, every)
    if not series:
        return None
    shown, told = (".1%", ".1%") if quantity == "accuracy" else (".4f", ".3f")
    ends = (
        f"{label} from {values[0]:{told}} to {values[-1]:{told}}"
        for label, values in _values(rows, series).items()
    )
    return finish(
        _hoverable(rows, series, quantity, shown),
        f"Line chart of {quantity} over {counted(rows[-1]['round'], 'round')}: {', '.join(ends)}.",
        list(series.values()),
    )


def attendance(rows: Rows) -> Spec | None:
    """A chart of the number of clients that took part in each round, were not reached, or were
    slow.

    Args:
      rows: rows of metrics.jsonl.

    Returns:
      The specification; None where all selected clients took part in every round.
    """
    series = _measured(rows, _ATTENDANCE)
    if not series:
        return None
    means = (f"{label} {np.mean(found):.3g}" for label, found in _values(rows, series).items())
    return finish(
        _hoverable(rows, series, "clients", "d"),
        f"Line chart of clients in each round; on average {', '.join(means)}.",
        list(series.values()),
    )


def _measured(rows: Rows, series: Series) -> Series:
    """The series that have at least one value."""
    return {
        name: look
        for name, look in series.items()
        if any(row.get(name) is not None for row in rows)
    }


def _values(rows: Rows, series: Series) -> dict[str, list[float]]:
    """Label -> measured values, by round."""
    return {
        label: [row[name] for row in rows if row.get(name) is not None]
        for name, (label, _) in series.items()
    }


def _hoverable(rows: Rows, series: Series, title: str, form: str) -> Any:
    """Lines, and a rule that shows all values of the nearest round in a given format."""
    points = [
        {"round": row["round"], "series": label, "value": row[name]}
        for row in rows
        for name, (label, _) in series.items()
        if row.get(name) is not None
    ]
    base = alt.Chart(alt.InlineData(values=points)).encode(x=round_axis())
    y = alt.Y(
        "value:Q",
        title=title,
        scale=alt.Scale(zero=False),
        axis=alt.Axis(format="~%" if "%" in form else "~g"),
    )
    labels, colors = zip(*series.values(), strict=True)
    color = alt.Color(
        "series:N",
        scale=alt.Scale(domain=list(labels), range=list(colors)),
        legend=None,
    )
    nearest = alt.selection_point(
        nearest=True, on="pointerover", fields=["round"], empty=False, clear="pointerout"
    )
    lines = base.mark_line().encode(y=y, color=color)
    dots = base.mark_point(filled=True, size=45).encode(
        y=y,
        color=color,
        opacity=alt.condition(nearest, alt.value(1), alt.value(0 if len(points) > 200 else 0.55)),
    )
    # The tooltip shows the whole row: `encode(tooltip=...)` finds no texts for the nearest point.
    rule = (
        alt.Chart(alt.InlineData(values=_told(rows, series, form)))
        .mark_rule(color="currentColor", tooltip=alt.TooltipContent("data"))
        .encode(
            x=round_axis(),
            opacity=alt.condition(nearest, alt.value(0.35), alt.value(0)),
        )
        .add_params(nearest)
    )
    return alt.layer(lines, dots, rule).properties(height=_CURVE_HEIGHT)


def _told(rows: Rows, series: Series, form: str) -> list[dict[str, Any]]:
    """The values of each round as text, since a browser shows a missing number as NaN."""
    return [
        {"round": row["round"]}
        | {
            label: NOTHING if row.get(name) is None else format(row[name], form)
            for name, (label, _) in series.items()
        }
        for row in rows
        if any(row.get(name) is not None for name in series)
    ]


def round_axis() -> alt.X:
    """The x axis of rounds, with whole numbers."""
    return alt.X(
        "round:Q",
        axis=alt.Axis(tickMinStep=1, labelExpr=whole_numbers(), grid=False),
        scale=alt.Scale(nice=False, padding=8),
    )


def whole_numbers(condition: str = "true", others: str = "") -> str:
    """The Vega expression of labels at whole numbers only: a short axis has ticks between them.

    Args:
      condition: a Vega expression; where it is false, the labels are `others`.
      others: the format of those.
    """
    whole = "datum.value == floor(datum.value) ? format(datum.value, 'd') : ''"
    return f"{condition} ? ({whole}) : format(datum.value, '{others}')"


def percent(shorthand: str, title: str, scale: alt.Scale) -> alt.Y:
    """A y axis of fractions, in percent."""
    return alt.Y(shorthand, title=title, scale=scale, axis=alt.Axis(format="~%"))
