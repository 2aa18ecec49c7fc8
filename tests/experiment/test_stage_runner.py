"""A run of several stages: whole, interrupted in each of them, gone on with, and refused."""

import json
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

import fednas_jax
from fednas_jax import config as schema
from fednas_jax import evaluate
from fednas_jax.algorithms import registry
from fednas_jax.algorithms.declared import Finds
from fednas_jax.algorithms.stage_types import RoundsStage, ServerStage
from fednas_jax.experiment import assembly, runner, stage_runner, stages
from fednas_jax.experiment.rounds import Experiment
from fednas_jax.federated.ranks.communicator import LOCAL
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime import layout
from fednas_jax.runtime.errors import UserError
from fednas_jax.studies import runs, sweep_results
from fednas_jax.studies.runs import Planned
from tests import staged
from tests.staged import ALGORITHM, NAMES, staged_config
from tests.tiny import fedavg_config, final_state

pytestmark = pytest.mark.usefixtures("tiny_runs", "known")


@pytest.fixture(scope="module")
def known() -> Iterator[None]:
    """The algorithm is known by its name, in this file alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_added", {ALGORITHM.name: ALGORITHM})
        yield


@pytest.fixture(scope="module")
def whole(known: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of an undisturbed run; to be left as it is."""
    folder = tmp_path_factory.mktemp("staged") / "whole"
    runner.run(config(), folder)
    return folder


@pytest.fixture
def done(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, which keeps its place: a stage's config names the folder of another."""
    hidden = whole.with_name("hidden")
    shutil.copytree(whole, hidden)
    yield whole
    shutil.rmtree(whole)
    hidden.rename(whole)


def config(**fields: Any) -> Any:
    made = staged_config(**fields)
    made.report.plots = made.report.tensorboard = False
    return made


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def measured(workdir: Path) -> list[list[Any]]:
    """What must not depend on interruptions: losses of all rounds, and what the server drew."""
    rows = [row for n in (NAMES[0], NAMES[2]) for row in read_rows(workdir / n / "metrics.jsonl")]
    drawn = read(workdir / "pick" / "summary.json")
    return [
        *([row[n] for n in ("round", "train_loss", "test_loss", "held_out_loss")] for row in rows),
        [drawn["drawn"], drawn["bias"]],
    ]


def test_all_stages_are_run_in_their_folders(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {"first", "pick", "then", "stages.json"}
    record = read(whole / "stages.json")
    assert [(one["name"], one["kind"]) for one in record["stages"]] == [
        ("first", "rounds"), ("pick", "server"), ("then/tier-1", "rounds"),
    ]  # fmt: skip
    assert [sorted(one["after"]) for one in record["stages"]] == [[], ["first"], ["first", "pick"]]
    assert record["config"]["pick"] == {"raise": 0.5}
    assert record["user_code"]["algorithm"]["path"] == staged.__file__
    assert read(whole / "pick" / "run.json")["user_code"] == record["user_code"]
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 2), zlib.crc32(b"pick"))
    assert read(whole / "pick" / "summary.json")["drawn"] == jax.random.randint(key, (), 0, 10)


def test_the_last_begins_with_what_the_server_saved(whole: Path) -> None:
    picked, first = fednas_jax.restore(whole / "pick"), fednas_jax.restore(whole / "first")
    kept = read(whole / "pick" / "summary.json")
    (last,) = (n for n, x in picked.variables["params"].items() if x["bias"].shape == (10,))
    moved = picked.variables["params"][last]["bias"] - first.variables["params"][last]["bias"]
    expected = np.zeros(10)
    expected[kept["drawn"]] = 0.5
    np.testing.assert_allclose(moved, expected, atol=1e-6)
    assert picked.round == first.round == kept["round"]
    test = assembly.load_dataset(schema.resolve(config())).test
    losses = optax.softmax_cross_entropy_with_integer_labels(
        picked.logits(test.images), test.labels
    )
    begun = read_rows(whole / NAMES[2] / "metrics.jsonl")[0]
    assert begun["round"] == 0
    assert begun["test_loss"] == pytest.approx(float(losses.mean()), rel=1e-5)
    # What the model has learnt from goes with it.
    train = assembly.load_dataset(schema.resolve(config())).train
    assert picked.has_learnt_from(train.images).all()
    assert not picked.has_learnt_from(test.images).any()
    assert fednas_jax.restore(whole).path.parents[1] == whole / NAMES[2]


