"""A client's update that counts only if all of it is finite: the first of the transforms."""

from typing import Any

import jax
import jax.numpy as jnp

from fednas_jax.federated.algorithm import ClientUpdate, finite_tree
from fednas_jax.federated.transforms import OnClient, Sent, Transform


def _finite_or_nothing(update: ClientUpdate, at: OnClient) -> Sent:
    """Zeros in place of sums and weights where any of them is not finite.

    So is what a client sends where its own metric `finite` is false. The metric `finite` is added
    where there is none.
    """
    sent: Any = update.sums, update.weights
    finite = finite_tree((sent, jnp.zeros(()))) & update.metrics.get("finite", jnp.bool_(True))
    sums, weights = jax.tree.map(lambda x: jnp.where(finite, x, jnp.zeros_like(x)), sent)
    update = update._replace(
        sums=sums, weights=weights, metrics=update.metrics | {"finite": finite}
    )
    return Sent(update, at.personal)


ONLY_FINITE = Transform("only_finite", client=_finite_or_nothing, every_phase=True)
"""Of `config.faults.not_finite` 'leave_out'. The last of a chain, it also leaves out what another
transform has made not finite."""
