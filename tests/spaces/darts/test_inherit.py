"""A network that inherits a supernet's weights: the same function where the alphas are one-hot."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.spaces.darts.genotype import Genotype, derive
from fednas_jax.spaces.darts.inherit import inherit, merged
from fednas_jax.spaces.darts.network import Network
from fednas_jax.spaces.darts.space import EDGES, PRIMITIVES
from fednas_jax.spaces.darts.supernet import Supernet
from tests.quick import quick_jit

CLASSES, CHANNELS, LAYERS = 3, 4, 5
CONCAT = (2, 3, 4, 5)
NORMAL = (
    ("sep_conv_3x3", 0), ("skip_connect", 1), ("dil_conv_5x5", 1), ("max_pool_3x3", 2),
    ("sep_conv_5x5", 0), ("dil_conv_3x3", 3), ("avg_pool_3x3", 1), ("sep_conv_3x3", 4),
)  # fmt: skip
REDUCE = (
    ("skip_connect", 0), ("sep_conv_5x5", 1), ("skip_connect", 1), ("dil_conv_3x3", 2),
    ("max_pool_3x3", 0), ("sep_conv_3x3", 1), ("avg_pool_3x3", 1), ("skip_connect", 3),
)  # fmt: skip
GENOTYPE = Genotype(NORMAL, CONCAT, REDUCE, CONCAT)


def one_hot(pairs: tuple[tuple[str, int], ...]) -> jax.Array:
    """Alphas whose softmax is 1 at the genotype's operations, and at `none` of all other edges."""
    alphas = np.zeros((len(EDGES), len(PRIMITIVES)), np.float32)
    alphas[:, PRIMITIVES.index("none")] = 1000
    for index, (name, source) in enumerate(pairs):
        row = EDGES.index((index // 2, source))
        alphas[row] = 0
        alphas[row, PRIMITIVES.index(name)] = 1000
    return jnp.asarray(alphas)


@pytest.fixture(scope="module")
def supernet() -> tuple[Supernet, Any]:
    """With random weights and moments; those of pools such that normalising changes nothing."""
    network = Supernet(CLASSES, CHANNELS, LAYERS, scan_cells=False)
    image = jnp.zeros((1, 8, 8, 2))
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), image, train=False))
    rng = np.random.RandomState(0)

    def fill(path: Any, leaf: Any) -> np.ndarray:
        name = jax.tree_util.keystr(path)
        if "pool_3x3" in name:
            value = np.zeros(leaf.shape) if "mean" in name else np.full(leaf.shape, 1 - 1e-5)
        elif "'var'" in name:
            value = rng.uniform(0.5, 2, leaf.shape)
        else:
            value = rng.randn(*leaf.shape) / 2
        return value.astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(fill, shapes)
    variables["arch"] = {"normal": one_hot(NORMAL), "reduce": one_hot(REDUCE)}
    return network, variables


def test_logits_agree_where_alphas_are_one_hot(supernet: tuple[Supernet, Any]) -> None:
    searched, variables = supernet
    assert set(derive(variables["arch"]).normal) == set(NORMAL)
    images = np.random.RandomState(1).randn(6, 8, 8, 2).astype(np.float32)
    network = Network(GENOTYPE, CLASSES, CHANNELS, LAYERS)
    fresh = quick_jit(lambda k: network.init(k, images[:1], train=False))(jax.random.key(3))
    inherited = merged(fresh, inherit(variables, GENOTYPE))
    ours = quick_jit(lambda v: network.apply(v, images, train=False))(inherited)
    theirs = quick_jit(lambda v: searched.apply(v, images, train=False))(variables)
    scale = np.abs(theirs).max()
    assert scale > 0.1
    np.testing.assert_allclose(ours, theirs, atol=2e-5 * scale)
    # What stays fresh is what the supernet does not have: scales and biases in cells.
    taken = jax.tree_util.tree_leaves_with_path(inherit(variables, GENOTYPE)["params"])
    names = {jax.tree_util.keystr(path) for path, _ in taken}
    left = [
        path
        for path, _ in jax.tree_util.tree_leaves_with_path(fresh["params"])
        if jax.tree_util.keystr(path) not in names
    ]
    assert {path[-1].key for path in left} == {"scale", "bias"}
    assert all(path[0].key.startswith("cell") for path in left)


def test_another_size_has_no_counterpart(supernet: tuple[Supernet, Any]) -> None:
    _, variables = supernet
    taken = inherit(variables, GENOTYPE)
    for channels, layers, wrong in ((6, LAYERS, r"is \[.*\], not \["), (CHANNELS, 4, "no counter")):
        network = Network(GENOTYPE, CLASSES, channels, layers)
        image = jnp.zeros((1, 8, 8, 2))
        shapes = jax.eval_shape(
            lambda n=network, x=image: n.init(jax.random.key(0), x, train=False)
        )
        with pytest.raises(ValueError, match=wrong):
            merged(shapes, taken)
