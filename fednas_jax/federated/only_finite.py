"""A client's update that counts only if all of it is finite."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def finite_or_nothing(client_update: Callable[..., Any]) -> Callable[..., Any]:
    """A `client_update` whose sums and weights are zeros where any of them is not finite.

    So is what it sends where its own metric `finite` is false. The metric `finite` is added where
    there is none.
    """

    @functools.wraps(client_update)
    def checked(*arguments: Any) -> Any:
        update = client_update(*arguments)
        sent = update[:2]
        leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(sent)]
        finite = jnp.stack([*leaves, update.metrics.get("finite", jnp.bool_(True))]).all()
        sums, weights = jax.tree.map(lambda x: jnp.where(finite, x, jnp.zeros_like(x)), sent)
        return update._replace(
            sums=sums, weights=weights, metrics=update.metrics | {"finite": finite}
        )

    return checked
