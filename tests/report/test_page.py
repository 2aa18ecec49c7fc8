"""The page of a run: what it says, and in a browser that all of it is there and moves."""

import json
import math
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import fednas_jax
from fednas_jax import config as schema
from fednas_jax.algorithms.fednas import report
from fednas_jax.fields.extension import Extension
from fednas_jax.fields.field import FLOAT, Field, between
from fednas_jax.report import client_charts, page, page_text, run_folder, run_sections
from fednas_jax.report.cells import alpha_charts, page_cells
from fednas_jax.report.page_parts import Chart, Scale, Slider
from fednas_jax.report.page_text import NOTHING
from fednas_jax.report.run_types import ClassCounts
from fednas_jax.spaces.darts import genotype as genotypes
from fednas_jax.spaces.darts.space import PRIMITIVES
from tests import browser
from tests.report import runs

SEARCH_CHARTS = {
    "chart-accuracy", "chart-loss", "chart-alphas-normal", "chart-alphas-reduce", "chart-edge",
    "chart-operations", "chart-clients", "chart-spread", "chart-sizes", "chart-classes",
}  # fmt: skip
LOOK = Path(__file__).with_name("look.js").read_text()
PHONE = 360
"""Pixels."""


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a finished search."""
    return page.write(runs.search_run(tmp_path_factory.mktemp("page") / "my search"))


@pytest.fixture(scope="module")
def average(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a FedAvg run of many clients that goes on."""
    return page.write(runs.average_run(tmp_path_factory.mktemp("page") / "average"))


def specs(path: Path) -> dict[str, Any]:
    found = re.search(
        r'<script type="application/json" id="charts">(.*?)</script>', path.read_text(), re.DOTALL
    )
    assert found
    return json.loads(found[1])


def test_says_what_was_found(search: Path) -> None:
    text = search.read_text()
    assert "FedNAS · cifar10 · 4 clients · 5 rounds" in text
    for value in ("80.00%", "85.00%", "90 s", "of which compiling 10 s", "1.5 GB", "1 kB"):
        assert f">{value}<" in text
    # Of the best round, the fifth: 0.8, 0.825 and 0.85; the last client holds nothing out.
    for label, value in {"Mean": "82.50%", "Spread": "2.04%", "Worst": "80.00%"}.items():
        assert f"<dt>{label}</dt><dd>{value}</dd>" in text
    assert "python -m fednas_jax.main --config=x.py" in text
    assert "run.rounds = 5\n" in text
    assert "<b>dog</b>" not in text


def test_clients_have_the_names_that_the_data_gives_them(tmp_path: Path) -> None:
    folder = runs.search_run(tmp_path / "run")
    assert "client 0" in page.write(folder).read_text()
    record = json.loads((folder / "partition.json").read_text())
    record["client_ids"] = [901, 902, 903, 904]
    (folder / "partition.json").write_text(json.dumps(record))
    written = page.write(folder)
    assert "client 901" in written.read_text()  # the worst
    shown = specs(written)["specs"]
    assert {name for name, spec in shown.items() if '"client": "902"' in json.dumps(spec)} == {
        *("chart-clients", "chart-sizes", "chart-classes")
    }

    record["client_names"] = ["North", "East", "<b>West</b>", "South"]
    (folder / "partition.json").write_text(json.dumps(record))
    written = page.write(folder)
    assert "client North" in written.read_text()
    assert "<b>West" not in written.read_text()
    shown = specs(written)["specs"]
    assert {name for name, spec in shown.items() if '"client": "East"' in json.dumps(spec)} == {
        *("chart-clients", "chart-sizes", "chart-classes")
    }


def test_a_tie_is_told_beside_the_best_round(tmp_path: Path) -> None:
    folder = runs.search_run(tmp_path / "run")
    assert "with the same accuracy" not in page.write(folder).read_text()
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"tied_rounds": [2, 3]}))
    assert "of 5; 2 more with the same accuracy" in page.write(folder).read_text()


