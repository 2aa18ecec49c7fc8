"""The training step's benchmark: both sides train the same networks."""

import os
from pathlib import Path

import pytest

from benchmarks import train_step
from benchmarks.harness import Peer
from fednas_jax.fields import config_file
from fednas_jax.networks import registry as networks
from fednas_jax.runtime import compilation
from fednas_jax.spaces.darts import genotype as genotypes
from tests.quick import quick_jit

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PYTHON = os.environ.get("FEDNAS_TORCH_PYTHON", "")


@pytest.mark.skipif(not PYTHON, reason="FEDNAS_TORCH_PYTHON names no interpreter")
@pytest.mark.parametrize("name", [n for n, c in train_step.cases().items() if c.is_bare])
def test_pytorchs_networks_have_as_many_weights(name):
    case = train_step.cases()[name]
    network = networks.build(case.fields, train_step.SHAPE, train_step.NUM_CLASSES)
    expected = networks.parameter_count(network, train_step.SHAPE)
    with Peer(PYTHON, "benchmarks.pytorch.train", train_step._arguments(case)) as peer:
        assert peer.facts["parameters"] == expected


@pytest.mark.skipif(not PYTHON, reason="FEDNAS_TORCH_PYTHON names no interpreter")
def test_pytorchs_steps_take_time():
    with Peer(PYTHON, "benchmarks.pytorch.train", ["--network=resnet20", "--batch=2"]) as peer:
        assert peer.ask({"do": "steps", "steps": 1})["seconds"] > 0


def test_our_steps_take_time(monkeypatch):
    monkeypatch.setattr(train_step, "BATCH_SIZE", 2)
    monkeypatch.setattr(train_step, "SHAPE", (8, 8, 3))
    monkeypatch.setattr(train_step, "STEPS", 2)
    asked = []

    def jit(function, *, quick):
        asked.append((function.__name__, quick))
        return quick_jit(function)

    monkeypatch.setattr(compilation, "jit", jit)
    training = train_step.Training(train_step.Case({"name": "resnet20"}))
    # What a round runs, compiled as a round has it compiled.
    assert asked == [("client_update", False)]
    assert training.parameters == 269_722
    assert min(training.run(), training.compile_seconds, training.temporary_bytes()) > 0
    update = training._compiled(*training._arguments)
    assert update.metrics["local_steps"] == 2
    assert update.metrics["weight"] == 4


def test_the_train_stages_step_is_one_of_the_cases():
    config = config_file.load(str(CONFIGS / "cifar_hetero_train.py"))
    case = train_step.cases()["derived, drop path and auxiliary head"]
    fields = dict(case.fields)
    assert genotypes.from_json(fields.pop("genotype"), "") == genotypes.load(config.genotype)
    assert fields == {name: config.network[name] for name in fields}
    options = train_step._options(case)
    assert options.drop_path == (config.optimizer.drop_path_rate, config.rounds)
    for name in ("momentum", "weight_decay", "clip_norm", "auxiliary_weight"):
        assert getattr(options, name) == config.optimizer[name]
    augmentation = train_step._task().augment.args[0]
    for name in ("crop_padding", "flip", "cutout"):
        assert getattr(augmentation, name) == config.augment[name]


def test_pytorch_is_beside_where_its_network_is_the_same():
    beside = [name for name, case in train_step.cases().items() if case.runs and case.is_bare]
    assert beside == ["derived", "resnet56", "densenet201"]
