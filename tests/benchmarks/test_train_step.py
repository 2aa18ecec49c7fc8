"""The training step's benchmark: both sides train the same networks."""

import os

import pytest

from benchmarks import train_step
from benchmarks.harness import Peer
from fednas_jax import networks

PYTHON = os.environ.get("FEDNAS_TORCH_PYTHON", "")


@pytest.mark.skipif(not PYTHON, reason="FEDNAS_TORCH_PYTHON names no interpreter")
@pytest.mark.parametrize("name", train_step.cases())
def test_pytorchs_networks_have_as_many_weights(name):
    case = train_step.cases()[name]
    network = networks.build(case.fields, train_step.SHAPE, train_step.NUM_CLASSES, case.genotype)
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
    training = train_step.Training(networks.build({"name": "resnet20"}, (8, 8, 3), 10))
    assert training.parameters == 269_722
    assert min(training.run(), training.compile_seconds, training.temporary_bytes()) > 0
