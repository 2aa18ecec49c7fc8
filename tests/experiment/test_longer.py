"""Runs that go on to another number of rounds: the rows, the records, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

from fednas_jax import config as schema
from fednas_jax.algorithms.fednas.room import ROOM as FEDNAS
from fednas_jax.experiment import assembly, longer, runner, workdir
from fednas_jax.experiment.longer import Length
from fednas_jax.experiment.rounds import Experiment
from fednas_jax.federated.rate_schedules import LearningRate
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime import layout
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import read_json, write_json
from fednas_jax.studies import runs
from fednas_jax.studies.runs import Planned
from tests.staged import ALGORITHM, staged_config
from tests.tiny import fedavg_config, final_state, genotype_config, search_config

pytestmark = pytest.mark.usefixtures("tiny_runs")

TIMES = ("seconds", "client_steps_per_second", "compile_seconds", "peak_memory_bytes")


def config(rounds: int, **fields: Any) -> Any:
    """FedAvg, of which every round is scored."""
    made = fedavg_config()
    made.rounds, made.test_every, made.held_out_every = rounds, 1, 1
    made.report.plots = made.report.tensorboard = False
    made.update_from_flattened_dict(fields)
    return made


def untimed(folder: Path) -> list[dict[str, Any]]:
    rows = read_rows(folder / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def summary(folder: Path) -> dict[str, Any]:
    return {k: v for k, v in read_json(folder / "summary.json").items() if k not in TIMES}


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stop(patch: pytest.MonkeyPatch, number: int) -> None:
    """Lets a run fail after a round."""
    record = Experiment._record

    def recorded(self: Any, row: Any) -> None:
        record(self, row)
        if row["round"] == number:
            raise RuntimeError("stopped on purpose")

    patch.setattr(Experiment, "_record", recorded)


def stopped(made: Any, folder: Path, number: int) -> None:
    """A run that ends after a round, which has a checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        stop(patch, number)
        with pytest.raises(RuntimeError, match="stopped on purpose"):
            runner.run(made, folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of 8 rounds; to be left as it is."""
    folder = tmp_path_factory.mktemp("longer") / "whole"
    runner.run(config(8), folder)
    return folder


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of 5 rounds; to be left as it is."""
    folder = tmp_path_factory.mktemp("longer") / "five"
    runner.run(config(5, **{"report.page": True}), folder)
    return folder


@pytest.fixture
def done(five: Path, tmp_path: Path) -> Path:
    """A copy of the run of 5 rounds."""
    return Path(shutil.copytree(five, tmp_path / "run"))


def assert_whole(folder: Path, whole: Path) -> None:
    assert untimed(folder) == untimed(whole)
    assert final_state(folder) == final_state(whole)
    assert summary(folder) == summary(whole)


def test_five_rounds_and_then_eight_are_eight_at_once(
    done: Path, five: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (done / "metrics.jsonl").read_bytes()
    runner.run(config(8, **{"report.page": True}), done)
    assert (done / "metrics.jsonl").read_bytes().startswith(lines)
    assert_whole(done, whole)
    (line,) = [one for one in capsys.readouterr().out.splitlines() if "config.rounds" in one]
    assert line == (
        "fednas_jax: config.rounds: 5 before, 8 now; the run goes on after round 5; the rounds are "
        "the same as in a run begun with 8"
    )
    run = read_json(done / "run.json")
    assert run["config"] == schema.to_json(schema.resolve(config(8, **{"report.page": True})))
    first, second = run["starts"]
    assert first == read_json(five / "run.json")["starts"][0]
    assert (second["replaced"], second["after_round"]) == ({"rounds": 5}, 5)
    assert second["changed"] == {}
    page = (done / "report.html").read_text()
    assert "8 rounds" in page
    assert line.removeprefix("fednas_jax: ") in page
    # It is a finished run of 8 rounds like any other.
    before = content(done)
    assert runner.run(config(8), done)["rounds"] == 8
    assert content(done) == before
    capsys.readouterr()


def test_fewer_rounds_than_done_are_refused_and_nothing_changes(done: Path) -> None:
    before = content(done)
    with pytest.raises(UserError) as raised:
        runner.run(config(4), done)
    assert str(raised.value) == (
        f"config.rounds: 4 is less than the 5 rounds that the run in {done} has done; at least 5 "
        "is needed, or another workdir"
    )
    assert content(done) == before
    with pytest.raises(UserError, match=r"another config \(config\.seed: 0 there, 1 here\); "):
        runner.run(config(8, seed=1), done)
    assert content(done) == before


def test_a_crash_after_it_went_on_leaves_an_interrupted_run(done: Path, whole: Path) -> None:
    stopped(config(8), done, 6)
    assert not (done / "summary.json").exists()
    assert not (done / "report.html").exists()
    assert read_json(done / "run.json")["config"]["rounds"] == 8
    # Its newest checkpoint is that of round 6, as `checkpoint_every` is 3.
    with pytest.raises(UserError, match=r"^config\.rounds: 5 is less than the 6 rounds that"):
        runner.run(config(5), done)
    runner.run(config(8), done)
    assert_whole(done, whole)
    replaced = [start.get("replaced") for start in read_json(done / "run.json")["starts"]]
    assert replaced == [None, {"rounds": 5}, None]


def test_a_crash_between_the_two_records_leaves_an_interrupted_run(
    done: Path, five: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(workdir, "write_run", lambda *of: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            runner.run(config(8), done)
    assert not (done / "summary.json").exists()
    assert read_json(done / "run.json")["config"]["rounds"] == 5
    runner.run(config(5), done)  # nothing was lost
    assert_whole(done, five)
    runner.run(config(8), done)
    assert_whole(done, whole)


def test_an_interrupted_run_takes_more_rounds_or_fewer(
    five: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped(config(7), tmp_path / "run", 3)
    shutil.copytree(tmp_path / "run", tmp_path / "fewer")
    runner.run(config(8), tmp_path / "run")
    assert_whole(tmp_path / "run", whole)
    assert "config.rounds: 7 before, 8 now; the run goes on after round 3; " in (
        capsys.readouterr().out
    )
    runner.run(config(5), tmp_path / "fewer")
    assert_whole(tmp_path / "fewer", five)
    assert "config.rounds: 7 before, 5 now; the run goes on after round 3; " in (
        capsys.readouterr().out
    )


def test_an_interrupted_run_may_end_where_it_is_if_that_round_was_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped(config(7), tmp_path / "run", 3)
    assert runner.run(config(3), tmp_path / "run")["rounds"] == 3
    assert "config.rounds: 7 before, 3 now; the run ends with 3\n" in capsys.readouterr().out
    stopped(config(7, test_every=2), tmp_path / "untested", 3)
    before = content(tmp_path / "untested")
    with pytest.raises(UserError) as raised:
        runner.run(config(3, test_every=2), tmp_path / "untested")
    assert str(raised.value) == (
        f"config.rounds: round 3 of the run in {tmp_path / 'untested'} was not the last one before,"
        " and has no test_accuracy; at least 4 is needed"
    )
    assert content(tmp_path / "untested") == before


@pytest.mark.parametrize("damage", ["lost", "damaged"])
def test_a_finished_run_does_not_go_on_from_an_earlier_round(done: Path, damage: str) -> None:
    last = done / "checkpoints" / "000005"
    if damage == "lost":
        shutil.rmtree(last)
    else:
        (last / "checkpoint.json").write_text("{}")
    before = content(done)
    with pytest.raises(UserError) as raised:
        runner.run(config(8), done)
    has = "has no checkpoint" if damage == "lost" else "has a damaged checkpoint"
    assert str(raised.value) == (
        f"config.rounds: the run in {done} {has} of round 5, from which it could go on to round 8; "
        "this checkpoint is needed, or 5 rounds, or another workdir"
    )
    assert content(done) == before
    assert runner.run(config(5), done)["rounds"] == 5


def test_a_search_of_two_rounds_and_then_three_is_three_at_once(
    finished_search: Path, tmp_path: Path
) -> None:
    short = search_config()
    short.rounds = 2
    runner.run(short, tmp_path / "run")
    runner.run(search_config(), tmp_path / "run")
    assert_whole(tmp_path / "run", finished_search)
    for name in ("best", "last", "000003"):
        file = Path("genotypes") / f"{name}.json"
        assert read_json(tmp_path / "run" / file) == read_json(finished_search / file)
    alphas = [row["round"] for row in read_rows(tmp_path / "run" / "alphas.jsonl")]
    assert alphas == [0, 1, 2, 3]


def test_nothing_in_a_search_reads_the_number_of_rounds() -> None:
    resolved = schema.resolve(search_config())
    dataset = assembly.load_dataset(resolved)
    FEDNAS.build({name: x for name, x in resolved.items() if name != "rounds"}, dataset)
    assert longer.spread_over_rounds(resolved) == []


SPREAD = {"optimizer.schedule": "across_rounds", "optimizer.learning_rate_min": 0.001}


def test_a_schedule_over_the_rounds_is_followed_over_the_new_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runner.run(config(2, **SPREAD), tmp_path / "run")
    two = untimed(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "by_hand")
    runner.run(config(3, **SPREAD), tmp_path / "run")
    assert untimed(tmp_path / "run")[:3] == two
    (line,) = [one for one in capsys.readouterr().out.splitlines() if "config.rounds" in one]
    assert line.endswith(
        "the run goes on after round 2; the learning rate falls (config.optimizer.schedule "
        "'across_rounds') over the number of rounds: over 2 in rounds 1 to 2, "
        "over 3 in round 3"
    )
    # The same third round, with a constant rate that is worked out here: a quarter of a cosine's
    # way from the end of it, 0.001 + 0.099 (1 + cos(2 pi / 3)) / 2.
    rate = 0.001 + 0.099 * 0.25
    assert float(LearningRate(0.1, 0.001, "across_rounds", 1, 3)(0, jnp.int32(3))) == (
        pytest.approx(rate)
    )
    constant = config(3, **{"optimizer.learning_rate": rate})
    record = read_json(tmp_path / "by_hand" / "run.json")
    record["config"] = schema.to_json(schema.resolve(constant)) | {"rounds": 2}
    write_json(tmp_path / "by_hand" / "run.json", record)
    runner.run(constant, tmp_path / "by_hand")
    third, by_hand = (untimed(tmp_path / name)[3] for name in ("run", "by_hand"))
    assert third["train_loss"] == pytest.approx(by_hand["train_loss"], rel=1e-5)
    assert third["test_loss"] == pytest.approx(by_hand["test_loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("fields", "length", "says"),
    [
        (SPREAD, Length(5, 6, 5, True), "over 5 in rounds 1 to 5, over 6 in round 6"),
        (SPREAD, Length(30, 20, 12, False), "over 30 in rounds 1 to 12, over 20 in rounds 13 "),
        (SPREAD, Length(30, 12, 12, False), ": over 30 in rounds 1 to 12"),
        ({"test_every": 3}, Length(5, 8, 5, True), "round 5 was scored as the last one, and keeps "
         "its scores (config.test_every 3)"),
        ({"held_out_every": 0}, Length(6, 8, 6, True), "(config.held_out_every 0)"),
        ({"transforms": "a.py:Clip"}, Length(5, 8, 5, True), "whether config.transforms a.py:Clip "
         "uses the number of rounds is not known; if not, the rounds are the same as in a run "
         "begun with 8"),
    ],
)  # fmt: skip
def test_what_depends_on_the_number_of_rounds_is_said(
    fields: dict[str, Any], length: Length, says: str
) -> None:
    (line,) = longer.described(length, [{}], config(5, **fields))
    assert says in line
    assert ("the same as in a run" in line) == ("transforms" in fields)


STARTS = [
    {},
    {"replaced": {"rounds": 30}, "after_round": 0},  # no round was computed over 30
    {"replaced": {"rounds": 5}, "after_round": 5},
]


def test_drop_path_an_own_algorithm_and_earlier_changes_are_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = genotype_config(**{"optimizer.drop_path_rate": 0.2, "test_every": 1})
    (line,) = longer.described(Length(8, 10, 8, True), STARTS, made)
    assert "drop path grows (config.optimizer.drop_path_rate 0.2) over the number of rounds: " in (
        line
    )
    assert "over 5 in rounds 1 to 5, over 8 in rounds 6 to 8, over 10 in rounds 9 to 10" in line
    monkeypatch.setattr("fednas_jax.algorithms.registry._added", {ALGORITHM.name: ALGORITHM})
    (line,) = longer.described(Length(2, 3, 2, True), [{}], staged_config())
    assert "whether config.algorithm staged uses the number of rounds is not known" in line
    assert longer.described(Length(5, 5, 3, False), [{}], made) == []
    (line,) = longer.described(Length(5, 6, 0, False), [{}], made)
    assert line == "config.rounds: 5 before, 6 now; no round is done yet"


def test_a_row_that_was_scored_as_the_last_one_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sparse = {"test_every": 2, "held_out_every": 2}
    runner.run(config(3, **sparse), tmp_path / "run")
    runner.run(config(4, **sparse), tmp_path / "run")
    rows = untimed(tmp_path / "run")
    assert [row["test_accuracy"] is not None for row in rows] == [True, False, True, True, True]
    assert "round 3 was scored as the last one" in capsys.readouterr().out


def test_a_sweep_goes_on_with_its_runs_and_refuses_fewer_rounds_at_once(
    done: Path, whole: Path
) -> None:
    def made(rounds: int) -> list[Planned]:
        return [Planned(name, schema.resolve(config(rounds))) for name in ("new", done.name)]

    with pytest.raises(UserError, match=r"^config\.rounds: 3 is less than the 5 rounds that the"):
        next(runs.run_all(made(3), done.parent))
    assert not (done.parent / "new").exists()
    outcomes = list(runs.run_all(made(8), done.parent))
    assert [outcome.error for outcome in outcomes] == ["", ""]
    assert [outcome.summary["rounds"] for outcome in outcomes if outcome.summary] == [8, 8]
    assert_whole(done, whole)
    before = content(done.parent)
    assert [one.error for one in runs.run_all(made(8), done.parent)] == ["", ""]
    assert content(done.parent) == before


def test_a_damaged_summary_is_named_whatever_is_asked_for(done: Path) -> None:
    (done / "summary.json").write_text(json.dumps({"rounds": "x"}))
    with pytest.raises(UserError, match=r"summary\.json: rounds is not a number; remove it to "):
        runner.run(config(5), done)


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, **_: Any) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(UserError, match=r"summary\.json: cannot be removed \(Permission denied\);"):
        workdir.reopen(tmp_path)
    assert layout.SUMMARY_FILE == "summary.json"
