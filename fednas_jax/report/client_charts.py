"""Charts of the clients' examples and accuracies; `charts.py` explains how charts are made."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fednas_jax.report.charts import Rows, Spec, finish, percent, round_axis
from fednas_jax.report.page_text import counted
from fednas_jax.report.run_types import ClassCounts
from fednas_jax.report.vega import alt

_MOST_BARS = 60
"""Maximum number of clients that are shown one by one; more are counted in bins."""

_LONGEST_LABEL = 110
"""Pixels after which a label ends with an ellipsis; the tooltip has the whole name."""

_LONG_NAME, _MOST_ASLANT = 5, 15
"""Characters; longer names of clients are written aslant, or they would run into each other. And
the number of names that can stand so beside each other on a phone."""


def _client_axis(partition: ClassCounts) -> alt.Axis:
    return _axis_of([partition.client(k) for k in range(len(partition.counts))])


def _axis_of(clients: Sequence[str]) -> alt.Axis:
    """The axis of clients with these names; with few names, none of them is left out."""
    aslant = max(map(len, clients)) > _LONG_NAME
    return alt.Axis(
        labelAngle=-40 if aslant else 0,
        labelOverlap=not aslant or len(clients) > _MOST_ASLANT,
        labelLimit=_LONGEST_LABEL,
    )


def client_scores(
    scores: Sequence[float | None], number: int, partition: ClassCounts | None = None
) -> Spec:
    """A chart of the held-out accuracy of each client, the worst first; in bins for many clients.

    Args:
      scores: accuracy of each client; None for a client without held-out examples.
      number: the round of the accuracies.
      partition: has the names of the clients; None to name them by number.
    """
    known: list[dict[str, Any]] = [
        {"client": partition.client(client) if partition else f"{client}", "accuracy": score}
        for client, score in enumerate(scores)
        if score is not None
    ]
    values = [row["accuracy"] for row in known]
    mean = float(np.mean(values))
    data = alt.Data(values=known)
    bars = _one_by_one(data, known) if len(known) <= _MOST_BARS else _in_bins(data)
    return finish(
        bars.properties(height=220),
        f"Accuracies of {counted(len(known), 'client')} on their held-out examples after round "
        f"{number}: {min(values):.1%} to {max(values):.1%}, mean {mean:.1%} (dashed).",
    )


def _one_by_one(data: alt.Data, known: list[dict[str, Any]]) -> Any:
    """A bar for each client, the worst first, and the mean as a line."""
    ascending = [row["client"] for row in sorted(known, key=lambda row: row["accuracy"])]
    bars = alt.Chart(data).mark_bar(cornerRadiusEnd=2, color="var(--held_out)")
    mean = alt.Chart(data).mark_rule(strokeDash=[5, 4], color="currentColor")
    return alt.layer(
        bars.encode(
            x=alt.X("client:N", sort=ascending, axis=_axis_of(ascending)),
            y=percent("accuracy:Q", "accuracy", alt.Scale(domain=[0, 1])),
            tooltip=["client:N", alt.Tooltip("accuracy:Q", format=".1%")],
        ),
        mean.encode(y=alt.Y("mean(accuracy):Q", title="accuracy")),
    )


def _in_bins(data: alt.Data) -> Any:
    """A histogram of the clients' accuracies, and the mean as a line."""
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
    """A chart of the mean, the middle half and the range of held-out accuracies over rounds."""
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
    base = alt.Chart(alt.Data(values=found)).encode(x=round_axis())
    y = percent("worst:Q", "accuracy", alt.Scale(zero=False))
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


def partition_sizes(partition: ClassCounts) -> Spec:
    """A chart of the number of examples of each client; in bins for many clients."""
    sizes = [sum(row) for row in partition.counts]
    rows = [{"client": partition.client(k), "examples": n} for k, n in enumerate(sizes)]
    data = alt.Data(values=rows)
    bars = alt.Chart(data).mark_bar(cornerRadiusEnd=2, color="var(--accent)")
    if len(sizes) <= _MOST_BARS:
        encoded = bars.encode(
            x=alt.X("client:N", sort=None, axis=_client_axis(partition)),
            y=alt.Y("examples:Q"),
            tooltip=["client:N", alt.Tooltip("examples:Q", format=",")],
        )
    else:
        encoded = bars.encode(
            x=alt.X("examples:Q", bin=alt.Bin(maxbins=30, minstep=1)),
            y=alt.Y("count():Q", title="clients"),
            tooltip=[
                alt.Tooltip("examples:Q", bin=alt.Bin(maxbins=30, minstep=1)),
                alt.Tooltip("count():Q", title="clients"),
            ],
        )
    return finish(
        encoded.properties(height=150),
        f"Examples of each of {len(sizes)} clients: from {min(sizes):,} to {max(sizes):,}, "
        f"{sum(sizes):,} in all.",
    )


def partition_classes(partition: ClassCounts) -> Spec | None:
    """A heat map of clients by classes; None for too many clients to tell them apart, or where all
    examples have one class, as where the data have no classes."""
    clients, classes = len(partition.counts), len(partition.names)
    if clients > 2 * _MOST_BARS or classes > 2 * _MOST_BARS:
        return None
    if np.count_nonzero(np.array(partition.counts).sum(axis=0)) < 2:
        return None
    cells = [
        {"client": partition.client(k), "class": name, "examples": count}
        for k, row in enumerate(partition.counts)
        for name, count in zip(partition.names, row, strict=True)
    ]
    chart = (
        alt.Chart(alt.Data(values=cells))
        .mark_rect(color="var(--accent)", stroke="var(--surface)", strokeWidth=0.5)
        .encode(
            x=alt.X("client:N", sort=None, axis=_client_axis(partition)),
            y=alt.Y(
                "class:N",
                sort=None,
                title=None,
                axis=alt.Axis(labelOverlap=True, labelLimit=_LONGEST_LABEL),
            ),
            # Counts span four decades, so that opacity is proportional to their square root.
            opacity=alt.Opacity(
                "examples:Q",
                scale=alt.Scale(type="sqrt", domainMin=0, range=[0.04, 1]),
                legend=None,
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
