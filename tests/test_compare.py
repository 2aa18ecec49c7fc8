"""Comparisons: the same clients and seeds for all networks, and a table that can be worked out."""

import json
from pathlib import Path

import pytest

from fednas_jax import config as schema
from fednas_jax.compare import main
from fednas_jax.runtime.errors import UserError
from fednas_jax.spaces.darts import genotype as genotypes
from fednas_jax.studies import comparison
from tests.stand_in import FAILING_SEED, FOUND, stand_in

CONFIG = """
from fednas_jax.config import default

def get_config():
    config = default()
    config.algorithm = "fedavg"
    config.dataset.name = "digits"
    config.partition.name = "homo"
    config.partition.num_clients = 4
    config.network.name = "genotype"
    config.network.init_channels = 4
    config.network.layers = 3
    config.rounds = 5
    config.augment.cutout = config.augment.crop_padding = 0
    return config
"""
SEARCH = """
from fednas_jax.config import default

def get_config():
    config = default()
    config.dataset.name = "digits"
    config.partition.name = "homo"
    config.partition.num_clients = 4
    config.rounds = 2
    config.augment.cutout = config.augment.crop_padding = 0
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
NETWORKS = ("network", "genotype")
"""Fields that say which network it is."""
# 64 x 200 + 200, 200 x 200 + 200, 200 x 10 + 10.
PARAMETERS_OF_2NN, MULTIPLY_ADDS_OF_2NN = 55_210, 54_800


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """The two configs."""
    (tmp_path / "train.py").write_text(CONFIG)
    (tmp_path / "search.py").write_text(SEARCH)
    return str(tmp_path / "train.py"), str(tmp_path / "search.py")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    return stand_in(monkeypatch)


def test_rows_differ_in_nothing_but_the_network_and_the_seed(
    files: tuple[str, str], tmp_path: Path
) -> None:
    train, search = files
    names = ["2nn", "random", "FedNAS_V1"]
    plan = comparison.plan(train, {"rounds": "7"}, search, names, [3, 5], tmp_path)
    assert list(plan.searches) == ["search-seed=3", "search-seed=5"]
    assert [config.seed for config in plan.searches.values()] == [3, 5]
    assert list(plan.rows) == ["searched", "2nn", "random", "FedNAS_V1"]
    for name, configs in plan.rows.items():
        assert list(configs) == [f"{name}-seed=3", f"{name}-seed=5"]
        for config, seed in zip(configs.values(), (3, 5), strict=True):
            assert config.seed == seed
            plain, other = (
                {key: value for key, value in schema.to_json(one).items() if key not in NETWORKS}
                for one in (config, plan.rows["2nn"][f"2nn-seed={seed}"])
            )
            # Which the 2NN has not: paths, and statistics.
            plain["optimizer"].pop("drop_path_rate", None)
            for field in ("batch_stats", "recalibration_fraction"):
                plain["server"].pop(field, None)
            assert plain == other
    assert plan.rows["2nn"]["2nn-seed=3"].rounds == 7
    assert dict(plan.rows["2nn"]["2nn-seed=3"].network) == {"name": "2nn"}
    chosen = {name: next(iter(configs.values())) for name, configs in plan.rows.items()}
    assert chosen["FedNAS_V1"].genotype == "FedNAS_V1"
    assert chosen["FedNAS_V1"].network.layers == 3
    assert chosen["random"].genotype == str(tmp_path / "genotypes" / "random-3.json")
    best = tmp_path / "search-seed=3" / "genotypes" / "best.json"
    assert chosen["searched"].genotype == str(best)
    assert plan.searches["search-seed=3"].rounds == 2
    assert plan.random == {tmp_path / "genotypes" / f"random-{seed}.json": seed for seed in (3, 5)}


def test_a_search_gets_the_clients_that_are_trained_on(
    files: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, search = files
    fields = {
        "partition.num_clients": "6",
        "dataset.max_train_examples": "900",
        "client.held_out_fraction": "0.2",
        "batch_size": "8",
    }
    monkeypatch.chdir(tmp_path)
    plan = comparison.plan(train, fields, search, ["2nn"], [1], Path("out"))
    (searching,), (training,) = plan.searches.values(), plan.rows["searched"].values()
    for config in (searching, training):
        assert config.partition.num_clients == 6
        assert config.dataset.max_train_examples == 900
        assert config.client.held_out_fraction == 0.2
    assert (searching.batch_size, training.batch_size) == (64, 8)
    # Wherever one stands, the same.
    assert training.genotype == str(tmp_path / "out/search-seed=1/genotypes/best.json")


def test_random_genotypes_are_those_of_their_seeds(tmp_path: Path) -> None:
    folder = tmp_path / "genotypes"
    random = {folder / "a.json": 0, folder / "b.json": 1, folder / "c.json": 0}
    comparison.save_random(random)
    a, b, c = (genotypes.load(path) for path in random)
    assert a == c != b


def test_the_table_has_means_over_seeds(
    files: tuple[str, str],
    tmp_path: Path,
    made: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    command = [f"--config={files[0]}", "--networks=2nn,random", f"--workdir={out}", "--seeds=1,3"]
    assert main(command) == 0
    assert [f.name for f in made] == [f"{n}-seed={s}" for n in ("2nn", "random") for s in (1, 3)]
    first, second = json.loads((out / "comparison.json").read_text())["rows"]
    assert (first["network"], second["network"]) == ("2nn", "random")
    # 0.51 and 0.53: half the difference, times the root of 2, is their standard deviation.
    assert first["accuracy_mean"] == pytest.approx(0.52)
    assert first["accuracy_std"] == pytest.approx(0.01 * 2**0.5)
    assert first["parameters"] == PARAMETERS_OF_2NN
    assert first["multiply_adds"] == MULTIPLY_ADDS_OF_2NN
    assert first["bytes_per_client_and_round"] == 210
    assert first["bytes_sent"] == 5 * 4 * 100
    assert second["runs"][0]["parameters"] != second["runs"][1]["parameters"]
    for row in (first, second):
        assert json.loads((out / row["config_file"]).read_text()) == row["config"]
    table = (out / "comparison.md").read_text()
    assert table.splitlines()[2] == (
        "| 2nn | 0.5200 | 0.0141 | 2 | 55,210 | 54,800 | 210 | 2,000 | 2 | - | "
        "[2nn.json](configs/2nn.json) |"
    )
    assert table in capsys.readouterr().out
    assert main(command) == 0
    assert len(made) == 4
    assert (out / "comparison.md").read_text() == table


def test_a_run_that_fails_is_said_and_does_not_count(
    files: tuple[str, str],
    tmp_path: Path,
    made: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    command = [f"--config={files[0]}", "--networks=2nn,cnn", f"--workdir={out}", "--seeds=1,13"]
    assert main(command) == 2
    assert len(made) == 4
    assert "error: 2 runs failed: 2nn-seed=13, cnn-seed=13\n" in capsys.readouterr().err
    row = json.loads((out / "comparison.json").read_text())["rows"][0]
    assert (row["accuracy_mean"], row["accuracy_std"]) == (pytest.approx(0.51), None)
    assert row["runs"][1]["error"] == "round 1: not finite"
    assert "| 2nn | 0.5100 | - | 1 (1 failed) |" in (out / "comparison.md").read_text()


def test_of_many_runs_the_first_finished_one_of_each_network_is_suggested(
    files: tuple[str, str],
    tmp_path: Path,
    made: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    seeds = ",".join(map(str, (FAILING_SEED, *range(7))))
    command = [f"--config={files[0]}", "--networks=2nn,cnn", f"--workdir={out}"]
    assert main([*command, f"--seeds={seeds}"]) == 2
    said = capsys.readouterr().out.splitlines()
    at = said.index("Next: see one run of each network on one page:")
    folders = f"{out / '2nn-seed=0'} {out / 'cnn-seed=0'}"
    assert said[at + 1].startswith(f"  python -m fednas_jax.report.page {folders} --output=")


def test_of_runs_that_all_fail_nothing_is_suggested(
    files: tuple[str, str],
    tmp_path: Path,
    made: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = [f"--config={files[0]}", "--networks=2nn,cnn", f"--workdir={tmp_path / 'out'}"]
    assert main([*command, f"--seeds={FAILING_SEED}"]) == 2
    assert "Next:" not in capsys.readouterr().out


def test_a_search_comes_first_and_what_it_finds_is_trained(
    files: tuple[str, str], tmp_path: Path, made: list[Path]
) -> None:
    train, search = files
    out = tmp_path / "out"
    command = [f"--config={train}", f"--search={search}", f"--networks={FOUND}", "--seeds=1"]
    assert main([*command, f"--workdir={out}"]) == 0
    folders = [folder.name for folder in made]
    assert folders == ["search-seed=1", "searched-seed=1", f"{FOUND}-seed=1"]
    found, published = json.loads((out / "comparison.json").read_text())["rows"]
    assert found["network"] == "searched"
    assert found["parameters"] == published["parameters"]
    assert found["runs"][0]["search_seconds"] == found["search_seconds"] == 2.0
    assert published["search_seconds"] is None
    lines = (out / "comparison.md").read_text().splitlines()[2:]
    assert [line.split(" | ")[9] for line in lines] == ["2", "-"]


def test_a_finished_run_of_a_genotype_that_has_changed_counts_no_more(
    files: tuple[str, str],
    tmp_path: Path,
    made: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, out = tmp_path / "mine.json", tmp_path / "out"
    genotypes.save(file, genotypes.load("DARTS_V1"))
    command = [f"--config={files[0]}", f"--networks={file}", f"--workdir={out}", "--seeds=1"]
    assert main(command) == 0
    genotypes.save(file, genotypes.load("DARTS_V2"))
    assert main(command) == 2
    assert len(made) == 1
    assert "mine.json is not the one that the run in" in capsys.readouterr().err


def test_two_configs_of_other_clients_are_refused(
    tmp_path: Path, made: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train.py").write_text(CONFIG)
    (tmp_path / "search.py").write_text(SEARCH.replace("num_clients = 4", "num_clients = 5"))
    command = [f"--config={tmp_path / 'train.py'}", f"--search={tmp_path / 'search.py'}"]
    assert main([*command, "--networks=2nn", f"--workdir={tmp_path / 'out'}"]) == 2
    message = "--search: config.partition.num_clients is 5, and 4 in --config; the same clients"
    assert message in capsys.readouterr().err
    assert not made


@pytest.mark.parametrize(
    ("names", "with_search"),
    [
        (["a.json", "./a.json"], False),
        (["random", "random.json"], False),
        (["searched.json"], True),
        (["search.json"], True),
    ],
)
def test_two_networks_of_one_folder_are_refused(
    files: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    with_search: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in names:
        if name.endswith(".json"):
            genotypes.save(name, genotypes.load(FOUND))
    with pytest.raises(UserError, match=r"--networks: .* would share a folder"):
        comparison.plan(files[0], {}, files[1] if with_search else "", names, [0], tmp_path)
    if with_search:
        comparison.plan(files[0], {}, "", names, [0], tmp_path)


def test_a_comparison_of_real_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing stands in: what a run measures and counts is what the table has."""
    (tmp_path / "real.py").write_text(TINY)
    out = tmp_path / "out"
    command = [f"--config={tmp_path / 'real.py'}", "--networks=2nn,cnn", "--seeds=1"]
    assert main([*command, f"--workdir={out}"]) == 0
    rows = json.loads((out / "comparison.json").read_text())["rows"]
    held = []
    for row, name in zip(rows, ("2nn", "cnn"), strict=True):
        folder = out / f"{name}-seed=1"
        summary = json.loads((folder / "summary.json").read_text())
        (run,) = row["runs"]
        for key in ("test_accuracy", "held_out_accuracy", "best_round", "seconds"):
            assert run[key] == summary[key]
        assert (row["accuracy_mean"], row["accuracy_std"]) == (summary["test_accuracy"], None)
        # Down the weights; up their sum and what they are weighted by.
        assert 8 * row["parameters"] < row["bytes_per_client_and_round"] < 8.1 * row["parameters"]
        held.append((folder / "partition.json").read_bytes())
    assert held[0] == held[1]
    assert (rows[0]["parameters"], rows[0]["multiply_adds"]) == (
        PARAMETERS_OF_2NN,
        MULTIPLY_ADDS_OF_2NN,
    )
    assert (out / "comparison.md").read_text() in capsys.readouterr().out


