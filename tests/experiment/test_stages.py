"""Two stages in one config: what each gets, where each runs, and what is refused."""

from pathlib import Path
from typing import Any

import ml_collections
import pytest

from fednas_jax import config as schema
from fednas_jax.experiment import assembly, runner, stages
from fednas_jax.runtime.errors import UserError


def both(**train_fields: Any) -> ml_collections.ConfigDict:
    """A search, and the training of what it finds, with fields set by their dotted name."""
    train = schema.default()
    train.update_from_flattened_dict(
        {"algorithm": "fedavg", "network.name": "genotype"} | train_fields
    )
    config = schema.default()
    config.then_train = train
    return config


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Path]]:
    """Puts a stand-in for `experiment.run` in place and lists its calls; no data are read."""
    calls: list[tuple[Any, Path]] = []
    monkeypatch.setattr(assembly, "prepare", lambda config: None)
    monkeypatch.setattr(runner, "run", lambda *arguments: calls.append(arguments))
    return calls


def test_one_stage_runs_in_the_workdir_itself(runs: list[Any]) -> None:
    resolved = stages.resolve(schema.default(), {"rounds": "7"})
    assert resolved.train is None
    stages.run(resolved, Path("out"))
    ((config, workdir),) = runs
    assert (config.rounds, workdir) == (7, Path("out"))


def test_the_second_stage_trains_what_the_first_finds(runs: list[Any]) -> None:
    overrides = {"rounds": "7", "then_train.rounds": "9", "then_train.network.layers": "5"}
    stages.run(stages.resolve(both(), overrides), Path("out"))
    (search, search_dir), (train, train_dir) = runs
    assert (search_dir, train_dir) == (Path("out/search"), Path("out/train"))
    assert (search.rounds, train.rounds, train.network.layers) == (7, 9, 5)
    assert train.genotype == str(Path.cwd() / "out/search/genotypes/best.json")
    assert train.warm_start == ""
    assert "then_train" not in search
    schema.resolve(train)


def test_from_the_weights_of_the_search(runs: list[Any]) -> None:
    stages.run(stages.resolve(both(warm_start="search"), {}), Path("out"))
    assert runs[1][0].warm_start == str(Path.cwd() / "out/search")


def test_the_data_of_the_search_are_those_of_the_training() -> None:
    overrides = {"seed": "4", "dataset.name": "digits", "partition.num_clients": "3"}
    resolved = stages.resolve(both(), overrides)
    assert resolved.train is not None
    for config in resolved[:2]:
        assert config is not None
        assert (config.seed, config.dataset.name, config.partition.num_clients) == (4, "digits", 3)
    overrides |= {"then_train.partition.num_clients": "5"}
    resolved = stages.resolve(both(), overrides)
    assert resolved.train is not None
    assert (resolved.first.partition.num_clients, resolved.train.partition.num_clients) == (3, 5)
    # CIFAR-10 has its own test set, of which no seed makes another.
    resolved = stages.resolve(both(), {"then_train.seed": "5"})
    assert resolved.train is not None
    assert (resolved.first.seed, resolved.train.seed) == (0, 5)


def test_a_training_that_cannot_be_is_refused_before_the_search(
    runs: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(runner, "run", lambda *arguments: runs.append(arguments))
    digits = {"dataset.name": "digits", "partition.min_size": "1"}
    for fields, message in (
        ({"augment.cutout": "8"}, r"^config\.then_train\.augment\.cutout: 8 may hide all"),
        ({"clients_per_round": "17"}, r"^config\.then_train\.clients_per_round: 17 is more than "),
        ({"warm_start": "nowhere"}, r"^config\.then_train\.warm_start: nowhere: no such folder"),
    ):
        train = {"augment.cutout": "0"} | fields
        given = digits | {f"then_train.{name}": value for name, value in train.items()}
        with pytest.raises(UserError, match=message):
            stages.run(stages.resolve(both(), given), tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    given = digits | {"then_train.report.wandb": "offline"}
    with pytest.raises(UserError, match=r"^config\.then_train\.report\.wandb: 'offline', but"):
        stages.run(stages.resolve(both(), given), tmp_path)
    assert not runs
    assert not list(tmp_path.iterdir())


def test_after_the_search_nothing_is_tried_out(
    runs: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "summary.json").write_text("{}")
    monkeypatch.delattr(assembly, "prepare")
    stages.run(stages.resolve(both(), {}), tmp_path)
    assert len(runs) == 2


def test_errors_of_the_training_name_its_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: Any, workdir: Path) -> None:
        if config["algorithm"] == "fedavg":
            raise UserError("round 2: a smaller config.optimizer.learning_rate, see x.config.y")

    monkeypatch.setattr(assembly, "prepare", lambda config: None)
    monkeypatch.setattr(runner, "run", fail)
    message = r"smaller config\.then_train\.optimizer\.learning_rate, see x\.config\.y$"
    with pytest.raises(UserError, match=message):
        stages.run(stages.resolve(both(), {}), Path("out"))


def test_a_search_that_fails_is_not_trained(
    runs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(config: Any, workdir: Path) -> None:
        runs.append((config, workdir))
        raise UserError("full")

    monkeypatch.setattr(runner, "run", fail)
    with pytest.raises(UserError, match="full"):
        stages.run(stages.resolve(both(), {}), Path("out"))
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        (both(), {"then_train.round": "3"}, "config.then_train.round: no such field"),
        (both(rounds=0), {}, "^config.then_train.rounds: 0 is not usable"),
        (both(), {"then_train.rounds": "x"}, "^config.then_train.rounds: 'x'"),
        (both(), {"algorithm": "fedavg"}, "config.algorithm: 'fedavg' does not search"),
        (both(**{"network.name": "cnn"}), {}, "config.then_train: does not train the genotype"),
        (both(genotype="DARTS_V2"), {}, "config.then_train.genotype: 'DARTS_V2' is not used"),
        (schema.default(), {"then_train.rounds": "3"}, "config.then_train.rounds: no such field"),
        (
            both(**{"dataset.name": "cifar100"}),
            {},
            "config.then_train.dataset.name: 'cifar100' is not the search's, 'cifar10'",
        ),
        (
            both(),
            {"dataset.name": "digits", "then_train.seed": "1"},
            "config.then_train.seed: 1 is not the search's, 0",
        ),
        (
            both(**{"dataset.test_fraction": 0.3}),
            {"dataset.name": "digits"},
            "config.then_train.dataset.test_fraction: 0.3 is not the search's, 0.2",
        ),
        (
            both(warm_start="search", **{"network.layers": 5}),
            {},
            "config.then_train.network.layers: 5 is not that of the supernet.* 8 is needed",
        ),
        (
            both(warm_start="search"),
            {"supernet.init_channels": "4"},
            "config.then_train.network.init_channels: 16 is not .* 4 is needed",
        ),
    ],
)
def test_refused_before_anything_runs(config: Any, overrides: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        stages.resolve(config, overrides)
    assert "\n" not in str(caught.value)
