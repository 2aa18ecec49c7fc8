"""A search, and the training that begins with its weights; stopped, and gone on with."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fednas_jax
from fednas_jax import config as schema
from fednas_jax import experiment
from fednas_jax.algorithms import parts
from fednas_jax.data.augment import normalize
from fednas_jax.experiment import assembly, stages
from fednas_jax.federated.round import RoundEngine
from fednas_jax.networks import registry as networks
from fednas_jax.report.writers import read_rows
from fednas_jax.runtime.errors import UserError
from fednas_jax.spaces.darts import genotype
from tests.quick import quick_jit
from tests.tiny import genotype_config, search_config

pytestmark = pytest.mark.usefixtures("tiny_runs")


@pytest.fixture(scope="module")
def config() -> Any:
    """A search, and a training that begins with its weights."""
    config = search_config()
    config.then_train = genotype_config(
        warm_start="search", rounds=2, test_every=1, checkpoint_every=1
    )
    config.then_train.report.plots = config.then_train.report.tensorboard = False
    return config


@pytest.fixture(scope="module")
def stopped(config: Any, finished_search: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a search, and of the training of what it found, stopped in round 2."""
    workdir = tmp_path_factory.mktemp("stages") / "both"
    shutil.copytree(finished_search, workdir / "search")
    run, rounds = RoundEngine.run, []

    def interrupted(*arguments: Any, **named: Any) -> Any:
        rounds.append(len(rounds))
        if len(rounds) == 2:
            raise KeyboardInterrupt
        return run(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RoundEngine, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stages.run(stages.resolve(config, {}), workdir)
    return workdir


def of_training(workdir: Path, **fields: str) -> Any:
    """The config of the second stage as its run has recorded it, with fields set."""
    recorded = json.loads((workdir / "train" / "run.json").read_text())["config"]
    return schema.resolve(recorded, fields)


def test_the_stages_are_recorded(stopped: Path) -> None:
    record = json.loads((stopped / "stages.json").read_text())
    assert list(record) == ["stages"], "each stage has a config of its own"
    search, train = record["stages"]
    assert search == {"name": "search", "kind": "rounds", "after": {}}
    assert (train["name"], train["kind"], list(train["after"])) == ("train", "rounds", ["search"])


def test_a_training_does_not_go_on_after_another_search(stopped: Path, config: Any) -> None:
    path = stopped / "search" / "summary.json"
    text = path.read_text()
    path.write_text(json.dumps(json.loads(text) | {"rounds": 7}))
    try:
        with pytest.raises(UserError, match=r"search/summary\.json is not the summary that the "):
            stages.run(stages.resolve(config, {}), stopped)
    finally:
        path.write_text(text)


def test_what_is_trained_is_recorded(stopped: Path) -> None:
    best = json.loads((stopped / "search" / "genotypes" / "best.json").read_text())
    search, train = (
        json.loads((stopped / name / "run.json").read_text()) for name in ("search", "train")
    )
    assert (search["genotype"], train["genotype"]) == (None, best)


def test_the_training_begins_with_the_weights_of_the_search(stopped: Path) -> None:
    """Round 0 tests the network that one can make of the search's checkpoint by hand."""
    config = of_training(stopped)
    dataset = assembly.load_dataset(config)
    algorithm = assembly.build_algorithm(config, dataset)
    state = quick_jit(algorithm.init)(jax.random.key(9))  # nothing is left to chance
    there = fednas_jax.restore(stopped / "search").variables["params"]
    np.testing.assert_array_equal(
        state.params["classifier"]["kernel"], there["classifier"]["kernel"]
    )
    network = networks.from_config(config, parts.task(config, dataset), dataset.num_classes)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    images = normalize(jnp.asarray(dataset.test.images), dataset.mean, dataset.std)
    logits = quick_jit(lambda v, x: network.apply(v, x, train=False))(variables, images)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, dataset.test.labels)
    first = read_rows(stopped / "train" / "metrics.jsonl")[0]
    assert first["round"] == 0
    assert first["test_loss"] == pytest.approx(float(losses.mean()), rel=1e-4)


def test_it_goes_on_when_the_search_is_gone_with_the_same_genotype_alone(
    stopped: Path, tmp_path: Path
) -> None:
    shutil.copytree(stopped / "train", tmp_path / "train")
    mine, other = tmp_path / "mine.json", tmp_path / "other.json"
    shutil.copy(stopped / "search" / "genotypes" / "best.json", mine)
    genotype.save(other, genotype.load("DARTS_V1"))
    hidden = stopped.with_name("hidden")
    (stopped / "search").rename(hidden)
    try:
        with pytest.raises(
            UserError, match=r"^config\.genotype: .*other\.json is not the one that"
        ):
            experiment.run(of_training(stopped, genotype=str(other)), tmp_path / "train")
        # A run that has no state yet needs the search's.
        with pytest.raises(UserError, match=r"^config\.warm_start: .*search: no such folder"):
            experiment.run(of_training(stopped, genotype=str(mine)), tmp_path / "new")
        assert not (tmp_path / "new").exists()
        experiment.run(of_training(stopped, genotype=str(mine)), tmp_path / "train")
    finally:
        hidden.rename(stopped / "search")
    before, after = (read_rows(f / "train" / "metrics.jsonl") for f in (stopped, tmp_path))
    assert [row["round"] for row in after] == [0, 1, 2]
    assert after[:2] == before
    first, second = json.loads((tmp_path / "train" / "run.json").read_text())["starts"]
    assert (first["changed"], second["changed"]) == ({}, {"genotype": str(mine)})
