"""The plain local step against sums done by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.plain import local_step as plain_step

# Toy: loss(w, a, b) = (w - b a)^2 / 2, so dL/dw = w - b a and dL/da = -b (w - b a).
# w = 3, a = 1, train batch b = 1, valid batch b = 2; weight momentum 1, m = 1, v = 2, one Adam step
# taken before: the corrections of the second are 1 - 0.5^2 = 3/4 for both moments.
TOY = {
    "w": 3.0,
    "alpha": 1.0,
    "w_momentum": 1.0,
    "adam_m": 1.0,
    "adam_v": 2.0,
    "adam_count": 1,
    "train_batch": 1.0,
    "valid_batch": 2.0,
    "learning_rate": 0.25,
    "momentum": 0.5,
    "weight_decay": 0.5,
    "clip_norm": None,
    "arch_learning_rate": 3.0,
    "beta1": 0.5,
    "beta2": 0.5,
    "arch_weight_decay": 1.0,
    "lambda_train": 1.0,
    "lambda_valid": 0.5,
}


def toy_loss(w, alpha, batch):
    return 0.5 * (w - batch * alpha) ** 2


def toy_step(order, **changes):
    return plain_step.local_step(order, toy_loss, **(TOY | changes))


def assert_state(state, **expected):
    # Adam's epsilon of 1e-8, left out of the sums by hand, moves alpha by less than 1e-7.
    for name, value in expected.items():
        assert float(getattr(state, name)) == pytest.approx(value, abs=1e-7), name


@pytest.mark.usefixtures("x64")
def test_joint():
    # w: gradient 3 - 1 = 2, decay 0.5 * 3 -> 3.5; momentum 0.5 * 1 + 3.5 = 4; w = 3 - 0.25 * 4 = 2.
    # alpha: train -(3 - 1) = -2, valid -2 (3 - 2) = -2 -> -2 + 0.5 * -2 = -3, decay 1 * 1 -> -2;
    # m = 0.5 - 1 = -0.5, v = 1 + 2 = 3; m / (3/4) = -2/3, v / (3/4) = 4, root 2;
    # alpha = 1 - 3 * (-2/3) / 2 = 2.
    state = toy_step("joint")
    assert_state(state, w=2, w_momentum=4, alpha=2, adam_m=-0.5, adam_v=3, adam_count=2)


@pytest.mark.usefixtures("x64")
def test_weights_first():
    # w: as joint, 2. alpha at w = 2: train -(2 - 1) = -1, valid -2 (2 - 2) = 0 -> -1, decay -> 0;
    # m = 0.5, v = 1; m / (3/4) = 2/3, v / (3/4) = 4/3; alpha = 1 - 3 * (2/3) / sqrt(4/3).
    state = toy_step("weights_first")
    alpha = 1 - math.sqrt(3)
    assert_state(state, w=2, w_momentum=4, alpha=alpha, adam_m=0.5, adam_v=1, adam_count=2)


@pytest.mark.usefixtures("x64")
def test_alpha_first():
    # alpha: as joint, 2. w at alpha = 2: gradient 3 - 2 = 1, decay -> 2.5; momentum 0.5 + 2.5 = 3;
    # w = 3 - 0.25 * 3 = 2.25.
    state = toy_step("alpha_first")
    assert_state(state, w=2.25, w_momentum=3, alpha=2, adam_m=-0.5, adam_v=3, adam_count=2)


@pytest.mark.usefixtures("x64")
def test_lambdas_weigh_the_two_losses():
    # At w = 3, alpha = 1 both gradients are -2: 0.25 * -2 + 2 * -2 = -4.5, decay -> -3.5.
    state = toy_step("joint", lambda_train=0.25, lambda_valid=2.0)
    assert_state(state, adam_m=0.5 - 1.75, adam_v=1 + 0.5 * 3.5**2)


@pytest.mark.usefixtures("x64")
def test_clipping_comes_before_decay():
    # The raw gradient 2 is cut to 2 * 1 / (2 + 1e-6), decay 1.5 is then added whole.
    gradient = 2 / (2 + 1e-6) + 1.5
    state = toy_step("joint", clip_norm=1.0)
    assert float(state.w_momentum) == pytest.approx(0.5 + gradient, rel=1e-14)
    assert_state(toy_step("joint", clip_norm=5.0), w=2)


@pytest.mark.usefixtures("x64")
def test_clipping_by_the_norm_of_all_leaves():
    # Norm of (3, (0, 4)) is 5.
    gradient = {"a": jnp.asarray(3.0), "b": jnp.asarray([0.0, 4.0])}
    clipped = plain_step.clip_by_global_norm(gradient, 2.5)
    np.testing.assert_allclose(clipped["a"], 3 * 2.5 / (5 + 1e-6), rtol=1e-14)
    np.testing.assert_allclose(clipped["b"], [0, 4 * 2.5 / (5 + 1e-6)], rtol=1e-14)


@pytest.mark.usefixtures("x64")
def test_first_step_from_zero():
    # Momentum is the gradient with decay, 3.5; Adam's first step has the size of its rate.
    zeros = {"w_momentum": 0.0, "adam_m": 0.0, "adam_v": 0.0, "adam_count": 0}
    state = toy_step("joint", **zeros)
    assert_state(state, w_momentum=3.5, w=3 - 0.25 * 3.5, alpha=1 + 3, adam_count=1)


@pytest.mark.usefixtures("x64")
def test_trees():
    # The toy twice over, in nested trees: each leaf goes as the scalar went.
    def loss(w, alpha, batch):
        pair = jnp.stack([w["x"], w["deep"][0]]) - batch * alpha["a"]
        return 0.5 * jnp.sum(pair**2)

    def w_tree(value):
        return {"x": jnp.asarray(value), "deep": [jnp.asarray(value)]}

    def alpha_tree(value):
        return {"a": jnp.full(2, value)}

    trees = {name: w_tree(TOY[name]) for name in ("w", "w_momentum")}
    trees |= {name: alpha_tree(TOY[name]) for name in ("alpha", "adam_m", "adam_v")}
    for order in plain_step.ORDERS:
        scalar = toy_step(order)
        state = plain_step.local_step(order, loss, **(TOY | trees))
        for leaf in jax.tree.leaves(state.w):
            np.testing.assert_allclose(leaf, scalar.w, rtol=1e-14)
        np.testing.assert_allclose(state.alpha["a"], np.full(2, scalar.alpha), rtol=1e-14)


def test_unknown_order():
    with pytest.raises(ValueError, match="order: 'both' is none of joint, weights_first"):
        toy_step("both")