def test_the_cells_are_of_the_round_that_the_summary_names(tmp_path: Path) -> None:
    """Also where an earlier version chose it among equals otherwise than this one would."""
    folder = runs.search_run(tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"best_round": 2}))
    found = run_folder.read(folder)
    alphas = report.alphas_of(found)
    second, last = (genotypes.derive(alphas[number]) for number in (2, 5))
    cells, parts = (section.parts for section in report.sections(found))
    assert cells == page_cells.parts("round 2, the best", second)
    assert cells != page_cells.parts("round 2, the best", last)
    assert cells[0].title == "Normal cell, round 2, the best"
    # So are the slider and, with it, all that it moves.
    slider, *maps = (part for part in parts if isinstance(part, Slider | Chart))
    assert (slider.at, slider.texts) == (2, ["0", "1", "2, the best", "3", "4", "5, the last"])
    moved = [chart for chart in maps if chart.id in slider.charts]
    assert len(moved) == 4
    for chart in moved:
        (param,) = (one for one in chart.spec["params"] if one["name"] == "at_round")
        assert param["value"] == 2
    assert [chart.follows for chart in moved] == [slider, slider, None, None]


def test_without_a_selected_round_none_is_called_the_best(tmp_path: Path) -> None:
    """Of one round, or where nothing is held out: then there is no tile of it either."""
    one = page.write(runs.search_run(tmp_path / "one", rounds=1)).read_text()
    assert "· 1 round<" in one
    assert "<dt>Held-out accuracy</dt>" in one
    assert "round 1 counts: the only one scored on held-out examples" in one
    folder = runs.search_run(tmp_path / "none")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in lines:
        row |= dict.fromkeys(("held_out_accuracy", "held_out_accuracy_of_clients"))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    summary = json.loads((folder / "summary.json").read_text()) | {"held_out_accuracy": None}
    (folder / "summary.json").write_text(json.dumps(summary))
    none = page.write(folder).read_text()
    assert "Held-out accuracy" not in none
    assert "round 5 counts: no examples are held out" in none
    for text in (one, none):
        assert "Best round" not in text
        assert "the best" not in text
        assert re.search(r"<figcaption>Reduction cell, round \d, the last</figcaption>", text)


def test_the_colours_of_probabilities_go_from_0_to_the_largest(search: Path) -> None:
    run = run_folder.read(search.parent)
    history = report.alphas_of(run)
    most = max(genotypes.softmax(row[k]).max() for row in history for k in genotypes.KINDS)
    (scale,) = (p for s in report.sections(run) for p in s.parts if isinstance(p, Scale))
    assert scale.most == pytest.approx(most, abs=5e-5)
    assert (scale.mark, scale.mark_label) == (1 / len(PRIMITIVES), "1/8")
    for kind in genotypes.KINDS:
        chart = specs(search)["specs"][f"chart-alphas-{kind}"]
        shades = [layer["encoding"]["opacity"]["scale"] for layer in chart["layer"][:1]]
        assert shades == [{"domain": [0, scale.most], "range": [0, 1]}]
    assert (
        f'<i style="left: {100 / 8 / scale.most:.2f}%"><span>1/8</span></i>' in search.read_text()
    )


def test_data_without_classes_have_no_chart_of_classes(tmp_path: Path) -> None:
    folder = runs.search_run(tmp_path / "run")
    record = json.loads((folder / "partition.json").read_text())
    record["class_counts"] = [[12, 0, 0]] * 4
    (folder / "partition.json").write_text(json.dumps(record))
    written = page.write(folder)
    assert "chart-classes" not in specs(written)["specs"]
    assert "How many examples every client holds." in written.read_text()


def test_how_to_go_on_is_told_of_a_run_that_is_not_finished(average: Path, search: Path) -> None:
    assert "the same command in the same folder resumes it" in average.read_text()
    assert "As it was started; give another --workdir:" in search.read_text()


