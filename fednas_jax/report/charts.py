"""The charts of a run's page, as Vega-Altair describes them.

Colours are CSS variables and `currentColor`, so that one chart serves the light and the dark page;
what is to look the same on either background (heat maps) goes by opacity rather than by hue. The
width is that of the page. Every chart has a description, which screen readers read out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from fednas_jax.report.colors import SERIES
from fednas_jax.report.page_text import NOTHING
from fednas_jax.report.run_folder import ClassCounts

Spec = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]
Series = Mapping[str, tuple[str, str]]
"""Metric -> what its curve is called, and its colour."""

_MOST_BARS = 60
"""More clients than that are counted in bins rather than shown one by one."""
_CURVE_HEIGHT = 280
_ATTENDANCE = {
    "clients": ("took part", "var(--held_out)"),
    "unreachable": ("not reached", "var(--test)"),
    "stragglers": ("slow", "var(--valid)"),
    "dropouts": ("broke off", "var(--skip_connect)"),
    "late": ("late", "var(--sep_conv_5x5)"),
    "surplus": ("not waited for", "var(--sep_conv_3x3)"),
}


def finish(chart: Any, description: str) -> Spec:
    """The chart as Vega-Lite has it, as wide as the page."""
    fitted = chart.properties(
        width="container",
        description=description,
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
    )
    return fitted.to_dict()


def curves(rows: Rows, quantity: str) -> Spec | None:
    """Accuracy or loss over rounds; hovering, or a tap, shows all values of a round.

    Args:
      rows: of metrics.jsonl.
      quantity: "accuracy" or "loss".

    Returns:
      None where it was never measured.
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
        f"Line chart of {quantity} over {rows[-1]['round']} rounds: {', '.join(ends)}.",
    )


def attendance(rows: Rows) -> Spec | None:
    """Clients that took part in each round, were not reached, were slow.

    Args:
      rows: of metrics.jsonl.

    Returns:
      None where every round has all the clients that it draws.
    """
    series = _measured(rows, _ATTENDANCE)
    if not series:
        return None
    means = (f"{label} {np.mean(found):.3g}" for label, found in _values(rows, series).items())
    return finish(
        _hoverable(rows, series, "clients", "d"),
        f"Line chart of clients a round; on average {', '.join(means)}.",
    )


def _measured(rows: Rows, series: Series) -> Series:
    """Those of which there is a value at all."""
    return {
        name: look
        for name, look in series.items()
        if any(row.get(name) is not None for row in rows)
    }


def _values(rows: Rows, series: Series) -> dict[str, list[float]]:
    """Label -> the values that were measured, by round."""
    return {
        label: [row[name] for row in rows if row.get(name) is not None]
        for name, (label, _) in series.items()
    }


def _hoverable(rows: Rows, series: Series, title: str, form: str) -> Any:
    """Lines, and a rule that tells all values of the nearest round in the form given."""
    points = [
        {"round": row["round"], "series": label, "value": row[name]}
        for row in rows
        for name, (label, _) in series.items()
        if row.get(name) is not None
    ]
    base = alt.Chart(alt.InlineData(values=points)).encode(x=_round_axis())
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
        legend=alt.Legend(title=None),
    )
    nearest = alt.selection_point(
        nearest=True, on="pointerover", fields=["round"], empty=False, clear="pointerout"
    )
    lines = base.mark_line(interpolate="monotone").encode(y=y, color=color)
    dots = base.mark_point(filled=True, size=45).encode(
        y=y,
        color=color,
        opacity=alt.condition(nearest, alt.value(1), alt.value(0 if len(points) > 200 else 0.55)),
    )
    # All of the row, as `encode(tooltip=...)` does not find texts where the nearest is chosen.
    rule = (
        alt.Chart(alt.InlineData(values=_told(rows, series, form)))
        .mark_rule(color="currentColor", tooltip=alt.TooltipContent("data"))
        .encode(
            x=_round_axis(),
            opacity=alt.condition(nearest, alt.value(0.35), alt.value(0)),
        )
        .add_params(nearest)
    )
    return alt.layer(lines, dots, rule).properties(height=_CURVE_HEIGHT)


