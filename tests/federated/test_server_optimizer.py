"""The server's step: rules of the papers written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.federated import server_optimizer

START = {"w": jnp.array([1.0, -2.0, 0.5])}
DELTAS = ([0.5, 0.0, -0.25], [0.25, 0.0, 1.0], [-1.0, 0.0, 0.5])
"""From the server's weights to the clients' mean in three rounds; nobody moves the second one."""
RATE, BETA1, BETA2, TAU = 0.5, 0.9, 0.99, 1e-3


def walk(name, **options):
    optimizer = server_optimizer.build(name, RATE, **options)
    params, state = START, optimizer.init(START)
    step = jax.jit(lambda *a: server_optimizer.step(optimizer, *a))
    for delta in DELTAS:
        mean = {"w": params["w"] + jnp.array(delta)}
        params, state = step(state, params, mean, jnp.bool_(True))
    return np.asarray(params["w"])


def expected(rule):
    """`rule` maps (delta, round, memory) to the direction; memory is a dict to write to."""
    w, memory = np.array(START["w"], np.float64), {}
    for number, delta in enumerate(DELTAS, start=1):
        w = w + RATE * rule(np.array(delta), number, memory)
    return w


def momentum(delta, number, memory):
    memory["v"] = 0.8 * memory.get("v", 0.0) + delta
    return memory["v"]


def adaptive(second):
    def rule(delta, number, memory):
        memory["m"] = BETA1 * memory.get("m", 0.0) + (1 - BETA1) * delta
        memory["v"] = second(memory.get("v", np.zeros(3)), delta**2)
        m, v = memory["m"] / (1 - BETA1**number), memory["v"] / (1 - BETA2**number)
        return m / (np.sqrt(v) + TAU)

    return rule


def adam_second(v, square):
    return BETA2 * v + (1 - BETA2) * square


def yogi_second(v, square):
    return v - (1 - BETA2) * square * np.sign(v - square)


ADAPTIVE = {"beta1": BETA1, "beta2": BETA2, "epsilon": TAU}


@pytest.mark.parametrize(
    ("name", "options", "rule"),
    [
        ("sgd", {}, lambda delta, number, memory: delta),
        ("momentum", {"momentum": 0.8}, momentum),
        ("adam", ADAPTIVE, adaptive(adam_second)),
        ("yogi", ADAPTIVE, adaptive(yogi_second)),
    ],
)
def test_three_rounds_by_the_rules(name, options, rule):
    found = walk(name, **options)
    np.testing.assert_allclose(found, expected(rule), rtol=1e-5)
    assert found[1] == -2.0  # what no client moves, the server does not either


def test_adam_and_yogi_differ():
    # So that the test above can tell them apart.
    one, two = (expected(adaptive(second)) for second in (adam_second, yogi_second))
    assert np.abs(one - two).max() > 1e-3


def test_plain_averaging_is_no_optimiser():
    assert server_optimizer.build("sgd", 1.0) is None


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "yogi"])
def test_nothing_moves_where_nobody_was_present(name):
    optimizer = server_optimizer.build(name, RATE)
    params, state = START, optimizer.init(START)
    mean = {"w": params["w"] + 1.0}
    params, state = server_optimizer.step(optimizer, state, params, mean, jnp.bool_(True))
    after = server_optimizer.step(optimizer, state, params, params, jnp.bool_(False))
    jax.tree.map(np.testing.assert_array_equal, after, (params, state))
