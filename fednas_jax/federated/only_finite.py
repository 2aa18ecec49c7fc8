"""The transform `only_finite`: an update counts only if all its numbers are finite."""

from typing import Any

import jax
import jax.numpy as jnp

from fednas_jax.federated.algorithm import ClientUpdate, finite_tree
from fednas_jax.federated.transforms import OnClient, Sent, Transform


def _finite_or_nothing(update: ClientUpdate, at: OnClient) -> Sent:
    """Sets all sums and weights to zero if any is not finite, or if the metric `finite` is false.

    Records the result as the metric `finite`, which an update may lack before.
    """
    sent: Any = update.sums, update.weights
    finite = finite_tree((sent, jnp.zeros(()))) & update.metrics.get("finite", jnp.bool_(True))
    sums, weights = jax.tree.map(lambda x: jnp.where(finite, x, jnp.zeros_like(x)), sent)
    update = update._replace(
        sums=sums, weights=weights, metrics=update.metrics | {"finite": finite}
    )
    return Sent(update, at.personal)


ONLY_FINITE = Transform("only_finite", client=_finite_or_nothing, every_phase=True)
"""Used if `config.faults.not_finite` is 'leave_out'. At the end of a chain, so that it also
discards an update to which another transform has added a value that is not finite."""
