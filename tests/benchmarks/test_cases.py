"""The sizes of the benchmarks, their bars, and the federations of random images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import cases, local_step
from benchmarks.cases import CASES, NUM_CLASSES
from fednas_jax.runtime.errors import UserError
from fednas_jax.spaces.darts.supernet import Supernet


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_our_parameters_are_as_many_as_pytorchs(case):
    images = jnp.zeros((1, case.side, case.side, 3))
    supernet = Supernet(NUM_CLASSES, case.init_channels, case.layers)
    shapes = jax.eval_shape(lambda key: supernet.init(key, images, train=False), jax.random.key(0))
    cases.check_parameters(case, sum(x.size for x in jax.tree.leaves(shapes["params"])))


def test_another_number_of_parameters():
    with pytest.raises(UserError, match="tiny: 1 weights; 209442 are needed"):
        cases.check_parameters(CASES["tiny"], 1)


def test_an_unknown_case():
    with pytest.raises(UserError, match="--only: no case 'papr'; did you mean 'paper'"):
        cases.find("papr")


def test_every_client_takes_the_steps_asked_for():
    case = CASES["tiny"]
    config = cases.config(case, server__batch_stats="averaged")
    assert config["server"]["batch_stats"] == "averaged"
    assert config["batch_size"] == 16
    assert config["supernet"]["layers"] == 3
    population = cases.population(case, config, clients=3, steps=4)
    np.testing.assert_array_equal(population.clients.local_steps, [4, 4, 4])
    np.testing.assert_array_equal(population.clients.num_valid, [64, 64, 64])
    assert population.examples.inputs.dtype == jnp.uint8
    together = np.concatenate([population.clients.train, population.clients.valid], axis=1)
    assert len(np.unique(together)) == together.size == 3 * 128


def test_ratios_are_of_medians_and_carry_their_bar():
    seconds = {
        "joint": [1.0, 9.0, 2.0],
        "three passes": [4.0, 4.0, 4.0],
        "PyTorch, three passes": [12.0, 10.0, 90.0],
    }
    joint, three = local_step._ratios(CASES["paper"], seconds)
    assert joint.name == "paper: joint against PyTorch's three passes"
    assert (joint.value, str(joint.bar), joint.met) == (6.0, ">= 5", True)
    assert (three.value, str(three.bar), three.met) == (3.0, ">= 3.5", False)
    del seconds["PyTorch, three passes"]
    assert local_step._ratios(CASES["paper"], seconds) == []