def _told(rows: Rows, series: Series, form: str) -> list[dict[str, Any]]:
    """The values of each round as text: the browser would write a missing number as NaN."""
    return [
        {"round": row["round"]}
        | {
            label: NOTHING if row.get(name) is None else format(row[name], form)
            for name, (label, _) in series.items()
        }
        for row in rows
        if any(row.get(name) is not None for name in series)
    ]


def _round_axis() -> alt.X:
    return alt.X(
        "round:Q",
        axis=alt.Axis(tickMinStep=1, format="d", grid=False),
        scale=alt.Scale(nice=False, padding=8),
    )


def client_scores(scores: Sequence[float | None], number: int) -> Spec:
    """Held-out accuracy of each client, the worst first; bins where they are many.

    Args:
      scores: one a client, None of a client that holds nothing out.
      number: the round they are of.
    """
    known: list[dict[str, Any]] = [
        {"client": f"{client}", "accuracy": score}
        for client, score in enumerate(scores)
        if score is not None
    ]
    values = [row["accuracy"] for row in known]
    mean = float(np.mean(values))
    data = alt.Data(values=known)
    bars = _one_by_one(data, known) if len(known) <= _MOST_BARS else _in_bins(data)
    return finish(
        bars.properties(height=220),
        f"Accuracies of {len(known)} clients on their held-out examples after round {number}: "
        f"{min(values):.1%} to {max(values):.1%}, mean {mean:.1%} (dashed).",
    )


