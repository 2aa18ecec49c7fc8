"""The sections of a page that compares runs."""

import json
from collections.abc import Sequence
from typing import Any

from fednas_jax.report.charts import Spec, finish, whole_numbers
from fednas_jax.report.page_parts import Chart, Choice, Drawing, Page, Part, Section, Table
from fednas_jax.report.page_text import NOTHING, duration, in_bytes, percent
from fednas_jax.report.run_sections import (
    flat,
    last_scores,
    of_algorithm,
    subtitle,
    total,
    with_parts,
)
from fednas_jax.report.run_types import RunFolder
from fednas_jax.report.traffic import sent_so_far
from fednas_jax.report.vega import alt

_METRICS = (
    "test_accuracy",
    "held_out_accuracy",
    "test_loss",
    "held_out_loss",
    "train_loss",
    "train_accuracy",
)
_AXES = {"round": "rounds", "seconds": "seconds, without compiling", "megabytes": "MB sent"}
_COLORS = ["#3b8bd0", "#e07b1a", "#2fa36f", "#d1495b", "#8a6fd1", "#b08900", "#17a2a8", "#8c8c8c"]
"""Colours of the runs, which are visible on light and on dark pages."""
_DASHES = [[1, 0], [6, 3], [2, 2], [10, 2, 2, 2], [12, 6]]
"""Dashes and gaps in pixels: the first eight runs have solid lines, the next eight the second."""
MOST_STYLES = len(_COLORS) * len(_DASHES)
"""Maximum number of runs whose lines all look otherwise."""


def page(runs: Sequence[RunFolder]) -> Page:
    """A page that compares runs, in the given order."""
    names = _names(runs)
    sections = [
        Section("results", "Results", "", [_results(runs, names)]),
        Section(
            "curves",
            "Curves",
            "Point at a run's curve, or tap it, for its name and values." + _alike(len(runs)),
            _curves(runs, names),
        ),
        Section(
            "clients",
            "Clients",
            "Held-out accuracy of each client in its run's round; the long mark is the mean.",
            _clients(runs, names),
        ),
        *_drawings(runs, names),
        Section(
            "config", "Config", "The fields in which the runs differ.", [_differences(runs, names)]
        ),
    ]
    return Page(
        f"{len(runs)} runs compared",
        ", ".join(names),
        with_parts(sections),
        "This page needs no network.",
    )


def _alike(runs: int) -> str:
    return f" After {MOST_STYLES} runs, colours and dashes repeat." if runs > MOST_STYLES else ""


def _names(runs: Sequence[RunFolder]) -> list[str]:
    """The names of the folders, preceded by their parents' names where two are equal."""
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run.folder) for run in runs]
    return names


def _results(runs: Sequence[RunFolder], names: Sequence[str]) -> Table:
    rows = []
    for name, run in zip(names, runs, strict=True):
        summary = run.summary
        scores = [s for s in (last_scores(run) or (0, []))[1] if s is not None]
        seconds = summary.get("seconds", total(run.rows, "seconds"))
        rows.append(
            [
                name,
                subtitle(run),
                percent(summary["test_accuracy"]),
                percent(summary["held_out_accuracy"]),
                percent(min(scores) if scores else None),
                f"{summary['best_round']}, {run.note}",
                in_bytes(_sent(run)[-1]),
                duration(seconds),
            ]
        )
    columns = ["run", "what", "test accuracy", "held out", "worst client", "round"]
    columns += ["sent by all clients", "time"]
    known = [n for n, _ in enumerate(columns) if any(row[n] != NOTHING for row in rows)]
    return Table([columns[n] for n in known], [[row[n] for n in known] for row in rows])


def _sent(run: RunFolder) -> Sequence[int | None]:
    """Bytes sent after each round; None where the number of clients is unknown."""
    if run.partition is None:
        return [None] * len(run.rows)
    return sent_so_far(run.rows, run.config, len(run.partition.counts))


def _curves(runs: Sequence[RunFolder], names: Sequence[str]) -> list[Part]:
    points: list[dict[str, Any]] = []
    for name, run in zip(names, runs, strict=True):
        seconds = 0.0
        for row, sent in zip(run.rows, _sent(run), strict=True):
            seconds += row.get("seconds") or 0
            values = {metric: row.get(metric) for metric in _METRICS}
            points.append(
                {"run": name, "round": row["round"], "seconds": round(seconds, 2)}
                | {"megabytes": None if sent is None else round(sent / 1e6, 3), **values}
            )
    metrics = [m for m in _METRICS if any(point[m] is not None for point in points)]
    if not metrics:
        return []
    id = "chart-runs"
    return [
        Choice(
            "choice-metric", "Metric", "metric", [(m, m.replace("_", " ")) for m in metrics], [id]
        ),
        Choice("choice-axis", "Over", "over", list(_AXES.items()), [id]),
        Chart(id, "All runs", _overlaid(points, names, metrics[0]), wide=True),
    ]


