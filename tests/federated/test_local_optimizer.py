"""SGD up to the learning rate, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.federated.local_optimizer import sgd

PARAMS = {"a": jnp.array([1.0, -2.0]), "b": jnp.array(0.5)}
GRADIENT = {"a": jnp.array([3.0, 0.0]), "b": jnp.array(4.0)}  # of norm 5


def updates(optimizer, steps=1):
    state = optimizer.init(PARAMS)
    for _ in range(steps):
        update, state = optimizer.update(GRADIENT, state, PARAMS)
    return {name: np.asarray(leaf).tolist() for name, leaf in update.items()}


def test_plain_sgd_has_no_state_and_hands_the_gradient_on():
    optimizer = sgd(0.0, 0.0, 0.0)
    assert jax.tree.leaves(optimizer.init(PARAMS)) == []
    assert optimizer.update(GRADIENT, optimizer.init(PARAMS), PARAMS)[0] is GRADIENT


def test_the_norm_over_all_weights_is_clipped():
    assert updates(sgd(0.0, 0.0, 2.5)) == {"a": [1.5, 0.0], "b": 2.0}
    assert updates(sgd(0.0, 0.0, 5.0)) == updates(sgd(0.0, 0.0, 0.0))


def test_decay_is_added_to_the_clipped_gradient():
    assert updates(sgd(0.0, 0.5, 2.5)) == {"a": [2.0, -1.0], "b": 2.25}


def test_momentum_gathers_clipped_and_decayed_gradients():
    # The third update is 1 + 1/2 + 1/4 times the first.
    found = updates(sgd(0.5, 0.5, 2.5), steps=3)
    assert found["a"] == pytest.approx([3.5, -1.75])
    assert found["b"] == pytest.approx(1.75 * 2.25)
