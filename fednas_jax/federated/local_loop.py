"""A client's local steps, as all algorithms walk through them: epochs of batches, in one loop.

The loop is as long as the longest client of the chunk needs, since the clients of a chunk are
computed side by side. A client that needs fewer steps waits, or makes steps that change nothing.
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
    """All local epochs of a client; fewer where it is a straggler or breaks off.

    Args:
      carry: what a local step changes, at first.
      client: whose steps.
      facts: of its chunk.
      local_epochs: E, where all clients make as many.
      batch_size: B.
      begin: epoch, from 0 -> what its steps share, such as an order of the examples.
      step: (local step of the epoch, from 0; what `begin` returned; the client with the examples
        and steps of this epoch; carry) -> carry.
      waits: whether a client does nothing in steps that are not its own. If false, `step` is
        called for them too, and has to change nothing where its batch is empty; that is faster.
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
    """How many local steps of its own a client makes in `local_loop`."""
    if STEP_LIMIT in client.facts:
        return client.facts[STEP_LIMIT]
    return client.facts.get(LOCAL_EPOCHS, local_epochs) * client.local_steps


def _while(active: jax.Array, client: Clients) -> Clients:
    """The client, or one without examples: a straggler after its last epoch."""
    return client._replace(
        num_train=jnp.where(active, client.num_train, 0),
        local_steps=jnp.where(active, client.local_steps, 0),
    )


def _up_to(steps: jax.Array, client: Clients, batch_size: int) -> Clients:
    """The client with the batches of its next `steps` local steps alone."""
    steps = jnp.clip(steps, 0, client.local_steps)
    return client._replace(
        num_train=jnp.minimum(client.num_train, steps * batch_size), local_steps=steps
    )
