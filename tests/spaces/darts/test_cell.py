"""Each primitive in a mixed cell, forth and back, against one module per edge in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.nn.kernels.normalization import Moments
from fednas_jax.spaces.darts.sources import (
    SOURCE_GROUPS,
    SOURCE_MAJOR,
    Geometry,
    factorized_reduce,
    pointwise,
    preprocess,
)
from fednas_jax.spaces.darts.space import EDGES, PRIMITIVES
from tests.plain import supernet as plain
from tests.plain.layout import random_like, to_images, to_maps
from tests.spaces.darts.cell_runs import Run, assert_close


def test_edges_and_primitives_are_those_of_the_plain_supernet():
    assert EDGES == plain.EDGES
    assert PRIMITIVES == plain.PRIMITIVES


def test_sources_own_consecutive_edges():
    # Sources 0 and 1 reach all four nodes, source 2 (node 0) the three after it, and so on.
    in_order = [EDGES[edge] for edge in SOURCE_MAJOR]
    assert sorted(SOURCE_MAJOR) == list(range(14))
    for group in SOURCE_GROUPS:
        stop = group.start + group.sources * group.edges
        assert in_order[group.start : stop] == [
            (node, source)
            for source in range(group.first, group.first + group.sources)
            for node in range(4 - group.edges, 4)
        ]


# The parts --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
def test_pointwise_for_each_edge():
    rng = np.random.RandomState(0)
    x, weight = rng.normal(size=(2, 1, 3, 4, 10)), rng.normal(size=(2, 5, 6, 3))
    found = pointwise(jnp.asarray(x), jnp.asarray(weight))
    expected = np.einsum("schw,smdc->smdhw", x[:, 0], weight)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("size", [(4, 6), (5, 6), (4, 3), (5, 7), (1, 1)])
def test_factorized_reduce(size):
    images = random_like((2, 3, *size), 0)
    weights = random_like({"conv1": (2, 3, 1, 1), "conv2": (2, 3, 1, 1)}, 1)
    stacked = jnp.stack([weights["conv1"][:, :, 0, 0], weights["conv2"][:, :, 0, 0]])
    maps = factorized_reduce(to_maps(np.maximum(images, 0)), stacked, Geometry(*size, 2))
    # The plain one ends in a BatchNorm; moments of zero mean and unit variance all but undo it.
    unit = {"bn": {"mean": jnp.zeros(4), "var": jnp.full(4, 1 - 1e-5)}}
    expected, _ = plain.factorized_reduce(jnp.asarray(images), weights, unit, False)
    np.testing.assert_allclose(to_images(maps, 2), expected, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("halve", [False, True])
@pytest.mark.parametrize(("train", "batch"), [(True, 2), (True, 1), (False, 2)])
def test_preprocess(halve, train, batch):
    images = random_like((batch, 3, 5, 6), 0)
    stats = {"mean": np.array([0.5, -0.5]), "var": np.array([2.0, 0.5])}
    if halve:
        weights = random_like({"conv1": (1, 3, 1, 1), "conv2": (1, 3, 1, 1)}, 1)
        weight = np.stack([weights["conv1"][:, :, 0, 0], weights["conv2"][:, :, 0, 0]])
        module = plain.factorized_reduce
    else:
        weights = random_like({"conv": (2, 3, 1, 1)}, 1)
        weight, module = weights["conv"][:, :, 0, 0], plain.relu_conv_bn
    expected, _ = module(jnp.asarray(images), weights, {"bn": stats}, train)
    running = None if train else Moments(stats["mean"], stats["var"])
    found, _ = preprocess(to_maps(images), jnp.asarray(weight), Geometry(5, 6, batch), running)
    np.testing.assert_allclose(to_images(found, batch), expected, rtol=0, atol=1e-12)


# Each primitive ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reduction():
    """A reduction cell, whose edges from the inputs have stride 2 and the others 1.

    It also halves its older input: 10 x 11 becomes 5 x 6, then 3 x 3. No loops; rematerialised.
    """
    with jax.enable_x64(True):
        run = Run(2, 3, slice(2, 3), Geometry(10, 11, 3))
        yield run, run.ours(scan_cells=False, scan_sources=False, remat=True)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", PRIMITIVES)
def test_each_primitive_alone_and_its_gradients(reduction, name):
    run, ours = reduction
    # A share of exactly one on every edge: the others' underflow.
    alphas = np.where(np.array(PRIMITIVES) == name, 0.0, -1e9) * np.ones((14, 1))
    found, expected = ours(alphas), run.plain(alphas)
    assert_close(found, expected)
    if name == "none":
        np.testing.assert_array_equal(found.states[1], 0.0)


@pytest.mark.usefixtures("x64")
def test_the_mixture_of_all_primitives_and_its_gradients(reduction):
    run, ours = reduction
    alphas = random_like((14, 8), 6)
    assert_close(ours(alphas), run.plain(alphas))


@pytest.mark.usefixtures("x64")
def test_a_batch_of_one_image():
    run, alphas = Run(2, 3, slice(0, 1), Geometry(3, 4, 1)), random_like((14, 8), 6)
    found = run.ours_forward(alphas, scan_cells=False, scan_sources=True, remat=False)
    assert_close(found, run.plain_forward(alphas))
