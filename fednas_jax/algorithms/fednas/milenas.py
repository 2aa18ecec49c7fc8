"""The local search step of FedNAS: MiLeNAS, first order (He et al. 2020, Eq. 4 and Algorithm 1).

    w     <- w     - eta_w     grad_w     L_train(w, alpha)
    alpha <- alpha - eta_alpha (lambda_train grad_alpha L_train(w, alpha)
                                + lambda_valid grad_alpha L_valid(w, alpha))

The three orders differ in where each gradient is taken:

* `joint`: both at the same (w, alpha), as Eq. 4 is written; two passes through the network;
* `weights_first`: alpha's gradients at the new w, as Algorithm 1; three passes;
* `alpha_first`: w's gradient at the new alpha, as the authors' code; three passes.

w takes SGD with momentum, coupled decay and a clipped gradient norm; alpha takes Adam with coupled
decay, as PyTorch computes them.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from fednas_jax.federated.local_optimizer import sgd

Tree = Any
LossFunction = Callable[[Tree, Tree, Tree, Any, jax.Array], tuple[jax.Array, tuple[Tree, Any]]]
"""(params, arch, batch_stats, batch, needs_weight_gradients) -> (loss, (batch_stats, metrics)).
Where `needs_weight_gradients` is false, the gradient of params is not used and may have any finite
value."""


class SearchOptions(NamedTuple):
    """Hyperparameters that stay fixed during a search; see `fednas_jax.config` for each."""

    order: str = "joint"
    lambda_train: float = 1.0
    lambda_valid: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip_norm: float = 5.0
    arch_learning_rate: float = 3e-4
    arch_beta1: float = 0.5
    arch_beta2: float = 0.999
    arch_weight_decay: float = 1e-3


class SearchState(NamedTuple):
    """The variables and optimiser states of a client during its local search."""

    params: Tree
    arch: Tree
    batch_stats: Tree
    weight_optimizer: optax.OptState
    arch_optimizer: optax.OptState


class Pass(NamedTuple):
    """One forward and backward pass, and the updates after it."""

    on_valid: bool
    """Whether the pass uses the validation batch."""
    weight_share: float
    """Factor of its gradient in the gradient of w."""
    alpha_share: float
    """Factor of its gradient in the gradient of alpha."""
    update_weights: bool
    """Whether w is updated after the pass."""
    update_alpha: bool
    """Whether alpha is updated after the pass."""


def passes(options: SearchOptions) -> tuple[Pass, ...]:
    """The passes of a local step.

    Raises:
      ValueError: `options.order` is not a known order.
    """
    train, valid = options.lambda_train, options.lambda_valid
    orders = {
        "joint": (Pass(False, 1.0, train, False, False), Pass(True, 0.0, valid, True, True)),
        "weights_first": (
            Pass(False, 1.0, 0.0, True, False),
            Pass(False, 0.0, train, False, False),
            Pass(True, 0.0, valid, False, True),
        ),
        "alpha_first": (
            Pass(False, 0.0, train, False, False),
            Pass(True, 0.0, valid, False, True),
            Pass(False, 1.0, 0.0, True, False),
        ),
    }
    if options.order not in orders:
        raise ValueError(f"order {options.order!r} is none of {', '.join(orders)}")
    return orders[options.order]


def weight_optimizer(options: SearchOptions) -> optax.GradientTransformation:
    """SGD without its learning rate, by which `local_step` multiplies."""
    return sgd(options.momentum, options.weight_decay, options.clip_norm)


def arch_optimizer(options: SearchOptions) -> optax.GradientTransformation:
    """Adam with the weight decay added to the gradient, like PyTorch's `weight_decay`."""
    return optax.chain(
        optax.add_decayed_weights(options.arch_weight_decay),
        optax.scale_by_adam(options.arch_beta1, options.arch_beta2, eps=1e-8),
        optax.scale(-options.arch_learning_rate),
    )