def test_names_break_at_their_joints_and_words_and_numbers_nowhere() -> None:
    broken = {
        "optimizer.learning_rate=0.05": "optimizer.<wbr>learning_<wbr>rate=<wbr>0.05",
        "/tmp/a<b": "/tmp/<wbr>a&lt;b",
        "0.0003": "0.0003",
        "within_round": "within_<wbr>round",
    }
    assert {text: str(page._breakable(text)) for text in broken} == broken


@pytest.mark.parametrize(
    "fields",
    [
        {"algorithm": "fednas", "rounds": 7, "optimizer.learning_rate": 0.5},
        {"algorithm": "fedavg", "network.name": "2nn", "augment.flip": False},
        {"dataset.name": f"{__file__}:OWN_DATA", "stripes.noise": 0.25},
    ],
)
def test_the_code_on_the_page_makes_the_same_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    made = schema.default(fields.get("algorithm", "fednas"))
    for name, value in fields.items():
        section, dot, leaf = name.partition(".")
        if dot and section not in made:
            made[section] = {}
        (made[section] if dot else made)[leaf or section] = value
    folder = runs.search_run(tmp_path / "digits" / "train")
    record = json.loads((folder / "run.json").read_text()) | {"config": schema.to_json(made)}
    (folder / "run.json").write_text(json.dumps(record))
    ran: list[Any] = []
    stand_in = types.ModuleType("fednas_jax.experiment")
    stand_in.run = lambda *given: ran.append(given)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fednas_jax.experiment", stand_in)
    monkeypatch.setattr(fednas_jax, "experiment", stand_in, raising=False)
    exec(run_sections._python(run_folder.read(folder)), {})
    ((config, workdir),) = ran
    assert schema.to_json(config) == record["config"]
    assert workdir == "runs/digits-train-again"


OWN_DATA = Extension(
    lambda config: None, (Field("stripes.noise", 0.3, FLOAT, between(0, 1), "Share of noise"),)
)


def test_carries_data_once_and_no_more_than_it_needs(search: Path) -> None:
    assert set(specs(search)["specs"]) == SEARCH_CHARTS
    assert all("description" in spec for spec in specs(search)["specs"].values())
    maps = [specs(search)["specs"][f"chart-alphas-{kind}"] for kind in ("normal", "reduce")]
    assert maps[0]["data"] == maps[1]["data"]
    assert search.stat().st_size < 1.2e6


def test_in_a_browser_every_figure_is_there_and_the_slider_works(search: Path) -> None:
    script = """
    const before = numbers("chart-alphas-normal"), first = lines("chart-edge");
    const following = () => [...document.querySelectorAll("output, [data-follows]")];
    const texts = () => following().map((one) => one.textContent);
    const rule = (id) => drawn(id, ".mark-rule.role-mark line")[0].getBoundingClientRect().x;
    const rules = () => [rule("chart-edge"), rule("chart-operations")];
    const start = { told: texts(), rules: rules() };
    await set("slider-round", 2);
    const after = numbers("chart-alphas-normal");
    const moved = { told: texts(), rules: rules() };
    await set("choice-edge", "20");
    const loaded = performance.getEntriesByType("resource").map((entry) => entry.name);
    const cell = document.querySelector("svg[role=img]");
    return { charts, before, after, start, moved, first, second: lines("chart-edge"), loaded,
      cell: [cell.getBoundingClientRect().width, cell.getAttribute("aria-label")] };
    """
    found = browser.ask(search, LOOK + script)
    assert set(found["charts"]) == SEARCH_CHARTS
    for name, chart in found["charts"].items():
        assert chart["width"] > 300, name
        assert chart["height"] > 100, name
        assert chart["marks"] > 0, name
        assert len(chart["words"]) > 40, name
    run = run_folder.read(search.parent)
    rows = alpha_charts.Alphas(report.alphas_of(run))._rows
    for shown, row in ((found["before"], rows[-1]), (found["after"], rows[2])):
        assert sorted(map(float, shown)) == pytest.approx(sorted(row["normal"]), abs=0.00501)
    assert found["start"]["told"] == ["5, the best"] * 3
    assert found["moved"]["told"] == ["2"] * 3
    for was, now in zip(found["start"]["rules"], found["moved"]["rules"], strict=True):
        assert was - now > 100
    assert len(found["first"]) == len(found["second"]) == 8
    assert found["first"] != found["second"]
    assert found["loaded"] == []
    assert found["cell"][0] > 500
    assert found["cell"][1].startswith("Drawing of the normal cell: node 0 adds ")


