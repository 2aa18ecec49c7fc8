"""The mapping between the package's trees and the reference's tensors, without PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import golden, reference
from benchmarks.parity import by_kind, differences
from benchmarks.pytorch import space, weights
from fednas_jax.runtime.errors import UserError
from fednas_jax.spaces.darts.space import EDGES, PRIMITIVES
from fednas_jax.spaces.darts.supernet import Supernet

LAYERS = 4


def random_leaves():
    shapes = jax.eval_shape(
        lambda key: Supernet(10, 4, LAYERS).init(key, jnp.zeros((1, 8, 8, 3)), train=False),
        jax.random.key(0),
    )
    rng = np.random.RandomState(0)
    flat = reference.flatten(shapes)
    return {name: rng.standard_normal(x.shape) for name, x in flat.items()}


def test_the_space_is_written_the_same_twice():
    assert space.PRIMITIVES == PRIMITIVES
    assert space.EDGES == EDGES


def test_there_and_back():
    leaves = random_leaves()
    tensors = weights.to_torch(leaves, LAYERS)
    back = weights.from_torch(tensors, LAYERS)
    assert back.keys() == leaves.keys()
    for name, x in leaves.items():
        np.testing.assert_array_equal(back[name], x, err_msg=name)


def test_every_weight_has_one_place():
    leaves = random_leaves()
    tensors = weights.to_torch(leaves, LAYERS)
    ours = sum(x.size for n, x in leaves.items() if n.startswith("params/"))
    theirs = sum(x.size for n, x in tensors.items() if "running" not in n and "alphas" not in n)
    assert ours == theirs
    depthwise = tensors["cells.0.edges.13.operations.sep_conv_5x5.depthwise2.weight"]
    assert depthwise.shape == (4, 1, 5, 5)
    # Edge 13 is node 3 from node 2, the last of its source; edge 2 is node 1 from input 0.
    for edge, place in ((13, 13), (2, 1), (0, 0)):
        np.testing.assert_array_equal(
            tensors[f"cells.0.edges.{edge}.operations.dil_conv_3x3.pointwise.weight"][:, :, 0, 0],
            leaves["params/cell_0/dil_conv_3x3_pointwise"][place],
        )


def test_differences():
    theirs = {"params/cell_0/a": np.array([2.0, 4.0]), "params/cell_1/a": np.array([1.0])}
    ours = {"params/cell_0/a": np.array([2.0, 5.0]), "params/cell_1/a": np.array([1.5])}
    found = differences(ours, theirs)
    assert found == {"params/cell_0/a": 0.25, "params/cell_1/a": 0.5}
    assert by_kind(found) == {"params/a": 0.5}
    with pytest.raises(UserError, match="unlike tensors"):
        differences({"params/cell_0/a": np.zeros(2)}, theirs)


def test_a_difference_that_is_not_a_number_misses_the_bar():
    found = differences({"a": np.array([1.0, np.nan])}, {"a": np.array([1.0, 2.0])})
    assert not found["a"] <= 1
    assert not by_kind({"cell_0/x": 1.0, "cell_1/x": np.nan})["x"] <= 1


def test_digest_tells_permutations_apart():
    x = np.arange(6.0).reshape(2, 3)
    assert golden.digest(x)[0] == pytest.approx(np.sqrt(55))
    assert golden.digest(x)[0] == golden.digest(x.T)[0]
    assert abs(golden.digest(x)[1] - golden.digest(x.T)[1]) > 0.1