def test_a_finished_run_is_told_and_left_as_it_is(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("*") if p.is_file()}
    summary = runner.run(config(), whole)
    assert summary == read(whole / NAMES[2] / "summary.json")
    said = capsys.readouterr().out
    for name in NAMES:
        assert f"{whole / name}: this {'stage' if name == 'pick' else 'run'} is finished" in said
    assert before == {p: p.stat().st_mtime_ns for p in whole.rglob("*") if p.is_file()}


@pytest.mark.parametrize("interrupted", NAMES)
def test_interrupted_in_any_stage_it_comes_to_the_same_bits(
    whole: Path, tmp_path: Path, interrupted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = tmp_path / "parts"
    record, pick = Experiment._record, staged.pick

    def stop_rounds(self: Any, row: Any) -> None:
        record(self, row)
        if row["round"] == 1 and self._folder == workdir / interrupted:
            raise KeyboardInterrupt

    def stop_server(stage: Any) -> Any:
        pick(stage)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "_record", stop_rounds)
        if interrupted == "pick":
            patch.setattr(staged, "pick", stop_server)
        with pytest.raises(KeyboardInterrupt):
            runner.run(config(), workdir)
    assert (workdir / interrupted / "run.json").exists()
    assert not (workdir / interrupted / "summary.json").exists()
    assert [one["name"] for one in read(workdir / "stages.json")["stages"]] == list(NAMES)
    runner.run(config(), workdir)
    assert measured(workdir) == measured(whole)
    assert final_state(workdir / NAMES[2]) == final_state(whole / NAMES[2])


def refusal(workdir: Path, **fields: Any) -> str:
    with pytest.raises(UserError) as raised:
        runner.run(config(**fields), workdir)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_another_config_is_refused_at_once(whole: Path) -> None:
    text = refusal(whole, **{"pick.raise": 0.25})
    assert text.startswith(f"--workdir: {whole} holds a run of another config (config.pick.raise:")


def test_a_stage_does_not_go_on_once_a_later_one_has_begun(whole: Path) -> None:
    before = {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()}
    assert refusal(whole, rounds=3) == (
        f"config.rounds: 3 here, 2 in {whole / 'first'}; stage pick has begun with what stage "
        "first found in 2 rounds, so 2 is needed, or another workdir"
    )
    assert before == {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()}


def test_a_stage_goes_on_while_no_later_one_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(stage: Any) -> Any:
        raise UserError("not yet")

    with monkeypatch.context() as patch:
        patch.setattr(staged, "pick", refuse)
        assert refusal(tmp_path / "run") == "stage pick: not yet"
        assert read(tmp_path / "run" / "stages.json")["config"]["rounds"] == 2
        assert refusal(tmp_path / "run", rounds=3) == "stage pick: not yet"
    assert read(tmp_path / "run" / "first" / "summary.json")["rounds"] == 3
    record = read(tmp_path / "run" / "stages.json")
    assert record["config"]["rounds"] == 3
    runner.run(config(rounds=3), tmp_path / "run")
    rows = [read_rows(tmp_path / "run" / n / "metrics.jsonl") for n in (NAMES[0], NAMES[2])]
    assert [[row["round"] for row in of] for of in rows] == [[0, 1, 2, 3]] * 2
    # A later command finds all of it finished.
    assert runner.run(config(rounds=3), tmp_path / "run")["rounds"] == 3


