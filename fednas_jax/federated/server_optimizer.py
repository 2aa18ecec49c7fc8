"""Server optimisers: the server makes a step towards the mean of the clients' weights.

The server's weights minus that mean take the place of a gradient (Reddi et al.: Adaptive Federated
Optimization, ICLR 2021, arXiv:2003.00295, Algorithm 2). SGD with learning rate 1 ends on the mean,
which is FedAvg. With momentum it is FedAvgM (Hsu, Qi, Brown: Measuring the Effects of Non-Identical
Data Distribution for Federated Visual Classification, 2019, arXiv:1909.06335), with Adam FedAdam,
with Yogi FedYogi. As in optax, moments start at zero and are corrected for it. Reddi et al. start
the second moment at tau squared or more and do not correct.
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
      learning_rate: the server's.
      momentum: decay of the sum of earlier steps (`momentum`).
      beta1: decay of the first moment (`adam`, `yogi`).
      beta2: decay of the second moment (`adam`, `yogi`).
      epsilon: added to the root of the second moment (`adam`, `yogi`); tau in the paper.
    """
    if name == "sgd":
        return None if learning_rate == 1 else optax.sgd(learning_rate)
    if name == "momentum":
        return optax.sgd(learning_rate, momentum)
    if name == "adam":
        return optax.adam(learning_rate, beta1, beta2, epsilon)
    # optax.yogi starts both moments above zero, and so changes weights that no client has changed.
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
      optimizer: as `build` returns it.
      state: the optimiser's state.
      params: the server's weights.
      mean: the mean of the clients' weights.
      present: whether there was any client; without one, nothing changes.
    """
    gradient = jax.tree.map(jnp.subtract, params, mean)
    updates, moved = optimizer.update(gradient, state, params)
    after = optax.apply_updates(params, updates), moved
    return jax.tree.map(lambda new, old: jnp.where(present, new, old), after, (params, state))
