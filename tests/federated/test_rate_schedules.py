"""Learning rates and ramps, by hand."""

import math

import jax
import jax.numpy as jnp
import pytest

from fednas_jax.federated.rate_schedules import LearningRate, Ramp, cosine


def test_golden_learning_rates():
    rates = [float(cosine(epoch, 5, 0.025, 0.001)) for epoch in range(5)]
    assert rates == pytest.approx([0.025, 0.0227082, 0.0167082, 0.0092918, 0.0032918], abs=5e-8)


def test_cosine_of_one_epoch_and_of_a_traced_epoch():
    assert float(cosine(0, 1, 0.1, 0.001)) == pytest.approx(0.1)
    traced = jax.jit(cosine, static_argnums=(1, 2, 3))(jnp.int32(2), 4, 1.0, 0.0)
    assert float(traced) == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))


# Two epochs in each of four rounds, from 1.0 to 0.2: the middle is 0.6, and a quarter of the way of
# a cosine is (2 + sqrt 2) / 4 of the fall from the end.
QUARTER = 0.2 + 0.8 * (2 + math.sqrt(2)) / 4
THREE_QUARTERS = 0.2 + 0.8 * (2 - math.sqrt(2)) / 4


@pytest.mark.parametrize(
    ("schedule", "firsts", "seconds"),
    [
        ("constant", [1.0] * 4, [1.0] * 4),
        ("within_round", [1.0] * 4, [0.6] * 4),
        ("across_rounds", *[[1.0, QUARTER, 0.6, THREE_QUARTERS]] * 2),
        (
            "both",
            [1.0, QUARTER, 0.6, THREE_QUARTERS],
            [(0.2 + rate) / 2 for rate in (1.0, QUARTER, 0.6, THREE_QUARTERS)],
        ),
    ],
)
def test_schedules(schedule, firsts, seconds):
    rate = LearningRate(1.0, 0.2, schedule, epochs=2, rounds=4)
    for epoch, wanted in enumerate((firsts, seconds)):
        assert [float(rate(epoch, n)) for n in (1, 2, 3, 4)] == pytest.approx(wanted)
    traced = jax.jit(lambda epoch, n: rate(epoch, n))(jnp.int32(1), jnp.int32(3))
    assert float(traced) == pytest.approx(seconds[2])


def test_a_constant_rate_is_no_array():
    # So that a program has it as a constant.
    assert LearningRate(0.1)(jnp.int32(3), jnp.int32(5)) == 0.1
    assert isinstance(LearningRate(0.1)(jnp.int32(3), jnp.int32(5)), float)


def test_a_ramp_goes_from_nothing_to_its_maximum():
    assert [float(Ramp(0.2, 5)(n)) for n in (1, 2, 3, 4, 5)] == pytest.approx(
        [0, 0.05, 0.1, 0.15, 0.2]
    )
    assert float(Ramp(0.2, 1)(1)) == 0
