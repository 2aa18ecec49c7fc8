"""What the server makes of the clients' mean: a step towards it by an optimiser of its own.

The way from the mean back to the server's weights stands in for a gradient (Reddi et al.: Adaptive
Federated Optimization, ICLR 2021, arXiv:2003.00295, Algorithm 2). With SGD of learning rate 1 the
step ends on the mean, which is FedAvg; with momentum it is FedAvgM (Hsu, Qi, Brown: Measuring the
Effects of Non-Identical Data Distribution for Federated Visual Classification, 2019,
arXiv:1909.06335); with Adam FedAdam, with Yogi FedYogi. Moments start from zero and are corrected
for that, as optax has them; Reddi et al. start the squares' mean at tau squared or more and leave
the correction out.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

Tree = Any


def build(
    name: str,
    learning_rate: float,
    *,
    momentum: float = 0.9,
    beta1: float = 0.9,
    beta2: float = 0.99,
    epsilon: float = 1e-3,
) -> optax.GradientTransformation | None:
    """The optimiser; None for plain averaging.

    Args:
      name: `sgd`, `momentum`, `adam` or `yogi`.
      learning_rate: of the server.
      momentum: share of the earlier steps that stays (`momentum`).
      beta1: share of the mean that stays (`adam`, `yogi`).
      beta2: share of the squares' mean that stays (`adam`, `yogi`).
      epsilon: added to the root of the squares (`adam`, `yogi`); the paper's tau.
    """
    if name == "sgd":
        return None if learning_rate == 1 else optax.sgd(learning_rate)
    if name == "momentum":
        return optax.sgd(learning_rate, momentum)
    if name == "adam":
        return optax.adam(learning_rate, beta1, beta2, epsilon)
    # optax.yogi starts both moments from above zero, and so moves weights that nobody has moved.
    scale = optax.scale_by_yogi(beta1, beta2, epsilon, initial_accumulator_value=0.0)
    return optax.chain(scale, optax.scale(-learning_rate))


def step(
    optimizer: optax.GradientTransformation,
    state: optax.OptState,
    params: Tree,
    mean: Tree,
    present: jax.Array,
) -> tuple[Tree, optax.OptState]:
    """The server's next weights and the optimiser's next state.

    Args:
      optimizer: of `build`.
      state: the optimiser's.
      params: the server's weights.
      mean: of the clients' weights.
      present: whether there was any client; without one, nothing moves.
    """
    gradient = jax.tree.map(jnp.subtract, params, mean)
    updates, moved = optimizer.update(gradient, state, params)
    after = optax.apply_updates(params, updates), moved
    return jax.tree.map(lambda new, old: jnp.where(present, new, old), after, (params, state))
