"""The page that compares runs: what it counts, and in a browser that its charts move."""

import re
from pathlib import Path

import pytest

from fednas_jax.report import comparison, page, run_folder, traffic
from fednas_jax.report.page_parts import Chart, Section
from fednas_jax.report.run_types import RunFolder
from tests import browser
from tests.report import runs

LOOK = Path(__file__).with_name("look.js").read_text()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A search, and a FedAvg run that goes on."""
    folder = tmp_path_factory.mktemp("comparison")
    return [runs.search_run(folder / "search"), runs.average_run(folder / "average")]


@pytest.fixture(scope="module")
def both(folders: list[Path]) -> Path:
    """The page that compares them."""
    path = folders[0].parent / "both.html"
    assert page.main([*map(str, folders), f"--output={path}"]) == 0
    return path


@pytest.fixture
def average(folders: list[Path]) -> RunFolder:
    return run_folder.read(folders[1])


def section(compared: list[RunFolder], id: str) -> Section | None:
    return next((s for s in comparison.page(compared).sections if s.id == id), None)


def test_in_a_browser_runs_are_compared(both: Path) -> None:
    script = """
    const before = lines("chart-runs");
    await set("choice-metric", JSON.stringify("train_loss"));
    const figures = [...document.querySelectorAll("figure")];
    const drawings = figures.map((figure) => figure.querySelector("[data-chart], svg[role=img]"));
    const words = drawings.map((drawing) => drawing.ariaLabel);
    return { charts, before, after: lines("chart-runs"), words };
    """
    found = browser.ask(both, LOOK + script)
    assert set(found["charts"]) == {"chart-runs", "chart-clients"}
    assert len(found["before"]) == len(found["after"]) == 2
    assert found["before"] != found["after"]
    # Two charts, and both cells of the search.
    assert len(found["words"]) == 4
    assert all(len(words) > 40 for words in found["words"])
    row = '<th scope="row">algorithm</th><td>&quot;fednas&quot;</td><td>&quot;fedavg&quot;</td>'
    assert row in both.read_text()


def test_only_who_took_part_has_sent(both: Path) -> None:
    rows = [{"round": 0}, *({"round": n, "bytes_up_per_client": 10} for n in (1, 2))]
    assert traffic.sent_so_far(rows, {}, 30) == [0, 300, 600]
    assert traffic.sent_so_far(rows, {"clients_fraction": 0.1}, 30) == [0, 30, 60]
    assert traffic.sent_so_far(rows, {"clients_per_round": 2}, 30) == [0, 20, 40]
    rows[1]["clients"] = 0
    assert traffic.sent_so_far(rows, {"clients_fraction": 0.1}, 30) == [0, 0, 30]
    # All 4 in each of 5 rounds; nobody, then 10 of 130.
    assert re.findall(r"<td>(\d+ kB)</td>", both.read_text()) == ["20 kB", "10 kB"]


def test_without_a_partition_it_is_not_known_what_was_sent(average: RunFolder) -> None:
    old = average._replace(partition=None)
    found = section([old], "results")
    assert found is not None
    assert "sent by all clients" not in found.parts[0].columns  # type: ignore[union-attr]


def test_columns_without_a_number_are_left_out(average: RunFolder) -> None:
    """And a round is called best only where it was selected."""
    rows = [{**row, "held_out_accuracy": None, "held_out_accuracy_of_clients": None}
            for row in average.rows]  # fmt: skip
    none = average._replace(rows=rows, summary=average.summary | {"held_out_accuracy": None})
    for compared, has in (([none, none], False), ([none, average], True)):
        found = section(compared, "results")
        assert found is not None
        table = found.parts[0]
        assert {"held out", "worst client"} <= {*table.columns} or not has  # type: ignore[union-attr]
        assert ("held out" in table.columns) == has  # type: ignore[union-attr]
        at = list(table.columns).index("round")  # type: ignore[union-attr]
        said = [row[at] for row in table.rows]  # type: ignore[union-attr]
        assert said == ["2, the last", f"2, the {'best' if has else 'last'}"]


def test_runs_that_have_measured_nothing_have_no_curves(average: RunFolder) -> None:
    rows = [{"round": 1, "held_out_accuracy": None, "test_accuracy": None}]
    bare = average._replace(rows=rows, summary=average.summary | {"best_round": 1})
    assert section([bare, bare], "curves") is None


@pytest.mark.parametrize("count", [8, 9, 40])
def test_each_run_looks_otherwise(average: RunFolder, count: int) -> None:
    many = [average._replace(folder=average.folder / f"run-{n}") for n in range(count)]
    found = section(many, "curves")
    assert found is not None
    chart = found.parts[-1]
    assert isinstance(chart, Chart)
    encoding = chart.spec["encoding"]
    assert encoding["color"]["scale"]["domain"] == [f"run-{n}" for n in range(count)]
    colors = encoding["color"]["scale"]["range"]
    assert ("strokeDash" in encoding) == (count > 8)
    legend = chart.spec["usermeta"]["legend"]
    assert len({tuple(look) for _, *look in legend}) == count, "two entries look the same"
    if count > 8:
        drawn = encoding["strokeDash"]["scale"]["range"]
        assert [look[1:] for _, *look in legend] == [
            [" ".join(map(str, dashes))] if index >= 8 else [] for index, dashes in enumerate(drawn)
        ]
    if count == 9:
        dashes = encoding["strokeDash"]["scale"]["range"]
        assert (colors[8], dashes[8]) == (colors[0], [6, 3])
        assert dashes[:8] == [[1, 0]] * 8


@pytest.mark.parametrize(("count", "repeats"), [(40, False), (41, True)])
def test_it_is_said_where_looks_repeat(average: RunFolder, count: int, repeats: bool) -> None:
    many = [average._replace(folder=average.folder / f"run-{n}") for n in range(count)]
    found = section(many, "curves")
    assert found is not None
    assert ("colours and dashes repeat" in found.text) == repeats


def test_the_legend_draws_the_dashes(average: RunFolder) -> None:
    many = [average._replace(folder=average.folder / f"run-{n}") for n in range(17)]
    written = page.render(comparison.page(many))
    legend = written[written.index('<ul class="legend">') :].partition("</ul>")[0]
    assert re.findall(r'stroke-dasharray="([\d ]+)"', legend) == ["6 3"] * 8 + ["2 2"]
    assert len(re.findall("<li ", legend)) == 17
