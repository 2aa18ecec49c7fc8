"""Which local steps a client makes, by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.federated.algorithm import ChunkFacts
from fednas_jax.federated.clients import Clients, Division, build
from fednas_jax.federated.local_loop import local_loop, steps_made

BATCH, EPOCHS = 2, 3


def client(**facts: int) -> Clients:
    """One of five examples: three steps an epoch, the last of one example."""
    part = np.arange(5)
    one = jax.tree.map(
        lambda x: x[0], build([Division(part, part, part[:0])], BATCH, last_batch=True)
    )
    return one._replace(facts={name: jnp.int32(value) for name, value in facts.items()})


def walk(mine: Clients, facts: ChunkFacts, waits: bool) -> list[tuple[int, ...]]:
    """(epoch, step, examples left for the client) of each step that is called, in order."""

    def step(i: Any, epoch: Any, now: Clients, carry: Any) -> Any:
        count, rows = carry
        return count + 1, rows.at[count].set(jnp.stack([epoch, i, now.num_train, now.local_steps]))

    count, rows = local_loop(
        (jnp.int32(0), jnp.zeros((20, 4), jnp.int32)),
        mine,
        facts,
        local_epochs=EPOCHS,
        batch_size=BATCH,
        begin=lambda number: number,
        step=step,
        waits=waits,
    )
    return [tuple(row) for row in np.asarray(rows)[: int(count)].tolist()]


def test_a_client_waits_for_the_longest_of_its_chunk() -> None:
    facts = ChunkFacts(jnp.int32(4))
    expected = [(epoch, i, 5, 3) for epoch in range(EPOCHS) for i in range(3)]
    assert walk(client(), facts, waits=True) == expected
    assert int(steps_made(client(), EPOCHS)) == 9
    every = [(epoch, i, 5, 3) for epoch in range(EPOCHS) for i in range(4)]
    assert walk(client(), facts, waits=False) == every


@pytest.mark.parametrize("waits", [True, False])
def test_a_straggler_has_no_examples_after_its_last_epoch(waits: bool) -> None:
    facts = ChunkFacts(jnp.int32(3), local_epochs=jnp.int32(2))
    mine = client(local_epochs=1)
    first = [(0, i, 5, 3) for i in range(3)]
    assert walk(mine, facts, waits) == first + ([] if waits else [(1, i, 0, 0) for i in range(3)])
    assert int(steps_made(mine, EPOCHS)) == 3


def test_a_client_that_breaks_off_makes_its_steps_and_no_more() -> None:
    facts = ChunkFacts(jnp.int32(3), local_epochs=jnp.int32(2))
    mine = client(local_epochs=2, step_limit=5)
    assert walk(mine, facts, waits=True) == [
        *((0, i, 5, 3) for i in range(3)),
        *((1, i, 4, 2) for i in range(2)),
    ]
    assert int(steps_made(mine, EPOCHS)) == 5