def start(params: Tree, arch: Tree, batch_stats: Tree, options: SearchOptions) -> SearchState:
    """The state of a client at the start of a round: the server's variables, new optimisers."""
    return SearchState(
        params,
        arch,
        batch_stats,
        weight_optimizer(options).init(params),
        arch_optimizer(options).init(arch),
    )


def local_step(
    loss_function: LossFunction,
    options: SearchOptions,
    state: SearchState,
    train_batch: Tree,
    valid_batch: Tree,
    learning_rate: jax.typing.ArrayLike,
) -> tuple[SearchState, tuple[Any, Any]]:
    """One step of Eq. 4.

    All passes are iterations of one loop, so that the compiler sees the network's forward and
    backward pass once in any order. The loss function receives whether a pass needs the gradient
    of w.

    Args:
      loss_function: computes the loss of a batch, the new running moments and the metrics.
      options: the fixed hyperparameters.
      state: state of the client.
      train_batch: arrays of the client's train part.
      valid_batch: arrays of its validation part, of the same shapes.
      learning_rate: learning rate eta_w of w.

    Returns:
      The next state, and the metrics of the first pass over each of the two batches.
    """
    plan = passes(options)
    batches = jax.tree.map(
        lambda t, v: jnp.stack([v if p.on_valid else t for p in plan]), train_batch, valid_batch
    )
    gradients = jax.tree.map(jnp.zeros_like, (state.params, state.arch))

    one_pass = functools.partial(_one_pass, loss_function, options, learning_rate)
    facts = Pass._make(jnp.array(column) for column in zip(*plan, strict=True))
    (state, _), metrics = lax.scan(one_pass, (state, gradients), (batches, facts))
    valid_pass = [p.on_valid for p in plan].index(True)
    train_metrics, valid_metrics = (
        jax.tree.map(lambda m, i=i: m[i], metrics) for i in (0, valid_pass)
    )
    return state, (train_metrics, valid_metrics)


def _one_pass(
    loss_function: LossFunction,
    options: SearchOptions,
    learning_rate: jax.typing.ArrayLike,
    carry: Any,
    slices: Any,
) -> tuple[Any, Any]:
    """Adds a pass's gradients to those of earlier passes, and makes the updates after it."""
    (state, gradients), (batch, facts) = carry, slices
    (_, (batch_stats, metrics)), (of_weights, of_alpha) = jax.value_and_grad(
        loss_function, (0, 1), has_aux=True
    )(state.params, state.arch, state.batch_stats, batch, facts.weight_share != 0)
    weight_sum = _add_scaled(gradients[0], facts.weight_share, of_weights)
    alpha_sum = _add_scaled(gradients[1], facts.alpha_share, of_alpha)
    state = lax.cond(
        facts.update_alpha,
        lambda s: _step_alpha(s, alpha_sum, options),
        lambda s: s,
        state._replace(batch_stats=batch_stats),
    )
    state = lax.cond(
        facts.update_weights,
        lambda s: _step_weights(s, weight_sum, options, learning_rate),
        lambda s: s,
        state,
    )
    return (state, (weight_sum, alpha_sum)), metrics


@jax.named_scope("optimizer")
def _add_scaled(total: Tree, share: jax.Array, gradient: Tree) -> Tree:
    return jax.tree.map(lambda t, g: t + share.astype(g.dtype) * g, total, gradient)


@jax.named_scope("optimizer")
def _step_alpha(state: SearchState, gradient: Tree, options: SearchOptions) -> SearchState:
    updates, optimizer = arch_optimizer(options).update(gradient, state.arch_optimizer, state.arch)
    return state._replace(arch=optax.apply_updates(state.arch, updates), arch_optimizer=optimizer)


@jax.named_scope("optimizer")
def _step_weights(
    state: SearchState,
    gradient: Tree,
    options: SearchOptions,
    learning_rate: jax.typing.ArrayLike,
) -> SearchState:
    updates, optimizer = weight_optimizer(options).update(
        gradient, state.weight_optimizer, state.params
    )
    params = jax.tree.map(
        lambda p, u: p - jnp.asarray(learning_rate, p.dtype) * u, state.params, updates
    )
    return state._replace(params=params, weight_optimizer=optimizer)
