"""The command that writes pages: which file, of which runs; damaged folders are named."""

import json
from pathlib import Path

import pytest

from fednas_jax.report import page
from tests.report import runs


def errors(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which a command is refused."""
    assert page.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("fednas_jax: error: ")
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize("asked", [True, False])
def test_the_page_of_one_run_goes_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: bool
) -> None:
    folder = runs.average_run(tmp_path / "run")
    path = tmp_path / "mine.html" if asked else folder / "report.html"
    assert page.main([str(folder), *([f"--output={path}"] if asked else [])]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert [path] == [*tmp_path.rglob("*.html")]
    assert "<h1>run</h1>" in path.read_text()


def test_a_search_and_its_training_are_compared_as_far_as_they_have_begun(tmp_path: Path) -> None:
    workdir = tmp_path / "digits"
    runs.search_run(workdir / "search")
    runs.average_run(workdir / "train", rounds=1)  # none is done yet
    assert page.main([str(workdir)]) == 0
    assert "<h1>digits/search</h1>" in (workdir / "report.html").read_text()
    for path in (workdir / "train").iterdir():
        path.unlink()
    (workdir / "train").rmdir()
    runs.average_run(workdir / "train", trains="DARTS_V2")
    assert page.main([str(workdir)]) == 0
    text = (workdir / "report.html").read_text()
    assert "<h1>2 runs compared</h1>" in text
    assert "<p>digits/search, digits/train</p>" in text
    for title in (
        "digits/search: Normal cell, round 5, the best",
        "digits/train: Reduction cell, trained: DARTS_V2",
    ):
        assert f"<figcaption>{title}</figcaption>" in text
    other = runs.average_run(tmp_path / "other")
    both = tmp_path / "both.html"
    assert page.main([str(workdir), str(other), f"--output={both}"]) == 0
    assert "<p>digits/train, other</p>" in both.read_text()


def server_stage(folder: Path, summary: object) -> Path:
    """A stage that the server has computed, as it is left."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"kind": "server", "config": {}, "starts": []}))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def recorded(workdir: Path, **kinds: str) -> None:
    stages = [{"name": name, "kind": kind} for name, kind in kinds.items()]
    workdir.mkdir()
    (workdir / "stages.json").write_text(json.dumps({"stages": stages}))


def test_stages_on_the_server_are_shown_with_the_others(tmp_path: Path) -> None:
    workdir = tmp_path / "digits"
    recorded(workdir, search="rounds", pick="server", tune="rounds")
    runs.search_run(workdir / "search")
    server_stage(workdir / "pick", None)  # not finished
    assert page.main([str(workdir)]) == 0
    text = (workdir / "report.html").read_text()
    assert "<h1>digits/search</h1>" in text
    assert "Stage pick" not in text
    found = {"best": {"tier": 3}, "paths": list(range(99)), "name": "<b>", "seconds": 61.0}
    (workdir / "pick" / "summary.json").write_text(json.dumps(found))
    runs.average_run(workdir / "tune")
    assert page.main([str(workdir)]) == 0
    text = (workdir / "report.html").read_text()
    assert "<p>digits/search, digits/tune</p>" in text
    assert '<h2 id="stage-pick-title">Stage pick</h2>' in text
    assert "Computed on the server in 61 s." in text
    for name, value in (("best.<wbr>tier", "3"), ("name", "&lt;b&gt;")):
        assert f'<th scope="row">{name}</th><td>{value}</td>' in text
    assert "48, 49, 5 …</td>" not in text
    assert "…</td>" in text, "a long value is cut off"
    assert '<th scope="row">seconds</th>' not in text


def test_stages_on_the_server_have_a_page_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = tmp_path / "digits"
    recorded(workdir, pick="server", train="rounds")
    folder = server_stage(workdir / "pick", {"tier": 3})
    for asked, title in ((workdir, "digits"), (folder, "digits/pick")):
        assert page.main([str(asked)]) == 0
        text = (asked / "report.html").read_text()
        assert f"<h1>{title}</h1>" in text
        assert '<th scope="row">tier</th><td>3</td>' in text
    (folder / "summary.json").write_text("[]")
    assert f"{folder / 'summary.json'}: not a summary; the un" in errors(capsys, str(workdir))
    (folder / "summary.json").unlink()
    said = f"{folder}: this stage on the server is not finished; wait for its end\n"
    assert said in errors(capsys, str(folder))


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert page.main(["--help"]) == 0
    assert "--output" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "RUN: missing; the workdir of a run is needed first"),
        (["--output=x.html"], "RUN: missing"),
        (["run", "--outptu=x.html"], "--outptu: no such flag; did you mean '--output'?"),
        (["run", "--output"], "--output: has no value"),
        (["run", "--output=x.html", "run"], "run: not a flag"),
        (["run", "--config.rounds=3"], "--config.rounds: no such flag"),
    ],
)
def test_bad_arguments_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert message in errors(capsys, *arguments)


