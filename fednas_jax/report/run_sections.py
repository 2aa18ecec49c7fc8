"""The sections of the page of one run."""

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fednas_jax import config as schema
from fednas_jax.algorithms import registry
from fednas_jax.fields.field import names_in
from fednas_jax.report import charts, client_charts
from fednas_jax.report.findings import Findings
from fednas_jax.report.page_parts import Chart, Code, Page, Part, Section, Table, Tile, Tiles
from fednas_jax.report.page_text import (
    NOTHING,
    counted,
    duration,
    in_bytes,
    number,
    percent,
    setting,
)
from fednas_jax.report.run_folder import room_of
from fednas_jax.report.run_types import RunFolder
from fednas_jax.runtime import user_code
from fednas_jax.runtime.errors import UserError

_MOST_ROWS = 200


def page(run: RunFolder) -> Page:
    """The page of a run, without what the run has not measured."""
    sections = [
        Section("summary", "Summary", "", _summary(run)),
        Section("curves", "Curves", "Point at a round, or tap it, for its values.", _curves(run)),
        *of_algorithm(run),
        Section(
            "clients",
            "Clients",
            "The server's network on the held-out part of each client.",
            _clients(run),
        ),
        _partition(run),
        Section("again", "Run it again", _changes(run), _again(run)),
        Section("config", "Config", "", _config(run)),
    ]
    return Page(run.name, subtitle(run), with_parts(sections), _footer(run))


def of_algorithm(run: RunFolder) -> list[Section]:
    """The sections of the run's algorithm."""
    room = room_of(run.config)
    return [] if room is None else with_parts(room.sections(run))


def with_parts(sections: Iterable[Section]) -> list[Section]:
    """The sections that have parts."""
    return [section for section in sections if section.parts]


def subtitle(run: RunFolder) -> str:
    """A line with the algorithm, the data set, the clients and the rounds."""
    done, of = run.rows[-1]["round"], run.config["rounds"]
    rounds = counted(done, "round") if run.finished else f"{done} of {of} rounds so far"
    algorithm, dataset = _title(run.config["algorithm"]), run.config["dataset"]["name"]
    clients = f" · {counted(len(run.partition.counts), 'client')}" if run.partition else ""
    return f"{algorithm} · {Path(dataset).name}{clients} · {rounds}"


def _title(algorithm: str) -> str:
    """The algorithm's title; its name if it is a user's own that does not exist any more."""
    with contextlib.suppress(UserError):
        return registry.find(algorithm).title
    return algorithm


def total(rows: Sequence[dict[str, Any]], name: str) -> float:
    """The sum of a metric over the rounds that have it."""
    return sum(row.get(name) or 0 for row in rows)


def last_scores(run: RunFolder) -> tuple[int, list[float | None]] | None:
    """(round, held-out accuracy of each client) of the best round, or else the latest scored."""
    for row in (run.best_row, *reversed(run.rows)):
        if row.get("held_out_accuracy_of_clients"):
            return row["round"], row["held_out_accuracy_of_clients"]
    return None


def _summary(run: RunFolder) -> list[Part]:
    summary, rows = run.summary, run.rows
    room = room_of(run.config)
    scored = Findings.scored if room is None else room.findings(run.config, run.folder).scored
    tiles = [
        Tile(
            "Test accuracy",
            percent(summary["test_accuracy"]),
            f"{scored.lower()}, round {summary['test_accuracy_round']}",
        ),
    ]
    if summary["held_out_accuracy"] is not None:
        held_out = percent(summary["held_out_accuracy"])
        note = f"all clients together, round {summary['best_round']}"
        tiles.append(Tile("Held-out accuracy", held_out, note))
    tiles.append(_rounds_tile(run))
    if any("clients" in row for row in rows):
        skipped = sum(row.get("clients") == 0 for row in rows)
        tiles.append(Tile("Rounds without clients", f"{skipped}", "no client returned in time"))
    tiles += _cost_tiles(run)
    return [Tiles(tiles), _rounds_table(run)]


