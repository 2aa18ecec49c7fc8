"""The local search step: Eq. 4 by hand, and each order against the plain one over several steps."""

import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fednas_jax.algorithms.fednas.milenas import (
    SearchOptions,
    local_step,
    passes,
    start,
)
from tests.plain import local_step as plain
from tests.quick import quick_jit

# A toy of two parameters, by hand ---------------------------------------------------------------
#
# loss(w, a, b) = (w - b a)^2 / 2, so dL/dw = w - b a and dL/da = -b (w - b a).
# w = 3, a = 1; b = 1 in the train batch, b = 2 in the valid batch.
#   at (3, 1):  train dw = 2, da = -2;  valid da = -2 (3 - 2) = -2.
# Decay of 1/2 a unit of w and of 1 a unit of a.

TOY = SearchOptions(
    lambda_train=1.0,
    lambda_valid=0.5,
    momentum=0.5,
    weight_decay=0.5,
    clip_norm=0.0,
    arch_learning_rate=1.0,
    arch_beta1=0.5,
    arch_beta2=0.5,
    arch_weight_decay=1.0,
)
RATE = 0.25


def toy_loss(params, arch, batch_stats, batch, needs_weight_gradients):
    # A gradient that nobody asked for must not be used.
    params = jnp.where(
        needs_weight_gradients,
        params,
        1e6 * (params - jax.lax.stop_gradient(params)) + jax.lax.stop_gradient(params),
    )
    loss = 0.5 * (params - batch * arch) ** 2
    # Batch statistics tell the passes that they have been through: a digit each, 1 train, 2 valid.
    return loss, (10 * batch_stats + batch, loss)


def toy_step(order, **changes):
    options = TOY._replace(order=order, **changes)
    state = start(jnp.array(3.0), jnp.array(1.0), jnp.array(0.0), options)
    step = jax.jit(functools.partial(local_step, toy_loss, options))
    return step(state, jnp.array(1.0), jnp.array(2.0), RATE)


def moment(state, name):
    """Adam's mean or second moment, or the momentum of w."""
    trees = (state.weight_optimizer, state.arch_optimizer)
    return float(jnp.squeeze(optax.tree_utils.tree_get(trees, name)))


def assert_state(state, *, params, arch, mu, trace):
    found = (state.params, state.arch, moment(state, "mu"), moment(state, "trace"))
    assert [float(x) for x in found] == pytest.approx([params, arch, mu, trace], abs=1e-6)


@pytest.mark.usefixtures("x64")
def test_joint_order_takes_both_gradients_at_the_same_point():
    # w: 2 + 3/2 = 3.5; 3 - 3.5 / 4 = 2.125.
    # a: -2 + -2/2 = -3, + 1 = -2; Adam's mean is half of it, its first step as large as its rate.
    state, _ = toy_step("joint")
    assert_state(state, params=2.125, arch=2.0, mu=-1.0, trace=3.5)


@pytest.mark.usefixtures("x64")
def test_weights_first_takes_the_gradient_of_alpha_at_the_new_weights():
    # a, at w = 2.125: train -(1.125), valid -2 (0.125) = -0.25; -1.125 - 0.125 + 1 = -0.25.
    state, _ = toy_step("weights_first")
    assert_state(state, params=2.125, arch=2.0, mu=-0.125, trace=3.5)


@pytest.mark.usefixtures("x64")
def test_alpha_first_takes_the_gradient_of_the_weights_at_the_new_alpha():
    # w, at a = 2: 3 - 2 = 1, + 3/2 = 2.5; 3 - 2.5 / 4 = 2.375.
    state, _ = toy_step("alpha_first")
    assert_state(state, params=2.375, arch=2.0, mu=-1.0, trace=2.5)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("order", plain.ORDERS)
def test_both_lambdas_weigh_their_loss(order):
    # Where alpha's gradients are taken: train and valid one.
    train, valid = (-1.125, -0.25) if order == "weights_first" else (-2.0, -2.0)
    for lambda_train, lambda_valid in ((0.0, 1.0), (1.0, 0.0), (0.25, 3.0)):
        state, _ = toy_step(order, lambda_train=lambda_train, lambda_valid=lambda_valid)
        expected = (lambda_train * train + lambda_valid * valid + 1) / 2
        assert moment(state, "mu") == pytest.approx(expected, abs=1e-6)
        assert moment(state, "nu") == pytest.approx(2 * expected**2, abs=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("order", plain.ORDERS)
def test_lambdas_leave_the_weights_alone(order):
    # In order `alpha_first` w follows the new alpha: 2 whenever alpha's gradient is negative.
    expected = 2.375 if order == "alpha_first" else 2.125
    for lambdas in ((1.0, 0.0), (0.0, 1.0), (2.0, 2.0)):
        state, _ = toy_step(order, lambda_train=lambdas[0], lambda_valid=lambdas[1])
        assert float(state.params) == pytest.approx(expected, abs=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("clip_norm", "trace"),
    [(1.0, 1 + 1.5), (5.0, 2 + 1.5), (0.0, 2 + 1.5)],  # the gradient of w is 2, its decay 3/2
)
def test_the_gradient_of_the_weights_is_clipped_before_decay(clip_norm, trace):
    state, _ = toy_step("joint", clip_norm=clip_norm)
    assert_state(state, params=3 - RATE * trace, arch=2.0, mu=-1.0, trace=trace)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("order", "digits"), [("joint", 12), ("weights_first", 112), ("alpha_first", 121)]
)
def test_batch_statistics_go_through_the_passes_in_order(order, digits):
    state, _ = toy_step(order)
    assert int(state.batch_stats) == digits
    assert [1 + p.on_valid for p in passes(SearchOptions(order))] == [int(d) for d in str(digits)]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("order", plain.ORDERS)