def test_in_a_browser_many_clients_are_shown_in_bins(average: Path) -> None:
    found = browser.ask(average, LOOK + "return charts;", width=PHONE)
    few = {"chart-accuracy", "chart-loss", "chart-clients", "chart-spread", "chart-sizes"}
    assert set(found) == few | {"chart-attendance"}
    assert "129 clients" in found["chart-clients"]["words"]
    assert "FedAvg · cifar10 · 130 clients · 2 of 3 rounds so far" in average.read_text()


def test_in_a_browser_round_0_and_who_took_part_are_shown(average: Path) -> None:
    found = browser.ask(average, LOOK + "return charts;")
    words = {name: chart["words"] for name, chart in found.items()}
    # Round 0 is tested, round 1 brought nothing to learn from and is not the first of that curve.
    assert "over 2 rounds" in words["chart-accuracy"]
    assert "test set from 10.0% to 40.0%" in words["chart-accuracy"]
    assert "train part from 60.0% to 60.0%" in words["chart-accuracy"]
    assert "took part 5, not reached 3, slow 2" in words["chart-attendance"]
    assert found["chart-attendance"]["marks"] >= 3
    # Once, and round 0 is none of those that nobody came to.
    assert "<dt>Rounds without clients</dt><dd>1</dd>" in average.read_text()


def test_in_a_browser_pointing_at_a_round_tells_its_values(average: Path) -> None:
    script = """
    return [
      told("chart-accuracy", 0), told("chart-accuracy", 2),
      told("chart-loss", 1), told("chart-attendance", 2),
    ];
    """
    first, second, loss, present = browser.ask(average, LOOK + script)
    names = ["round", "train part", "held out of every client", "test set"]
    assert [name for name, _ in first] == names
    assert [value for _, value in first] == ["0", NOTHING, NOTHING, "10.0%"]
    assert [value for _, value in second] == ["2", "60.0%", "65.0%", NOTHING]
    assert [value for _, value in loss] == ["1", NOTHING, "2.1000", "2.2000"]
    assert present == [["round", "2"], ["took part", "10"], ["not reached", "3"], ["slow", "2"]]


@pytest.mark.parametrize("dark", [False, True])
def test_in_a_browser_nothing_is_cut_off_on_a_phone_by_day_and_by_night(
    search: Path, dark: bool
) -> None:
    script = """
    const label = document.querySelector("#chart-accuracy .role-axis-label text");
    // What reaches out of its card: all but what scrolls inside of it.
    const beyond = [...document.querySelectorAll("section *")].filter((one) =>
      !one.closest(".scroll, pre") &&
      one.getBoundingClientRect().right > one.closest("section").getBoundingClientRect().right + 1);
    return {
      beyond: beyond.map((one) => `${one.tagName} ${one.textContent}`),
      width: innerWidth,
      wide: document.documentElement.scrollWidth - innerWidth,
      page: getComputedStyle(document.body).backgroundColor,
      ink: getComputedStyle(label).fill,
    };
    """
    found = browser.ask(search, LOOK + script, width=PHONE, dark=dark)
    assert found["width"] == PHONE
    assert found["wide"] <= 0
    assert found["beyond"] == []

    def brightness(color: str) -> float:
        return sum(map(float, re.findall(r"[\d.]+", color)[:3])) / 3

    assert (brightness(found["page"]) < 60) == dark
    assert abs(brightness(found["ink"]) - brightness(found["page"])) > 120