def _rounds_tile(run: RunFolder) -> Tile:
    """The best round if one was selected, else the number of rounds."""
    summary, done = run.summary, run.rows[-1]["round"]
    if run.selected:
        return Tile("Best round", f"{summary['best_round']}", f"of {done}{_tied(summary)}")
    scored = summary["held_out_accuracy"] is not None
    why = "the only one scored on held-out examples" if scored else "no examples are held out"
    return Tile("Rounds", f"{done}", f"round {summary['best_round']} counts: {why}")


def _tied(summary: dict[str, Any]) -> str:
    """How many other rounds have the best held-out accuracy; "" if none, or not recorded."""
    number = len(summary.get("tied_rounds") or [])
    return f"; {number} more with the same accuracy" if number else ""


def _cost_tiles(run: RunFolder) -> list[Tile]:
    summary, rows = run.summary, run.rows
    seconds = summary.get("seconds", total(rows, "seconds"))
    compiling = summary.get("compile_seconds")
    note = "" if compiling is None else f"of which compiling {duration(compiling)}"
    tiles = [Tile("Time", duration(seconds), note)]
    if "peak_memory_bytes" in summary:
        tiles.append(Tile("Memory", in_bytes(summary["peak_memory_bytes"]), "at most"))
    up, down = (rows[-1].get(f"bytes_{way}_per_client") for way in ("up", "down"))
    if up is not None and down is not None:
        tiles.append(Tile("Sent by a client", in_bytes(up), f"a round; received {in_bytes(down)}"))
    return tiles


def _rounds_table(run: RunFolder) -> Table:
    """The numbers behind the curves."""
    names = [
        name
        for name in run.rows[-1]
        if any(isinstance(row.get(name), int | float) for row in run.rows)
    ]
    chosen = np.unique(np.linspace(0, len(run.rows) - 1, _MOST_ROWS).round().astype(int))
    rows = [[number(run.rows[index].get(name)) for name in names] for index in chosen]
    title = "All numbers of all rounds"
    if len(chosen) < len(run.rows):
        title = f"The numbers of {len(chosen)} of the {run.rows[-1]['round']} rounds"
    return Table([name.replace("_", " ") for name in names], rows, title)


def _curves(run: RunFolder) -> list[Part]:
    found: list[Part] = []
    for quantity in ("accuracy", "loss"):
        spec = charts.curves(run.rows, quantity)
        if spec:
            found.append(Chart(f"chart-{quantity}", quantity.capitalize(), spec))
    attendance = charts.attendance(run.rows)
    if attendance:
        found.append(Chart("chart-attendance", "Who took part", attendance))
    return found


def _clients(run: RunFolder) -> list[Part]:
    found = last_scores(run)
    if found is None:
        return []
    number, scores = found
    chosen = f", {run.note}" if number == run.summary["best_round"] else ""
    known = {client: score for client, score in enumerate(scores) if score is not None}
    worst = min(known, key=lambda client: known[client])
    name = run.partition.client(worst) if run.partition else worst
    values = np.array(list(known.values()))
    parts: list[Part] = [
        Tiles(
            [
                Tile(
                    "Mean", percent(float(values.mean())), f"over {counted(len(known), 'client')}"
                ),
                Tile("Spread", percent(float(values.std())), "standard deviation"),
                Tile("Worst", percent(known[worst]), f"client {name}"),
                Tile("Best", percent(float(values.max()))),
            ]
        ),
        Chart(
            "chart-clients",
            f"Each client, round {number}{chosen}",
            client_charts.client_scores(scores, number, run.partition),
        ),
    ]
    spread = client_charts.client_spread(run.rows)
    if spread:
        parts.append(Chart("chart-spread", "Mean, middle half and range over rounds", spread))
    return parts


