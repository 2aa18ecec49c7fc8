"""Sweeps: what is combined, what is run, what is counted; bad input is refused before any run."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from fednas_jax import config as schema
from fednas_jax.report.writers import MetricsFile
from fednas_jax.studies import sweep_results
from fednas_jax.studies.runs import Outcome, Planned
from fednas_jax.sweep import combinations, main
from tests.stand_in import stand_in

CONFIG = """
from fednas_jax.config import default
from fednas_jax.fields.config_file import check_variant
VARIANTS = ("small_a", "small_b", "large")
TWO = "two"  # stages

def get_config(variant=""):
    check_variant(variant, *VARIANTS, TWO)
    config = default()
    if variant == TWO:
        config.then_train = default()
        return config
    config.rounds = {"": 1, "small_a": 2, "small_b": 3, "large": 4}[variant]
    config.report.progress = config.report.plots = config.report.tensorboard = False
    return config
"""

TINY = """
from tests.tiny import fedavg_config

def get_config():
    config = fedavg_config()
    config.rounds = 2
    config.test_every = 1
    config.report.plots = config.report.tensorboard = False
    return config
"""


@pytest.fixture
def spec(tmp_path: Path) -> str:
    path = tmp_path / "toy.py"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    return stand_in(monkeypatch)


@pytest.mark.parametrize(
    ("variants", "fields", "names"),
    [
        ("", {}, ["toy"]),
        (":large", {"seed": "3"}, ["large"]),
        (":large", {"seed": "3,4"}, ["seed=3", "seed=4"]),
        (":large,small_b", {}, ["large", "small_b"]),
        (":small_*", {}, ["small_a", "small_b"]),
        (
            ":small_*",
            {"seed": "1,2", "batch_size": "8"},
            ["small_a-seed=1", "small_a-seed=2", "small_b-seed=1", "small_b-seed=2"],
        ),
        (
            "",
            {"seed": "1,2", "optimizer.momentum": "0,0.5"},
            [f"seed={s}-optimizer.momentum={m}" for s in (1, 2) for m in ("0", "0.5")],
        ),
    ],
)
def test_every_combination_has_a_name_and_its_config(
    spec: str, variants: str, fields: Mapping[str, str], names: list[str]
) -> None:
    combined = combinations(spec + variants, fields)
    assert list(combined) == names
    for name, config in combined.items():
        if "seed=" in name:
            assert f"seed={config.seed}" in name
        if name.startswith("small_b"):
            assert config.rounds == 3
        assert config.batch_size == int(fields.get("batch_size", 64))


def test_chains_of_transforms_are_separated_by_semicolons(spec: str, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("def a(config): return 1\n\n\nb = a\n")
    combined = combinations(spec, {"transforms": f"{own}:a;{own}:a,{own}:b", "seed": "1,2"})
    found = [(config.transforms, config.seed) for config in combined.values()]
    chains = (f"{own}:a", f"{own}:a,{own}:b")
    assert found == [(chain, seed) for chain in chains for seed in (1, 2)]


def test_a_sweep_counts_rounds_and_makes_nothing_twice(
    spec: str, tmp_path: Path, made: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command = [f"--config={spec}:small_b,large", f"--workdir={tmp_path / 'out'}", "--target=0.25,1"]
    assert main(command) == 0
    assert made == [tmp_path / "out" / "small_b", tmp_path / "out" / "large"]
    kept = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert kept["targets"] == [0.25, 1.0]
    first, second = kept["runs"]
    assert (first["round"], first["test_accuracy"]) == ([1, 2, 3], [0.1, 0.2, 0.3])
    assert first["rounds_to_target"] == [pytest.approx(2.5), None]
    assert (first["best_test_accuracy"], first["config"]["rounds"]) == (0.3, 3)
    assert second["config"]["rounds"] == 4
    table = (tmp_path / "out" / "table.md").read_text()
    assert table.splitlines()[2:] == [
        "| small_b | 3 | 0.3000 | 0.3000 | 2.5 | - | 2 |",
        "| large | 4 | 0.4000 | 0.4000 | 2.5 | - | 2 |",
    ]
    assert table in capsys.readouterr().out
    assert (tmp_path / "out" / "curves.png").exists()
    assert main(command) == 0
    assert len(made) == 2
    assert "small_b: is already finished" in capsys.readouterr().out


def test_a_run_that_fails_keeps_no_other_from_being_made(
    spec: str, tmp_path: Path, made: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command = [f"--config={spec}", f"--workdir={tmp_path / 'out'}", "--config.seed=13,1"]
    assert main(command) == 2
    assert len(made) == 2
    assert "error: 1 of 2 runs failed: seed=13\n" in capsys.readouterr().err
    failed, good = json.loads((tmp_path / "out" / "sweep.json").read_text())["runs"]
    assert (failed["error"], failed["round"]) == ("round 1: not finite", [])
    assert (good["error"], good["round"]) == ("", [1])
    assert "| seed=13 | - | - | - | - | failed |" in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workdir=out"], "--config: missing"),
        (["--config={spec}"], "--workdir: missing"),
        (["--config={spec}", "--workdir=out", "--targt=0.5"], "did you mean '--target'?"),
        (["--config={spec}", "--workdir=out", "--target=1.5"], "--target: '1.5' is not usable"),
        (["--config={spec}", "--workdir=out", "--target=high"], "--target: 'high' is not usable"),
        (["--config={spec}:smal_a,large", "--workdir=out"], "did you mean 'small_a'?"),
        (["--config={spec}:tiny_*", "--workdir=out"], "known: small_a, small_b, large"),
        (["--config={spec}", "--workdir=out", "--config.seed=1,1"], "seed=1: occurs twice"),
        (["--config={spec}", "--workdir=out", "--config.seed=1,x"], "config.seed: 'x'"),
        (["--config={spec}", "--workdir=out", "--config.rounds=1,0"], "config.rounds: 0"),
        (["--config={spec}:two", "--workdir=out"], "config.then_train: a search and a training"),
    ],
)
def test_bad_input_is_refused_before_any_run(
    spec: str,
    tmp_path: Path,
    made: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([argument.format(spec=spec) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not made
    assert not (tmp_path / "out").exists()


def test_a_folder_with_another_run_is_refused_before_any_run(
    spec: str, tmp_path: Path, made: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command = [f"--config={spec}", f"--workdir={tmp_path}", "--config.seed=1,2"]
    assert main([*command, "--config.batch_size=8"]) == 0
    (tmp_path / "seed=1" / "run.json").unlink()
    assert main([*command, "--config.batch_size=16"]) == 2
    assert len(made) == 2
    assert "seed=1 holds metrics.jsonl but no run.json" in capsys.readouterr().err


def test_a_sweep_of_real_runs(tmp_path: Path) -> None:
    """Nothing stands in: the test before the first round is a point of the curve, at 0."""
    (tmp_path / "real.py").write_text(TINY)
    out = tmp_path / "out"
    rates = "--config.optimizer.learning_rate=0.1,0.2"
    command = [f"--config={tmp_path / 'real.py'}", f"--workdir={out}", rates, "--target=0.01,1"]
    assert main(command) == 0
    kept = json.loads((out / "sweep.json").read_text())["runs"]
    assert [run["name"] for run in kept] == [f"optimizer.learning_rate=0.{n}" for n in (1, 2)]
    for run in kept:
        lines = (out / run["name"] / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        summary = json.loads((out / run["name"] / "summary.json").read_text())
        assert run["round"] == [row["round"] for row in rows] == [0, 1, 2]
        for name in ("test_accuracy", "test_loss"):
            assert run[name] == [row[name] for row in rows]
        assert (run["error"], run["seconds"]) == ("", summary["seconds"])
        assert run["test_accuracy"][-1] == summary["last_test_accuracy"]
        first = next(n for n, accuracy in enumerate(run["test_accuracy"]) if accuracy >= 0.01)
        early, never = run["rounds_to_target"]
        assert never is None
        assert first - 1 < early <= first or early == first == 0
    # The same seed: only what comes after the first weights differs.
    assert kept[0]["test_loss"][0] == kept[1]["test_loss"][0]
    assert kept[0]["test_loss"][1] != kept[1]["test_loss"][1]


def test_a_run_without_tests_has_no_curve(tmp_path: Path) -> None:
    MetricsFile(tmp_path / "metrics.jsonl").append({"round": 1, "test_accuracy": None})
    planned = Planned("x", schema.resolve(schema.default()))
    kept = sweep_results.result(Outcome(planned, tmp_path, {"seconds": 1.0}, ""), [0.9])
    assert (kept["round"], kept["best_test_accuracy"], kept["rounds_to_target"]) == (
        [],
        None,
        [None],
    )
    assert "| x | - | - | - | - | 1 |" in sweep_results.table([kept], [0.9])


def test_every_run_is_in_the_picture() -> None:
    near, far = [(0, 0.1), (5, 0.97)], [(0, 0.1), (5, 0.3), (6, 0.25)]
    assert sweep_results._lowest({"near": near, "none": []}, [0.99]) == 0.9
    assert sweep_results._lowest({"near": near, "far": far}, [0.99]) == pytest.approx(0.25)
    assert sweep_results._lowest({"near": near}, [0.5, 0.99]) == 0.0
    assert sweep_results._lowest({}, [0.99]) == 0.9


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "--target" in capsys.readouterr().out