@pytest.mark.parametrize("recorded", [True, False])
def test_a_training_shows_the_cells_that_it_trains(tmp_path: Path, recorded: bool) -> None:
    trains = "gone.json" if recorded else "DARTS_V2"
    folder = runs.average_run(tmp_path / "run", trains=trains)
    genotype = genotypes.load("DARTS_V2")
    if recorded:
        record = json.loads((folder / "run.json").read_text())
        record["genotype"] = genotypes.to_json(genotype)
        (folder / "run.json").write_text(json.dumps(record))
    text = page.write(folder).read_text()
    assert f"<figcaption>Normal cell, trained: {trains}</figcaption>" in text
    assert page_cells.describe(genotype, "normal") in text
    assert run_folder.read(folder).summary["genotype"] is None


def test_a_training_whose_genotype_is_gone_has_no_cells(tmp_path: Path) -> None:
    folder = runs.average_run(tmp_path / "run", trains="gone.json")
    assert 'id="cells"' not in page.write(folder).read_text()


def test_numbers_as_people_read_them() -> None:
    assert [page_text.in_bytes(n) for n in (0, 999, 1.5e3, 2.34e9, None)] == [
        "0 B", "999 B", "1.5 kB", "2.34 GB", "\N{EN DASH}",
    ]  # fmt: skip
    assert [page_text.duration(s) for s in (59.6, 600, 9000)] == ["60 s", "10 min", "2.5 h"]


def test_long_searches_are_thinned_out() -> None:
    zeros = [[0.0] * 8] * 14
    history = [{"round": number, "normal": zeros, "reduce": zeros} for number in range(501)]
    rounds = alpha_charts.Alphas(history).rounds
    assert len(rounds) == 101
    assert (rounds[0], rounds[1], rounds[-1]) == (0, 5, 500)
    with_best = alpha_charts.Alphas(history, 233)
    assert with_best.rounds == sorted([*rounds, 233]), "the slider can start at the best round"
    assert with_best.at == 233
    assert alpha_charts.Alphas(history, 999).at == 500, "of a round that is not recorded, the last"


def test_the_scale_has_the_rounds_that_are_left_out_too() -> None:
    zeros = [[0.0] * 8] * 14
    history = [{"round": number, "normal": zeros, "reduce": zeros} for number in range(501)]
    history[7]["reduce"] = [[math.log(3.0), *[0.0] * 7], *zeros[1:]]
    alphas = alpha_charts.Alphas(history)
    assert 7 not in alphas.rounds
    assert alphas.most == 0.3  # 3 of 3 + 7


def test_long_names_of_clients_end_with_an_ellipsis_and_are_told_whole(tmp_path: Path) -> None:
    name = "St. Mary's Hospital of the City of Springfield, Radiology"
    named = ClassCounts(["a", "b"], [[3, 4], [5, 6]], [name, "B"])  # type: ignore[list-item]
    for spec in (
        client_charts.client_scores([0.5, 0.6], 1, named),
        client_charts.partition_sizes(named),
        client_charts.partition_classes(named),
    ):
        assert spec is not None
        layer = spec["layer"][0] if "layer" in spec else spec
        axis = layer["encoding"]["x"]["axis"]
        assert axis["labelLimit"] <= 110
        assert axis["labelAngle"] == -40
        assert layer["encoding"]["tooltip"][0]["field"] == "client"
        assert name in json.dumps(spec), "the tooltip has the whole name"
    few = ClassCounts(["a", "b"], [[3, 4], [5, 6]])
    assert client_charts.partition_sizes(few)["encoding"]["x"]["axis"]["labelAngle"] == 0


def test_the_classes_of_clients_are_coloured_from_0_and_sizes_are_whole() -> None:
    """A client with the fewest examples of a class is not shown as one without any."""
    classes = client_charts.partition_classes(ClassCounts(["a", "b"], [[12, 30], [14, 21]]))
    assert classes is not None
    assert classes["encoding"]["opacity"]["scale"]["domainMin"] == 0
    many = client_charts.partition_sizes(ClassCounts(["a"], [[14], [15]] * 50))
    assert many["encoding"]["x"]["bin"] == {"maxbins": 30, "minstep": 1}
