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
from fednas_jax.report.run_folder import ClassCounts

Spec = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]

_MOST_BARS = 60
"""More clients than that are counted in bins rather than shown one by one."""
_CURVE_HEIGHT = 280
_ATTENDANCE = {
    "clients": ("took part", "var(--held_out)"),
    "unreachable": ("not reached", "var(--test)"),
    "stragglers": ("slow", "var(--valid)"),
}
"""Metric -> what it says of clients, and the colour of its curve."""


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
    names = {f"{start}_{quantity}": (start, label) for start, (label, _) in SERIES.items()}
    points = [
        {"round": row["round"], "series": label, "value": row[name]}
        for row in rows
        for name, (_, label) in names.items()
        if row.get(name) is not None
    ]
    if not points:
        return None
    shown = {point["series"] for point in points}
    starts = [start for start, label in names.values() if label in shown]
    labels = [label for _, label in names.values() if label in shown]
    form = ".1%" if quantity == "accuracy" else ".4f"
    color = alt.Color(
        "series:N",
        scale=alt.Scale(domain=labels, range=[f"var(--{start})" for start in starts]),
        legend=alt.Legend(title=None),
    )
    chart = _hoverable(points, quantity, color, labels, form)
    ends = ", ".join(_first_and_last(points, label, quantity) for label in labels)
    return finish(chart, f"Line chart of {quantity} over {len(rows)} rounds: {ends}.")


def _hoverable(
    points: list[dict[str, Any]], title: str, color: Any, labels: list[str], form: str
) -> Any:
    base = alt.Chart(alt.Data(values=points)).encode(x=_round_axis())
    y = alt.Y(
        "value:Q",
        title=title,
        scale=alt.Scale(zero=False),
        axis=alt.Axis(format="~%" if "%" in form else "~g"),
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
    rule = (
        base.transform_pivot("series", value="value", groupby=["round"])
        .mark_rule(color="currentColor")
        .encode(
            opacity=alt.condition(nearest, alt.value(0.35), alt.value(0)),
            tooltip=[
                alt.Tooltip("round:Q"),
                *(alt.Tooltip(f"{label}:Q", format=form) for label in labels),
            ],
        )
        .add_params(nearest)
    )
    return alt.layer(lines, dots, rule).properties(height=_CURVE_HEIGHT)


def _round_axis() -> alt.X:
    return alt.X(
        "round:Q",
        axis=alt.Axis(tickMinStep=1, format="d", grid=False),
        scale=alt.Scale(nice=False, padding=8),
    )


def _first_and_last(points: list[dict[str, Any]], label: str, quantity: str) -> str:
    values = [point["value"] for point in points if point["series"] == label]
    form = ".1%" if quantity == "accuracy" else ".3f"
    return f"{label} from {values[0]:{form}} to {values[-1]:{form}}"


def attendance(rows: Rows) -> Spec | None:
    """Clients that took part in each round, were not reached, were slow.

    Args:
      rows: of metrics.jsonl.

    Returns:
      None where every round has all the clients that it draws.
    """
    points = [
        {"round": row["round"], "series": label, "value": row[name]}
        for row in rows
        for name, (label, _) in _ATTENDANCE.items()
        if name in row
    ]
    if not points:
        return None
    labels = [label for label, _ in _ATTENDANCE.values() if label in {p["series"] for p in points}]
    colors = dict(_ATTENDANCE.values())
    color = alt.Color(
        "series:N",
        scale=alt.Scale(domain=labels, range=[colors[label] for label in labels]),
        legend=alt.Legend(title=None),
    )
    chart = _hoverable(points, "clients", color, labels, "d")
    means = (
        f"{label} {np.mean([p['value'] for p in points if p['series'] == label]):.3g}"
        for label in labels
    )
    return finish(chart, f"Line chart of clients a round; on average {', '.join(means)}.")


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
