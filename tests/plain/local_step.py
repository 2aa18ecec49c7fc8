"""The MiLeNAS local step written out plainly: the specification the compiled one is tested against.

`jax.grad`, then SGD and Adam as PyTorch documents them, line by line; no optimiser library. Every
tree may be any nest of arrays.

Sources: He et al., MiLeNAS (arXiv:2003.12238), Algorithm 1; He et al., FedNAS
(arXiv:2004.08546), Eq. 4 and Algorithm 1; PyTorch's documentation of SGD, Adam and
clip_grad_norm_.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Tree = Any  # a nest of arrays

ORDERS = ("joint", "weights_first", "alpha_first")
ADAM_EPSILON = 1e-8
CLIP_EPSILON = 1e-6


class LocalState(NamedTuple):
    """What a local step leaves behind. Momentum and both moments start a round at zero."""

    w: Tree
    alpha: Tree
    w_momentum: Tree  # as w
    adam_m: Tree  # as alpha: first moment
    adam_v: Tree  # as alpha: second moment
    adam_count: int  # steps of Adam taken so far


def local_step(
    order: str,
    loss: Callable[[Tree, Tree, Any], jax.Array],
    w: Tree,
    alpha: Tree,
    w_momentum: Tree,
    adam_m: Tree,
    adam_v: Tree,
    adam_count: int,
    train_batch: Any,
    valid_batch: Any,
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    clip_norm: float | None,
    arch_learning_rate: float,
    beta1: float,
    beta2: float,
    arch_weight_decay: float,
    lambda_train: float,
    lambda_valid: float,
) -> LocalState:
    """One step of SGD on the weights and one of Adam on the alphas.

    The gradient of alpha is lambda_train * dL_train/dalpha + lambda_valid * dL_valid/dalpha.

    Args:
      order: which of the two sees the other's new value.
        "joint": neither; both gradients are taken at the given (w, alpha).
        "weights_first": alpha does, as Algorithm 1 prints it.
        "alpha_first": w does, as the authors' code runs it.
      loss: loss(w, alpha, batch) -> scalar.
      w, alpha: trees of arrays.
      w_momentum, adam_m, adam_v, adam_count: as LocalState has them; zeros before the first step.
      train_batch, valid_batch: whatever `loss` takes.
      learning_rate, momentum, weight_decay: of SGD; decay is coupled (added to the gradient).
      clip_norm: bound of the raw weight gradient's global norm; None for no clipping.
      arch_learning_rate, beta1, beta2, arch_weight_decay: of Adam; decay is coupled.
      lambda_train, lambda_valid: weights of the two losses in the gradient of alpha.

    Raises:
      ValueError: `order` is not one of ORDERS.
    """
    if order not in ORDERS:
        raise ValueError(f"order: {order!r} is none of {', '.join(ORDERS)}")

    def update_weights(at_alpha: Tree) -> tuple[Tree, Tree]:
        gradient = jax.grad(loss, argnums=0)(w, at_alpha, train_batch)
        if clip_norm is not None:
            gradient = clip_by_global_norm(gradient, clip_norm)
        return sgd(w, gradient, w_momentum, learning_rate, momentum, weight_decay)

    def update_alpha(at_w: Tree) -> tuple[Tree, Tree, Tree, int]:
        of_train = jax.grad(loss, argnums=1)(at_w, alpha, train_batch)
        of_valid = jax.grad(loss, argnums=1)(at_w, alpha, valid_batch)
        gradient = jax.tree.map(
            lambda t, v: lambda_train * t + lambda_valid * v, of_train, of_valid
        )
        moments = (adam_m, adam_v, adam_count)
        return adam(alpha, gradient, *moments, arch_learning_rate, beta1, beta2, arch_weight_decay)

    if order == "joint":
        new_w, new_momentum = update_weights(alpha)
        new_alpha, new_m, new_v, new_count = update_alpha(w)
    elif order == "weights_first":
        new_w, new_momentum = update_weights(alpha)
        new_alpha, new_m, new_v, new_count = update_alpha(new_w)
    else:
        new_alpha, new_m, new_v, new_count = update_alpha(w)
        new_w, new_momentum = update_weights(new_alpha)
    return LocalState(new_w, new_alpha, new_momentum, new_m, new_v, new_count)


def clip_by_global_norm(gradient: Tree, max_norm: float) -> Tree:
    """clip_grad_norm_: scaled by min(1, max_norm / (norm + 1e-6)), norm over all leaves at once."""
    norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient)))
    coefficient = jnp.minimum(1.0, max_norm / (norm + CLIP_EPSILON))
    return jax.tree.map(lambda leaf: coefficient * leaf, gradient)


def sgd(
    w: Tree,
    gradient: Tree,
    w_momentum: Tree,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
) -> tuple[Tree, Tree]:
    """(new w, new momentum). From a momentum of zero the first one is the gradient itself."""
    gradient = jax.tree.map(lambda g, x: g + weight_decay * x, gradient, w)
    buffer = jax.tree.map(lambda b, g: momentum * b + g, w_momentum, gradient)
    return jax.tree.map(lambda x, b: x - learning_rate * b, w, buffer), buffer


def adam(
    alpha: Tree,
    gradient: Tree,
    m: Tree,
    v: Tree,
    count: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    weight_decay: float,
) -> tuple[Tree, Tree, Tree, int]:
    """(new alpha, new m, new v, count + 1)."""
    gradient = jax.tree.map(lambda g, x: g + weight_decay * x, gradient, alpha)
    m = jax.tree.map(lambda old, g: beta1 * old + (1 - beta1) * g, m, gradient)
    v = jax.tree.map(lambda old, g: beta2 * old + (1 - beta2) * g**2, v, gradient)
    count = count + 1
    correction1 = 1 - beta1**count
    correction2 = 1 - beta2**count

    def step(x: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
        return x - learning_rate * (m / correction1) / (jnp.sqrt(v / correction2) + ADAM_EPSILON)

    return jax.tree.map(step, alpha, m, v), m, v, count
