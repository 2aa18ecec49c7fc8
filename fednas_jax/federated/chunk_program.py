"""The clients' part of a phase: the clients of a chunk are computed in parallel and reduced."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fednas_jax.federated.algorithm import ChunkFacts, ClientUpdate, ServerState, Tree
from fednas_jax.federated.clients import Clients, Examples, members_of
from fednas_jax.federated.cohort import LOCAL_EPOCHS, NOBODY, Cohort
from fednas_jax.federated.ranks.communicator import Communicator
from fednas_jax.federated.reducers import Reducer

_GROUP_STREAM = 1 << 31
"""Folded into a phase's key for the random draws of a group; no client has such an id."""


class Totals(NamedTuple):
    """Everything collected so far in a phase."""

    collected: Tree
    """The updates, as the algorithm's reducer collects them."""
    clients: jax.Array
    """How many clients have sent an update; int32."""
    metrics: dict[str, jax.Array]
    """The metrics of each client, [chunks, clients a chunk]."""
    personal: Tree
    """The personal state of every client of the population, [K, ...]; () if they have none."""


def accumulator(
    client_update: Callable[..., ClientUpdate], reducer: Reducer, size: int
) -> Callable[..., Totals]:
    """The function, to be compiled, that computes the chunks `first` to `stop` into totals.

    Args:
      client_update: the phase's.
      reducer: the algorithm's.
      size: clients a chunk.
    """

    def accumulate(
        state: ServerState,
        totals: Totals,
        clients: Clients,
        examples: Examples,
        cohort: Cohort,
        key: jax.Array,
        first: jax.Array,
        stop: jax.Array,
    ) -> Totals:
        def one_client(client: Clients, facts: ChunkFacts) -> ClientUpdate:
            client_key = jax.random.fold_in(key, client.id)
            return client_update(state, client, facts, examples, client_key)

        def one_chunk(number: jax.Array, totals: Totals) -> Totals:
            members = _members(clients, cohort, number, totals.personal)
            facts = _chunk_facts(cohort, number, members, key)
            if size == 1:
                update = one_client(jax.tree.map(lambda x: x[0], members), facts)
                update = jax.tree.map(lambda x: x[None], update)
            else:
                update = jax.vmap(one_client, in_axes=(0, None))(members, facts)
            metrics = {
                name: lax.dynamic_update_index_in_dim(totals.metrics[name], value, number, 0)
                for name, value in update.metrics.items()
            }
            counts = _sent(update, members.id != NOBODY)
            place = (cohort.first_chunk + number) * size
            sent = (update.sums, update.weights)
            return Totals(
                reducer.add(totals.collected, sent, counts, place),
                totals.clients + counts.sum(dtype=jnp.int32),
                metrics,
                _kept(totals.personal, members.id, update.personal),
            )

        return lax.fori_loop(first, stop, one_chunk, totals)

    return accumulate


def _members(clients: Clients, cohort: Cohort, number: jax.Array, personal: Tree) -> Clients:
    """The clients of a chunk, with their facts of this round and their personal states."""
    ids = cohort.ids[number]
    members = members_of(clients, ids)
    own = {name: values[number] for name, values in cohort.facts.items()}
    kept = jax.tree.map(lambda x: x[jnp.maximum(ids, 0)], personal)
    return members._replace(facts=members.facts | own, personal=kept)


def _chunk_facts(cohort: Cohort, number: jax.Array, members: Clients, key: jax.Array) -> ChunkFacts:
    group = jnp.int32(0) if cohort.groups is None else cohort.groups[number]
    own = jax.random.fold_in(jax.random.fold_in(key, _GROUP_STREAM), group)
    facts = ChunkFacts(cohort.steps[number], cohort.round, group=group, key=own)
    if LOCAL_EPOCHS in cohort.facts:
        return facts._replace(local_epochs=members.facts[LOCAL_EPOCHS].max())
    return facts


def _sent(update: ClientUpdate, present: jax.Array) -> jax.Array:
    """Which clients of a chunk have sent an update that counts, [C] bool."""
    return present & update.metrics["finite"] if "finite" in update.metrics else present


def _kept(table: Tree, ids: jax.Array, rows: Tree) -> Tree:
    """The personal states `table` of all clients, with the next `rows` of a chunk's clients."""
    return jax.tree.map(
        lambda all_of, mine: all_of.at[jnp.where(ids < 0, len(all_of), ids)].set(mine, mode="drop"),
        table,
        rows,
    )


def finite_only(cohort: Cohort, finite: jax.Array) -> Cohort:
    """A cohort, on the device, without the clients whose updates are not finite."""
    good, ids = jax.device_get((finite, cohort.ids))
    return jax.device_put(cohort._replace(ids=np.where(good, ids, np.int32(NOBODY))))


def personal_of_all_ranks(personal: Tree, here: jax.Array, communicator: Communicator) -> Tree:
    """What all clients keep, each as the rank left it that computed it in this phase.

    Args:
      personal: of this rank, [K, ...].
      here: ids of the clients that this rank computed, `NOBODY` among them.
      communicator: of the ranks.
    """
    if communicator.size == 1:
        return personal
    count = len(jax.tree.leaves(personal)[0])
    mine = jnp.zeros(count, jnp.int32).at[jnp.where(here < 0, count, here)].set(1, mode="drop")

    def of_mine(x: jax.Array) -> jax.Array:
        rows = jnp.where(_column(mine, x) > 0, x, jnp.zeros_like(x))
        return rows.astype(jnp.int32) if x.dtype == bool else rows  # there is no sum of these

    rows, computed = communicator.total((jax.tree.map(of_mine, personal), mine))
    return jax.tree.map(
        lambda new, old: jnp.where(_column(computed, old) > 0, new.astype(old.dtype), old),
        rows,
        personal,
    )


def _column(of_clients: jax.Array, like: jax.Array) -> jax.Array:
    """[K] as [K, 1, ...], to go with an array [K, ...]."""
    return of_clients.reshape(-1, *[1] * (like.ndim - 1))