def test_metrics_are_those_of_the_first_pass_over_each_batch(order):
    _, (train, valid) = toy_step(order)
    assert float(train) == pytest.approx(0.5 * (3 - 1) ** 2)
    w = 2.125 if order == "weights_first" else 3.0
    assert float(valid) == pytest.approx(0.5 * (w - 2) ** 2)


def test_unknown_order():
    with pytest.raises(
        ValueError, match="order 'both' is none of joint, weights_first, alpha_first"
    ):
        passes(SearchOptions("both"))


def test_optimizers_start_fresh():
    state = start({"w": jnp.ones(2)}, jnp.ones(3), {}, TOY)
    for leaf in jax.tree.leaves((state.weight_optimizer, state.arch_optimizer)):
        np.testing.assert_array_equal(leaf, 0)


# Several steps of a smooth model against the plain step -----------------------------------------


def smooth_loss(params, arch, batch):
    """Mixtures of three smooth functions, summed; smooth so that no kink magnifies rounding."""
    images, targets = batch
    hidden = images @ params["first"]["kernel"] + params["first"]["bias"]
    shares = jax.nn.softmax(arch["normal"])
    mixed = shares[0] * jnp.tanh(hidden) + shares[1] * hidden + shares[2] * jnp.sin(hidden)
    logits = (mixed @ params["last"]) * jax.nn.sigmoid(arch["reduce"])
    return ((logits - targets) ** 2).mean()


def draw_model():
    rng = np.random.RandomState(0)
    params = {
        "first": {"kernel": rng.normal(size=(4, 6)), "bias": rng.normal(size=6)},
        "last": rng.normal(size=(6, 2)),
    }
    arch = {"normal": 1e-3 * rng.normal(size=3), "reduce": 1e-3 * rng.normal(size=2)}
    batches = [(rng.normal(size=(5, 4)), 4 * rng.normal(size=(5, 2))) for _ in range(2 * STEPS)]
    return jax.tree.map(jnp.asarray, (params, arch, batches))


STEPS = 4
RATES = (0.025, 0.02, 0.1, 0.01)


def plain_steps(options):
    params, arch, batches = draw_model()
    zeros = functools.partial(jax.tree.map, jnp.zeros_like)
    state = plain.LocalState(params, arch, zeros(params), zeros(arch), zeros(arch), 0)
    for step, rate in enumerate(RATES):
        state = plain.local_step(
            options.order,
            smooth_loss,
            *state,
            batches[2 * step],
            batches[2 * step + 1],
            learning_rate=rate,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
            clip_norm=options.clip_norm or None,
            arch_learning_rate=options.arch_learning_rate,
            beta1=options.arch_beta1,
            beta2=options.arch_beta2,
            arch_weight_decay=options.arch_weight_decay,
            lambda_train=options.lambda_train,
            lambda_valid=options.lambda_valid,
        )
    return state


@functools.cache
def our_steps(options):
    def loss_function(params, arch, batch_stats, batch, needs_weight_gradients):
        del needs_weight_gradients
        return smooth_loss(params, arch, batch), (batch_stats, {})

    params, arch, batches = draw_model()
    state = start(params, arch, {}, options)
    step = quick_jit(functools.partial(local_step, loss_function, options))
    for number, rate in enumerate(RATES):
        state, _ = step(state, batches[2 * number], batches[2 * number + 1], rate)
    return state


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"clip_norm": 0.0, "arch_learning_rate": 0.1},
        {"clip_norm": 0.5, "lambda_train": 0.25, "lambda_valid": 2.0, "weight_decay": 0.1},
    ],
    ids=["default", "not_clipped", "clipped_and_weighted"],
)
@pytest.mark.parametrize("order", plain.ORDERS)
def test_several_steps_are_those_of_the_plain_step(order, changes, monkeypatch):
    # PyTorch adds 1e-6 to the norm that it clips by; optax does not.
    monkeypatch.setattr(plain, "CLIP_EPSILON", 0.0)
    options = SearchOptions(order)._replace(**changes)
    found, expected = our_steps(options), plain_steps(options)
    pairs = {
        "params": (found.params, expected.w),
        "arch": (found.arch, expected.alpha),
        "momentum": (
            optax.tree_utils.tree_get(found.weight_optimizer, "trace"),
            jax.flatten_util.ravel_pytree(expected.w_momentum)[0],
        ),
        "mean": (optax.tree_utils.tree_get(found.arch_optimizer, "mu"), expected.adam_m),
    }
    for name, (ours, theirs) in pairs.items():
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            assert a.dtype == jnp.float64
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12, err_msg=name)


@pytest.mark.usefixtures("x64")
def test_orders_differ():
    # Else the comparison above could not tell them apart.
    arch = [our_steps(SearchOptions(order)).arch["normal"] for order in plain.ORDERS]
    params = [our_steps(SearchOptions(order)).params["last"] for order in plain.ORDERS]
    assert float(jnp.abs(arch[0] - arch[1]).max()) > 1e-6
    assert float(jnp.abs(params[0] - params[2]).max()) > 1e-6