def _partition(run: RunFolder) -> Section:
    if run.partition is None:
        return Section("partition", "Partition", "", [])
    parts: list[Part] = [
        Chart("chart-sizes", "Examples", client_charts.partition_sizes(run.partition), wide=True)
    ]
    classes = client_charts.partition_classes(run.partition)
    if classes:
        parts.append(Chart("chart-classes", "Examples of each class", classes, wide=True))
    of = "of each class " if classes else ""
    return Section("partition", "Partition", f"How many examples {of}every client holds.", parts)


def _changes(run: RunFolder) -> str:
    """What later starts have changed, though it affects the result; "" if nothing."""
    remarks = [line for start in run.starts for line in start.get("remarks", [])]
    return f"Changed since the run began: {'. '.join(remarks)}." if remarks else ""


def _again(run: RunFolder) -> list[Part]:
    """The command and the Python code that run it again, and the versions that it ran with."""
    start = run.starts[-1]
    parts: list[Part] = []
    if start.get("command"):
        title = "As it was started; give another --workdir:"
        if not run.finished:
            title = "As it was started; the same command in the same folder resumes it:"
        parts.append(Code(title, start["command"]))
    parts.append(Code("From Python, without a config file:", _python(run)))
    versions = {**start.get("versions", {}), "device": start.get("device", NOTHING)}
    versions |= {"started": start.get("time", NOTHING), "starts": str(len(run.starts))}
    parts.append(Table(["what", "version"], [[k, str(v)] for k, v in versions.items()], "Versions"))
    return parts


def _python(run: RunFolder) -> str:
    """Python code that runs it again in another folder.

    Sections that only a user's own code has are set together, since `default` may lack them.
    """
    algorithm = run.config["algorithm"]
    sections = {name.partition(".")[0] for name in _defaults()}
    lines, own = [], dict[str, dict[str, Any]]()
    for name, value, _ in _changed(run.config):
        section, dot, leaf = name.partition(".")
        if isinstance(value, str) and any(map(user_code.is_given, names_in(value))):
            lines.append(f"# {name}: pass the object itself to experiment.run")
        elif dot and section not in sections:
            own.setdefault(section, {})[leaf] = value
        elif name != "algorithm":
            lines.append(f"run.{name} = {value!r}")
    lines += [f"run[{section!r}] = {values!r}" for section, values in own.items()]
    named = "" if algorithm == schema.default()["algorithm"] else repr(algorithm)
    return "\n".join(
        [
            "from fednas_jax import config, experiment",
            "",
            f"run = config.default({named})",
            *lines,
            f'experiment.run(run, "runs/{run.name.replace("/", "-")}-again")',
        ]
    )


def _config(run: RunFolder) -> list[Part]:
    changed = [
        [name, setting(value), setting(default)] for name, value, default in _changed(run.config)
    ]
    rows = [[name, setting(value)] for name, value in flat(run.config)]
    return [
        Table(["field", "value", "default"], changed, "Fields not at their default", open=True),
        Table(["field", "value"], rows, f"All {len(rows)} fields"),
    ]


def flat(config: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    """The fields of a recorded config, by dotted name."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{leaf}", inner) for leaf, inner in flat(value))
        else:
            yield name, value


def _changed(config: dict[str, Any]) -> Sequence[tuple[str, Any, Any]]:
    """(name, value, default) of the fields that are not at their default."""
    defaults = _defaults()
    return [
        (name, value, defaults.get(name))
        for name, value in flat(config)
        if value != defaults.get(name)
    ]


def _defaults() -> dict[str, Any]:
    return {field.name: field.default for field in schema.FIELDS}


def _footer(run: RunFolder) -> str:
    start = run.starts[-1]
    version = start.get("versions", {}).get("fednas_jax", "")
    return (
        f"fednas_jax {version} · started {start.get('time', NOTHING)} · this page needs no network."
    )
