"""Two stages in one config: what each gets, where each runs, and what is refused."""

from pathlib import Path
from typing import Any

import ml_collections
import pytest

from fednas_jax import config as schema
from fednas_jax import experiment, stages
from fednas_jax.errors import UserError


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
    """Puts a stand-in for `experiment.run` in place and lists its calls."""
    calls: list[tuple[Any, Path]] = []
    monkeypatch.setattr(experiment, "run", lambda *arguments: calls.append(arguments))
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
    assert train.genotype == "out/search/genotypes/best.json"
    assert train.warm_start == ""
    assert "then_train" not in search
    schema.resolve(train)


def test_from_the_weights_of_the_search(runs: list[Any]) -> None:
    stages.run(stages.resolve(both(warm_start="search"), {}), Path("out"))
    assert runs[1][0].warm_start == "out/search"


@pytest.mark.parametrize(
    ("made", "counts"),
    [(["."], "."), (["search", "train"], "train"), (["train"], "train"), ([], "."),
     ([".", "search"], ".")],
)  # fmt: skip
def test_which_run_counts(tmp_path: Path, made: list[str], counts: str) -> None:
    for name in made:
        (tmp_path / name / "checkpoints" / "000003").mkdir(parents=True)
    assert stages.last(tmp_path) == tmp_path / counts


@pytest.mark.parametrize("begun", [False, True])
def test_a_training_without_a_checkpoint_is_not_the_search(tmp_path: Path, begun: bool) -> None:
    (tmp_path / "search" / "checkpoints" / "000003").mkdir(parents=True)
    if begun:
        (tmp_path / "train" / "checkpoints" / ".tmp-1-5").mkdir(parents=True)
    with pytest.raises(UserError, match=r"training has no checkpoint yet; .*search is needed$"):
        stages.last(tmp_path)


def test_a_search_that_fails_is_not_trained(
    runs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(config: Any, workdir: Path) -> None:
        runs.append((config, workdir))
        raise UserError("full")

    monkeypatch.setattr(experiment, "run", fail)
    with pytest.raises(UserError, match="full"):
        stages.run(stages.resolve(both(), {}), Path("out"))
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        (both(), {"then_train.round": "3"}, "config.then_train: config.round: no such field"),
        (both(rounds=0), {}, "config.then_train: config.rounds: 0 is not usable"),
        (both(), {"algorithm": "fedavg"}, "config.algorithm: 'fedavg' searches nothing"),
        (both(**{"network.name": "cnn"}), {}, "config.then_train: does not train the genotype"),
        (both(genotype="DARTS_V2"), {}, "config.then_train.genotype: 'DARTS_V2' is not used"),
        (schema.default(), {"then_train.rounds": "3"}, "config.then_train.rounds: no such field"),
    ],
)
def test_refused_before_anything_runs(config: Any, overrides: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        stages.resolve(config, overrides)
    assert "\n" not in str(caught.value)