def test_the_file_of_a_genotype_may_begin_with_a_tilde(
    files: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    genotypes.save(tmp_path / "mine.json", genotypes.load(FOUND))
    plan = comparison.plan(files[0], {}, "", ["~/mine.json"], [0], tmp_path / "out")
    ((config,),) = (configs.values() for configs in plan.rows.values())
    assert config.genotype == str(tmp_path / "mine.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--networks=2nn"], "--config: missing"),
        (["--config={train}"], "--networks: missing"),
        (["--config={train}", "--networks=2nn", "--seeds=1,1"], "--seeds: '1,1' is not usable"),
        (["--config={train}", "--networks=2nn", "--seeds=a"], "--seeds: 'a' is not usable"),
        (["--config={train}", "--networks=2nn,,cnn"], "--networks: '2nn,,cnn' is not usable"),
        (["--config={train}", "--networks=resnt20"], "did you mean 'resnet20'?"),
        (["--config={train}", "--networks=FedNAS_V2"], "did you mean 'FedNAS_V1'?"),
        (["--config={train}", "--networks=none.json"], "none.json: cannot be read"),
        (["--config={search}", "--networks=2nn"], "config.network.name: '2nn' is not used"),
        (["--config={train}", "--networks=2nn", "--config.layers=3"], "did you mean"),
        (["--config={two}", "--networks=2nn"], "config.then_train: a search and a training"),
        (["--config={train}", "--search={two}", "--networks=2nn"], "config.then_train: a search"),
    ],
)
def test_bad_input_is_refused_before_any_run(
    files: tuple[str, str],
    tmp_path: Path,
    made: list[Path],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    train, search = files
    two = tmp_path / "two.py"
    two.write_text(SEARCH.replace("return", "config.then_train = default()\n    return"))
    given = [argument.format(train=train, search=search, two=two) for argument in arguments]
    assert main([*given, f"--workdir={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not made
    assert not (tmp_path / "out").exists()


def test_help_names_the_networks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "resnet20" in capsys.readouterr().out