def _overlaid(points: list[dict[str, Any]], names: Sequence[str], metric: str) -> Spec:
    chart = (
        alt.Chart(alt.Data(values=points))
        .transform_calculate(value="datum[metric]", place="datum[over]")
        .transform_filter("isValid(datum.value) && isValid(datum.place)")
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=30))
        .encode(
            x=alt.X(
                "place:Q",
                title=None,
                axis=alt.Axis(grid=False, labelExpr=whole_numbers("over == 'round'", "~g")),
                scale=alt.Scale(nice=False, zero=False, padding=8),
            ),
            y=alt.Y(
                "value:Q",
                title=None,
                scale=alt.Scale(zero=False),
                axis=alt.Axis(
                    labelExpr="format(datum.value, test(/accuracy/, metric) ? '~%' : '~g')"
                ),
            ),
            order="round:Q",
            color=run_color(names),
            tooltip=["run:N", "round:Q", "seconds:Q", alt.Tooltip("value:Q", format=".4f")],
            **_run_dash(names),
        )
        .add_params(alt.param(name="metric", value=metric), alt.param(name="over", value="round"))
        .properties(height=340)
    )
    return finish(
        chart,
        f"Line chart of {len(names)} runs: {', '.join(names)}; the metric and the x axis are "
        "chosen above the chart.",
        [_legend_entry(index, name) for index, name in enumerate(names)],
    )


def _legend_entry(index: int, name: str) -> list[str]:
    """Name and colour; dashes where the run shares its colour with an earlier one."""
    dashes = " ".join(map(str, _dashes(index)))
    return [name, _COLORS[index % len(_COLORS)], *([dashes] if index >= len(_COLORS) else [])]


def _dashes(index: int) -> list[int]:
    return _DASHES[index // len(_COLORS) % len(_DASHES)]


def run_color(names: Sequence[str]) -> alt.Color:
    """A colour for each run, without a legend."""
    colors = [_COLORS[index % len(_COLORS)] for index in range(len(names))]
    scale = alt.Scale(domain=list(names), range=colors)
    return alt.Color("run:N", scale=scale, legend=None)


def _run_dash(names: Sequence[str]) -> dict[str, alt.StrokeDash]:
    """Dashes for runs that share a colour; none where all colours differ."""
    if len(names) <= len(_COLORS):
        return {}
    dashes = [_dashes(index) for index in range(len(names))]
    scale = alt.Scale(domain=list(names), range=dashes)
    return {"strokeDash": alt.StrokeDash("run:N", scale=scale, legend=None)}


def _clients(runs: Sequence[RunFolder], names: Sequence[str]) -> list[Part]:
    points = []
    for name, run in zip(names, runs, strict=True):
        _, scores = last_scores(run) or (0, [])
        points += [
            {
                "run": name,
                "client": run.partition.client(client) if run.partition else f"{client}",
                "accuracy": score,
            }
            for client, score in enumerate(scores)
            if score is not None
        ]
    if not points:
        return []
    base = alt.Chart(alt.Data(values=points)).encode(
        y=alt.Y("run:N", sort=list(names), title=None, axis=alt.Axis(labelLimit=120)),
        color=run_color(names),
    )
    x = alt.X(
        "accuracy:Q", title="accuracy", axis=alt.Axis(format="~%"), scale=alt.Scale(zero=False)
    )
    ticks = base.mark_tick(thickness=2, opacity=0.55, size=16).encode(
        x=x, tooltip=["run:N", "client:N", alt.Tooltip("accuracy:Q", format=".1%")]
    )
    means = base.mark_tick(thickness=4, size=32).encode(
        x=alt.X("mean(accuracy):Q", title="accuracy")
    )
    chart = alt.layer(ticks, means).properties(height=40 * len(names))
    text = "Strip chart of the clients' accuracies on their held-out examples, one row per run."
    return [Chart("chart-clients", "Each client", finish(chart, text), wide=True)]


def _drawings(runs: Sequence[RunFolder], names: Sequence[str]) -> list[Section]:
    """What the runs' algorithms draw besides: that of one section side by side."""
    found: dict[tuple[str, str], list[Part]] = {}
    for name, run in zip(names, runs, strict=True):
        for section in of_algorithm(run):
            drawn = [part for part in section.parts if isinstance(part, Drawing)]
            titled = [part._replace(title=f"{name}: {part.title}") for part in drawn]
            found.setdefault((section.id, section.title), []).extend(titled)
    return [Section(id, title, "", parts) for (id, title), parts in found.items()]


def _differences(runs: Sequence[RunFolder], names: Sequence[str]) -> Table:
    configs = [dict(flat(run.config)) for run in runs]
    fields = list(dict.fromkeys(name for config in configs for name in config))
    rows = []
    for field in fields:
        values = [json.dumps(config[field]) if field in config else NOTHING for config in configs]
        if len(set(values)) > 1:
            rows.append([field, *values])
    return Table(["field", *names], rows)
