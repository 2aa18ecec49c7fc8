"""The reference itself, where an interpreter with PyTorch is at hand (FEDNAS_TORCH_PYTHON)."""

import os

import numpy as np
import pytest

from benchmarks import reference
from benchmarks.cases import CASES, check_parameters
from benchmarks.harness import Peer
from benchmarks.parity import Reference
from tests.golden.test_supernet import GOLDEN

PYTHON = os.environ.get("FEDNAS_TORCH_PYTHON", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="FEDNAS_TORCH_PYTHON names no interpreter")


@pytest.mark.parametrize("name", ["tiny", "middle", "paper"])
def test_parameters(name):
    with Peer(PYTHON, "benchmarks.pytorch.serve", CASES[name].peer_arguments()) as peer:
        check_parameters(CASES[name], peer.facts["parameters"])


def test_steps_and_rounds_take_time():
    arguments = ["--channels=4", "--batch=2", "--threads=1"]
    with Peer(PYTHON, "benchmarks.pytorch.serve", arguments) as peer:
        for order in reference.ORDERS:
            assert peer.ask({"do": "steps", "steps": 1, "order": order})["seconds"] > 0
        assert peer.ask({"do": "round", "clients": 2, "steps": 1})["seconds"] > 0


@pytest.mark.usefixtures("x64")
def test_the_golden_file_is_what_the_reference_computes(tmp_path):
    case = reference.Case(**GOLDEN["case"])
    with Reference(PYTHON, case, tmp_path) as peer:
        peer.send(reference.draw(case))
        found = peer.gradients()
    np.testing.assert_allclose(found["logits"], GOLDEN["logits"], rtol=1e-9)