def test_what_is_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert errors(capsys, str(tmp_path)) == (
        f"fednas_jax: error: {tmp_path / 'run.json'}: cannot be read (No such file or directory); "
        "the workdir of a run is needed\n"
    )
    folder = runs.average_run(tmp_path / "run", rounds=1)
    assert f"{folder}: no round is finished yet" in errors(capsys, str(folder))


GOOD = {"rounds": 3, "algorithm": "fedavg", "dataset": {"name": "digits"}}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", [], "not the record of a run"),
        ("run.json", {"config": 3}, "not the record of a run"),
        ("run.json", {"config": GOOD | {"rounds": "3"}}, "config lacks rounds"),
        ("run.json", {"config": GOOD | {"dataset": "digits"}}, "config lacks rounds"),
        ("run.json", {"config": GOOD, "starts": 3}, "starts is not a list"),
        ("run.json", {"config": GOOD, "starts": [3]}, "starts is not a list"),
        ("run.json", {"config": GOOD, "genotype": {}}, "run.json: genotype: normal: is missing"),
        ("metrics.jsonl", {"held_out_accuracy": 0.5}, "line 1 has no round"),
        ("metrics.jsonl", {"round": 1, "test_accuracy": 0.5}, "line 1 has no held_out_accuracy"),
        ("metrics.jsonl", {"round": 1, "held_out_accuracy": "0.5"}, "line 1 has no held_out"),
        ("metrics.jsonl", {"round": 1, "held_out_accuracy": None}, "line 1 has no test_accuracy"),
        ("partition.json", {}, "class_counts has no line for each client"),
        ("partition.json", {"class_names": ["a"], "class_counts": []}, "class_counts has no line"),
        (
            "partition.json",
            {"class_names": ["a"], "class_counts": [[1, 2]]},
            "class_counts has no line",
        ),
        (
            "partition.json",
            {"class_names": ["a"], "class_counts": [["1"]]},
            "class_counts has no line",
        ),
        (
            "partition.json",
            {"class_names": ["a"], "class_counts": [[1], [2]], "client_ids": [7]},
            "client_ids has no number for each client",
        ),
        (
            "partition.json",
            {"class_names": ["a"], "class_counts": [[1], [2]], "client_names": ["x", 2]},
            "client_names has no name for each client",
        ),
        ("summary.json", [], "not a summary"),
        ("summary.json", {}, "rounds is not a number"),
    ],
)
def test_damaged_files_are_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: object,
    message: str,
) -> None:
    folder = runs.search_run(tmp_path / "run")
    (folder / name).write_text(json.dumps(content) + "\n")
    said = errors(capsys, str(folder))
    assert str(folder / name) in said
    assert message in said


def test_a_summary_of_other_rounds_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs.search_run(tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"best_round": 9}))
    assert "summary.json: best_round is not in metrics.jsonl" in errors(capsys, str(folder))
