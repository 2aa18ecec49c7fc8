"""The supernet and its local step against numbers of the PyTorch reference, kept in a file.

`supernet.json` names the command that made it. Everything is in float64 here and there.
"""

import functools
from pathlib import Path

import numpy as np
import pytest

from benchmarks import golden, reference
from benchmarks.reference import ORDERS
from fednas_jax.runtime.files import read_json
from tests.quick import quick_jit

GOLDEN = read_json(Path(__file__).with_name("supernet.json"))
CASE = reference.Case(**GOLDEN["case"])
RELATIVE = 1e-9


@functools.cache
def leaves():
    return reference.draw(CASE)


def assert_golden(found, expected, name):
    """Digests and lists, each by its own largest number."""
    found, expected = np.array(found), np.array(expected)
    tolerance = RELATIVE * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.usefixtures("x64")
def test_gradients_are_those_of_pytorch():
    found = golden.of_gradients(reference.gradients(CASE, leaves(), quick_jit, scan_sources=True))
    assert found["gradients"].keys() == GOLDEN["gradients"].keys()
    for name in ("loss", "logits", "batch_stats"):
        assert_golden(found[name], GOLDEN[name], name)
    for name, digest in GOLDEN["gradients"].items():
        assert_golden(found["gradients"][name], digest, name)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("order", ORDERS)
def test_five_steps_are_those_of_pytorch(order):
    after = reference.search(CASE, leaves(), order, quick_jit, scan_sources=True)
    found = golden.of_search(after, leaves())
    assert found.keys() == GOLDEN[order].keys()
    for name, numbers in GOLDEN[order].items():
        assert_golden(found[name], numbers, name)


def test_orders_differ():
    # Else the comparison above could not tell them apart.
    arch = [GOLDEN[order]["arch/normal"][0] for order in ORDERS]
    params = [GOLDEN[order]["params"][0] for order in ORDERS]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert abs(arch[i] - arch[j]) > 1e-6 * arch[0]
        assert abs(params[i] - params[j]) > 1e-6 * params[0]