def test_a_workdir_that_is_moved_is_the_same_run(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = Path(shutil.copytree(whole, tmp_path / "moved"))
    assert runner.run(config(), moved) == read(whole / NAMES[2] / "summary.json")
    assert (
        f"config.warm_start: {moved / 'pick'} has the content of {whole / 'pick'}\n"
        in capsys.readouterr().out
    )
    shutil.rmtree(moved / "pick" / "checkpoints")
    shutil.copytree(moved / "first" / "checkpoints", moved / "pick" / "checkpoints")
    assert refusal(moved) == (
        f"stage then/tier-1: config.warm_start: {moved / 'pick'} does not have the recorded "
        f"content of {whole / 'pick'}, with which the run in {moved / NAMES[2]} began; files with "
        "the same content are needed, or another workdir"
    )


def test_changed_code_is_refused_whatever_stage_is_next(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = read(done / "stages.json")
    record["user_code"]["algorithm"]["sha256"] = "0" * 64
    (done / "stages.json").write_text(json.dumps(record))
    text = refusal(done)
    assert text.startswith(f"config.algorithm: {staged.__file__} is not as it was when the run in")
    # Nor where the record of the stage on the server alone says so.
    del record["user_code"]
    (done / "stages.json").write_text(json.dumps(record))
    of_stage = read(done / "pick" / "run.json")
    of_stage["user_code"]["algorithm"]["sha256"] = "0" * 64
    (done / "pick" / "run.json").write_text(json.dumps(of_stage))
    assert refusal(done).startswith(f"stage pick: config.algorithm: {staged.__file__} is not as it")


@pytest.mark.parametrize("changed", ["first", "pick"])
def test_a_stage_that_began_with_another_summary_is_refused(done: Path, changed: str) -> None:
    path = done / changed / "summary.json"
    summary = read(path)
    path.write_text(json.dumps(summary | {"seconds": 1e6}))
    runner.run(config(), done)  # what it cost is nothing that a stage begins with
    path.write_text(json.dumps(summary | {"rounds": 7}))
    later = "pick" if changed == "first" else NAMES[2]
    assert refusal(done) == (
        f"--workdir: {path} is not the summary that the stage in {done / later} began with; the "
        f"stage {changed} as it was is needed, or another workdir"
    )


def test_a_stage_that_is_removed_begins_with_what_is_there_now(done: Path) -> None:
    path = done / "pick" / "summary.json"
    path.write_text(json.dumps(read(path) | {"more": 1}))
    shutil.rmtree(done / "then")
    runner.run(config(), done)
    assert runner.run(config(), done)["rounds"] == 2


def test_without_a_record_of_what_it_began_with_a_line_says_so(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (done / "stages.json").unlink()
    runner.run(config(), done)
    said = capsys.readouterr().err
    for name, before in (("pick", "first"), (NAMES[2], "first, pick")):
        assert (
            f"{done / name}: has no record of the summaries of stage {before} that it began with; "
            "whether they have changed since cannot be checked\n"
        ) in said
    assert [one["name"] for one in read(done / "stages.json")["stages"]] == list(NAMES)


def test_a_server_that_refuses_leaves_no_half_written_record(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(done / "then")
    shutil.rmtree(done / "pick")

    def refuse(stage: Any) -> Any:
        (stage.folder / "half").write_text("x")
        raise UserError("config.pick.raise: too little; more is needed")

    with monkeypatch.context() as patch:
        patch.setattr(staged, "pick", refuse)
        assert refusal(done) == "stage pick: config.pick.raise: too little; more is needed"
    assert [path.name for path in (done / "pick").iterdir()] == [".lock"]
    with pytest.raises(
        UserError, match=r"its stage then/tier-1 has no checkpoint yet; for the mod"
    ):
        layout.last(done)
    runner.run(config(), done)
    assert layout.last(done) == done / NAMES[2]


def test_other_stages_than_before_are_refused(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    several = staged.stages

    def fewer(resolved: Any) -> Any:
        return several(resolved)[:2]

    monkeypatch.setattr(staged, "stages", fewer)
    assert refusal(whole) == (
        f"--workdir: {whole} holds a run of the stages first (rounds), pick (server), then/tier-1 "
        "(rounds), and those of this config are first (rounds), pick (server); another folder is "
        "needed"
    )


@pytest.mark.parametrize("name", ["a b", "plots", "first"])
def test_names_that_do_not_fit_are_refused_before_there_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    several = staged.stages

    def renamed(resolved: Any) -> Any:
        first, server, last = several(resolved)
        return first, server._replace(name=name), last

    monkeypatch.setattr(staged, "stages", renamed)
    assert refusal(tmp_path / "new").startswith("config.algorithm: the stages of 'staged': ")
    assert not (tmp_path / "new").exists()


def test_a_first_stage_that_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    text = refusal(tmp_path / "new", **{"augment.cutout": 8})
    assert text.startswith("stage first: config.augment.cutout: 8 may hide all")
    assert not (tmp_path / "new").exists()


def test_runs_of_one_stage_and_of_several_do_not_share_a_workdir(
    whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"holds a run of several stages \(first, pick, then/tier"):
        runner.run(fedavg_config(), whole)
    (tmp_path / "run.json").write_text("{}")
    assert refusal(tmp_path) == (
        f"--workdir: {tmp_path} holds a run of one stage; another folder is needed"
    )


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    for content in ("[]", '{"stages": []}', '{"stages": [{"name": "../x", "kind": "rounds"}]}'):
        (tmp_path / "stages.json").write_text(content)
        assert refusal(tmp_path).startswith(
            f"{tmp_path / 'stages.json'}: not the record of a run's stages; the unchanged"
        )


def test_a_sweep_counts_the_last_rounds_and_the_seconds_of_all_stages(
    whole: Path, tmp_path: Path
) -> None:
    (outcome,) = runs.run_all([Planned("whole", schema.resolve(config()))], whole.parent)
    assert outcome.error == ""
    assert outcome.summary is not None
    last = read(whole / NAMES[2] / "summary.json")
    seconds = [read(whole / name / "summary.json")["seconds"] for name in NAMES]
    assert outcome.summary["test_accuracy"] == last["test_accuracy"]
    assert outcome.summary["seconds"] == pytest.approx(sum(seconds))
    told = sweep_results.result(outcome, [0.9])
    rows = read_rows(whole / NAMES[2] / "metrics.jsonl")
    assert told["test_accuracy"] == [row["test_accuracy"] for row in rows]
    with pytest.raises(UserError, match=r"holds a run of another config \(config\.seed: 0 there"):
        next(runs.run_all([Planned("whole", schema.resolve(config(seed=1)))], whole.parent))


def test_commands_of_one_model_take_the_last_stage(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([str(whole), f"--out={tmp_path}"]) == 0
    assert Path(read(tmp_path / "evaluation.json")["checkpoint"]).parents[1] == whole / NAMES[2]
    assert evaluate.main([str(whole / "pick"), f"--out={tmp_path / 'picked'}"]) == 0
    tested = read_rows(whole / NAMES[2] / "metrics.jsonl")[0]["test_accuracy"]
    assert read(tmp_path / "picked" / "evaluation.json")["accuracy"] == pytest.approx(tested)


def test_the_command_line_runs_the_same(whole: Path, tmp_path: Path) -> None:
    """`stages.run`, which `main` calls."""
    stages.run(stages.resolve(config(), {}), whole)
    calls: list[Any] = []

    def run_rounds(stage: Any, before: Any, folder: Path, begun: Any) -> dict[str, Any]:
        calls.append((stage.name, dict(before), folder))
        return {}

    made = (
        RoundsStage("a", lambda before: {}),
        ServerStage("b", lambda stage: {"before": sorted(stage.before)}),
        RoundsStage("c/d", lambda before: {}),
    )
    resolved = schema.resolve(config())
    stage_runner.run(made, tmp_path / "w", run_rounds, LOCAL, resolved)
    root = (tmp_path / "w").resolve()
    assert calls == [
        ("a", {}, tmp_path / "w" / "a"),
        ("c/d", {"a": root / "a", "b": root / "b"}, tmp_path / "w" / "c" / "d"),
    ]
    assert read(tmp_path / "w" / "b" / "summary.json")["before"] == ["a"]


FINDS = Finds("genotype", "genotypes/best.json")


def test_no_training_follows_what_has_stages_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = config()
    monkeypatch.setattr(registry, "_added", {"staged": ALGORITHM._replace(finds=FINDS)})
    both.then_train = schema.default("fedavg")
    both.then_train.network.name = "genotype"
    both.then_train.dataset = both.dataset
    with pytest.raises(UserError, match=r"^config\.then_train: 'staged' runs in its own stages"):
        stages.run(stages.resolve(both, {}), tmp_path / "new")
    assert not (tmp_path / "new").exists()