def _one_by_one(data: alt.Data, known: list[dict[str, Any]]) -> Any:
    """A bar a client, the worst first, and the mean as a line."""
    ascending = [row["client"] for row in sorted(known, key=lambda row: row["accuracy"])]
    bars = alt.Chart(data).mark_bar(cornerRadiusEnd=2, color="var(--held_out)")
    mean = alt.Chart(data).mark_rule(strokeDash=[5, 4], color="currentColor")
    return alt.layer(
        bars.encode(
            x=alt.X("client:N", sort=ascending, axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=_percent("accuracy:Q", "accuracy", alt.Scale(domain=[0, 1])),
            tooltip=["client:N", alt.Tooltip("accuracy:Q", format=".1%")],
        ),
        mean.encode(y=alt.Y("mean(accuracy):Q", title="accuracy")),
    )


def _in_bins(data: alt.Data) -> Any:
    """How many clients have which accuracy, and the mean as a line."""
    bins = alt.Bin(maxbins=25)
    bars = alt.Chart(data).mark_bar(color="var(--held_out)")
    mean = alt.Chart(data).mark_rule(strokeDash=[5, 4], color="currentColor")
    return alt.layer(
        bars.encode(
            x=alt.X("accuracy:Q", bin=bins, title="accuracy", axis=alt.Axis(format="~%")),
            y=alt.Y("count():Q", title="clients"),
            tooltip=[
                alt.Tooltip("accuracy:Q", bin=bins, format=".0%"),
                alt.Tooltip("count():Q", title="clients"),
            ],
        ),
        mean.encode(x=alt.X("mean(accuracy):Q", title="accuracy")),
    )


def client_spread(rows: Rows) -> Spec | None:
    """Mean, middle half and range of the clients' held-out accuracies over rounds."""
    found = []
    for row in rows:
        scores = [s for s in row.get("held_out_accuracy_of_clients") or [] if s is not None]
        if scores:
            low, first, third, high = np.percentile(scores, [0, 25, 75, 100]).tolist()
            found.append(
                {"round": row["round"], "worst": low, "best": high, "lower quarter": first}
                | {"upper quarter": third, "mean": float(np.mean(scores))}
            )
    if len(found) < 2:
        return None
    base = alt.Chart(alt.Data(values=found)).encode(x=_round_axis())
    y = _percent("worst:Q", "accuracy", alt.Scale(zero=False))
    tooltip = [
        alt.Tooltip("round:Q"),
        *(
            alt.Tooltip(f"{name}:Q", format=".1%")
            for name in ("best", "upper quarter", "mean", "lower quarter", "worst")
        ),
    ]
    color = "var(--held_out)"
    layers = [
        base.mark_area(color=color, opacity=0.16).encode(y=y, y2="best:Q"),
        base.mark_area(color=color, opacity=0.28).encode(y="lower quarter:Q", y2="upper quarter:Q"),
        base.mark_line(color=color).encode(y="mean:Q"),
        base.mark_line(color=color, strokeDash=[2, 3]).encode(y="worst:Q"),
        base.mark_rule(strokeWidth=14, opacity=0).encode(tooltip=tooltip),
    ]
    last = found[-1]
    return finish(
        alt.layer(*layers).properties(height=220),
        "Accuracies of the clients over rounds: mean line, darker band of the middle half, lighter "
        f"band of all. After round {last['round']}: worst {last['worst']:.1%}, "
        f"mean {last['mean']:.1%}, best {last['best']:.1%}.",
    )


def _percent(shorthand: str, title: str, scale: alt.Scale) -> alt.Y:
    return alt.Y(shorthand, title=title, scale=scale, axis=alt.Axis(format="~%"))


def partition_sizes(partition: ClassCounts) -> Spec:
    """Examples of each client; bins where clients are many."""
    sizes = [sum(row) for row in partition.counts]
    data = alt.Data(values=[{"client": f"{k}", "examples": n} for k, n in enumerate(sizes)])
    bars = alt.Chart(data).mark_bar(cornerRadiusEnd=2, color="var(--accent)")
    if len(sizes) <= _MOST_BARS:
        encoded = bars.encode(
            x=alt.X("client:N", sort=None, axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("examples:Q"),
            tooltip=["client:N", alt.Tooltip("examples:Q", format=",")],
        )
    else:
        encoded = bars.encode(
            x=alt.X("examples:Q", bin=alt.Bin(maxbins=30)),
            y=alt.Y("count():Q", title="clients"),
            tooltip=[
                alt.Tooltip("examples:Q", bin=alt.Bin(maxbins=30)),
                alt.Tooltip("count():Q", title="clients"),
            ],
        )
    return finish(
        encoded.properties(height=150),
        f"Examples of each of {len(sizes)} clients: from {min(sizes):,} to {max(sizes):,}, "
        f"{sum(sizes):,} in all.",
    )


def partition_classes(partition: ClassCounts) -> Spec | None:
    """Heat map of clients by classes; None where clients are too many to tell apart."""
    clients, classes = len(partition.counts), len(partition.names)
    if clients > 2 * _MOST_BARS or classes > 2 * _MOST_BARS:
        return None
    cells = [
        {"client": f"{k}", "class": name, "examples": count}
        for k, row in enumerate(partition.counts)
        for name, count in zip(partition.names, row, strict=True)
    ]
    chart = (
        alt.Chart(alt.Data(values=cells))
        .mark_rect(color="var(--accent)", stroke="var(--surface)", strokeWidth=0.5)
        .encode(
            x=alt.X("client:N", sort=None, axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("class:N", sort=None, title=None, axis=alt.Axis(labelOverlap=True)),
            # Counts span four decades, so the shade goes with the root.
            opacity=alt.Opacity(
                "examples:Q", scale=alt.Scale(type="sqrt", range=[0.04, 1]), legend=None
            ),
            tooltip=["client:N", "class:N", alt.Tooltip("examples:Q", format=",")],
        )
    )
    held = np.count_nonzero(np.array(partition.counts), axis=1)
    return finish(
        chart.properties(height=classes * (20 if classes <= 20 else 6)),
        f"Heat map of {clients} clients by {classes} classes; the darker, the more examples. "
        f"A client holds between {held.min()} and {held.max()} of the classes.",
    )
