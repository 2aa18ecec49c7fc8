"""SGD of the local steps, as PyTorch computes it."""

import optax


def sgd(momentum: float, weight_decay: float, clip_norm: float) -> optax.GradientTransformation:
    """SGD up to the learning rate: clipping, coupled decay, momentum (PyTorch's order).

    Args:
      momentum: share of the earlier updates that stays.
      weight_decay: of the weights, added to the gradient.
      clip_norm: greatest norm of the gradient over all weights.

    Returns:
      Gradients -> updates, to be multiplied by the learning rate and taken off the weights. What is
      0 is left out, and costs nothing.
    """
    parts = []
    if clip_norm:
        parts.append(optax.clip_by_global_norm(clip_norm))
    if weight_decay:
        parts.append(optax.add_decayed_weights(weight_decay))
    if momentum:
        parts.append(optax.trace(momentum))
    # As one vector: a program of a few operations instead of some for each of the many weights.
    return optax.flatten(optax.chain(*parts)) if parts else optax.identity()
