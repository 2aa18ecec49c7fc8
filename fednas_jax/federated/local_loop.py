"""The loop over a client's local steps, for all algorithms: epochs of batches.

The clients of a chunk are computed in parallel, so the loop is as long as the chunk's longest
client needs. A client that needs fewer steps waits, or makes steps that change nothing.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from fednas_jax.federated.algorithm import ChunkFacts
from fednas_jax.federated.clients import Clients
from fednas_jax.federated.cohort import LOCAL_EPOCHS, STEP_LIMIT

Carry = TypeVar("Carry")


def local_loop(
    carry: Carry,
    client: Clients,
    facts: ChunkFacts,
    *,
    local_epochs: int,
    batch_size: int,
    begin: Callable[[jax.Array], Any],
    step: Callable[[jax.Array, Any, Clients, Carry], Carry],
    waits: bool = True,
) -> Carry:
    """Runs all local epochs of a client; fewer if it is a straggler or drops out.

    Args:
      carry: the first value of what local steps change.
      client: the client.
      facts: the facts of its chunk.
      local_epochs: E, if all clients make the same number.
      batch_size: B.
      begin: epoch, from 0 -> what the steps of the epoch share, such as an order of the examples.
      step: (local step of the epoch, from 0; what `begin` returned; the client with the examples
        and steps of this epoch; carry) -> carry.
      waits: whether a client skips the loop's steps beyond its own. If false, `step` is called for
        them too and must change nothing when its batch is empty; that is faster.

    Returns:
      The last carry.
    """
    own_epochs = client.facts.get(LOCAL_EPOCHS, local_epochs)
    limit = client.facts.get(STEP_LIMIT)

    def epoch(number: jax.Array, carry: Carry) -> Carry:
        begun = begin(number)
        now = client if facts.local_epochs is None else _while(number < own_epochs, client)
        if limit is not None:
            now = _up_to(limit - number * client.local_steps, now, batch_size)

        def one_step(i: jax.Array, carry: Carry) -> Carry:
            return step(i, begun, now, carry)

        def own_step(i: jax.Array, carry: Carry) -> Carry:
            return lax.cond(i < now.local_steps, lambda c: one_step(i, c), lambda c: c, carry)

        return lax.fori_loop(0, facts.local_steps, own_step if waits else one_step, carry)

    most = local_epochs if facts.local_epochs is None else facts.local_epochs
    return lax.fori_loop(0, most, epoch, carry)


def steps_made(client: Clients, local_epochs: int) -> jax.Array:
    """How many local steps a client makes in `local_loop`, without the steps in which it waits."""
    if STEP_LIMIT in client.facts:
        return client.facts[STEP_LIMIT]
    return client.facts.get(LOCAL_EPOCHS, local_epochs) * client.local_steps


def _while(active: jax.Array, client: Clients) -> Clients:
    """The client; without examples and steps if it is a straggler after its last epoch."""
    return client._replace(
        num_train=jnp.where(active, client.num_train, 0),
        local_steps=jnp.where(active, client.local_steps, 0),
    )


def _up_to(steps: jax.Array, client: Clients, batch_size: int) -> Clients:
    """The client with only the examples of its next `steps` local steps."""
    steps = jnp.clip(steps, 0, client.local_steps)
    return client._replace(
        num_train=jnp.minimum(client.num_train, steps * batch_size), local_steps=steps
    )
