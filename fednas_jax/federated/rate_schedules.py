"""What changes from epoch to epoch and from round to round: learning rate, drop path."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def cosine(at: ArrayLike, length: int, rate: jax.Array | float, rate_min: float) -> jax.Array:
    """Learning rate on half a cosine wave.

    Args:
      at: 0 .. length - 1: a local epoch of a round, or a round counted from 0.
      length: how many there are.
      rate: at 0.
      rate_min: what `length` would have; never reached.
    """
    progress = jnp.asarray(at, jnp.float32) / length
    return rate_min + 0.5 * (rate - rate_min) * (1 + jnp.cos(jnp.pi * progress))


class LearningRate(NamedTuple):
    """The learning rate in every local epoch of every round.

    `within_round`: a cosine over the local epochs, restarted every round, as the originals have it;
    `across_rounds`: a cosine over the rounds; `both`: the first starts from where the second is.
    """

    rate: float
    """In the first local epoch of the first round."""
    rate_min: float = 0.0
    """What cosines tend to."""
    schedule: str = "constant"
    """One of these, or `constant`."""
    epochs: int = 1
    """Local epochs of a round."""
    rounds: int = 1
    """Rounds of a run."""

    def __call__(self, epoch: ArrayLike, round: ArrayLike) -> jax.Array | float:
        """The rate in an epoch, 0 .. epochs - 1, of a round, 1 .. rounds."""
        rate: jax.Array | float = self.rate
        if self.schedule in ("across_rounds", "both"):
            rate = cosine(jnp.asarray(round) - 1, self.rounds, rate, self.rate_min)
        if self.schedule in ("within_round", "both"):
            rate = cosine(epoch, self.epochs, rate, self.rate_min)
        return rate


class Ramp(NamedTuple):
    """Grows evenly over the rounds: 0 in the first, `maximum` in the last."""

    maximum: float
    rounds: int

    def __call__(self, round: ArrayLike) -> jax.Array:
        """The value in a round, 1 .. rounds."""
        return self.maximum * (jnp.asarray(round, jnp.float32) - 1) / max(self.rounds - 1, 1)
