"""The round engine: one for all algorithms.

An algorithm is `init`, one or more phases of (`client_update`, `server_update`), and `evaluate`.
These are pure functions that do not depend on how clients are run. The engine vmaps `client_update`
over the clients of a chunk, goes through the chunks in one compiled loop, and reduces the updates
after each chunk, since those of all clients may not fit in memory: with a sum, memory grows with
the chunk, not with the number of clients.

Each of several ranks runs its own chunks; the server update begins with the sum over all ranks.

A chunk of one client runs without vmap, because vmap computes both sides of every condition.
"""

import functools
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fednas_jax.federated.algorithm import (
    Algorithm,
    ChunkFacts,
    ClientUpdate,
    Phase,
    ServerFacts,
    ServerState,
    Tree,
)
from fednas_jax.federated.chunk_program import (
    Totals,
    accumulator,
    finite_only,
    personal_of_all_ranks,
)
from fednas_jax.federated.clients import Clients, Examples
from fednas_jax.federated.cohort import Cohort
from fednas_jax.federated.ranks.communicator import LOCAL, Communicator
from fednas_jax.runtime.compilation import Program, jit

_REPEATS = 3
"""How often a chunk is run to be timed."""

_SERVER_STREAM = (1 << 31) + 1
"""Folded into a phase's key for the server's random draws; no client has such an id."""


def _bytes(tree: Tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


class Collected(NamedTuple):
    """What the clients of a phase have sent, before the server uses it."""

    totals: Totals
    mine: Cohort
    """Who has sent it, on this rank."""


class RoundEngine:
    """Runs rounds of one algorithm over one population; compiles each phase once."""

    def __init__(
        self,
        algorithm: Algorithm,
        clients: Clients,
        examples: Examples,
        clients_per_chunk: int,
        communicator: Communicator = LOCAL,
    ) -> None:
        """Prepares; compiles nothing yet.

        Args:
          algorithm: the algorithm. If it has transforms, or its clients have a personal state, it
            has to come from `transforms.chained`.
          clients: the population, arrays [K, ...].
          examples: all examples; the indices of `clients` are into them.
          clients_per_chunk: clients vmapped together.
          communicator: joins the ranks; cohorts have to be made for the same number of ranks.
        """
        self.algorithm = algorithm
        self.clients_per_chunk = clients_per_chunk
        self._communicator = communicator
        self._clients = jax.device_put(clients)
        self._examples = examples
        # With its own jit, a client's update is traced once, both for its shapes and for the loop.
        self._updates = [jax.jit(phase.client_update) for phase in algorithm.phases]
        self._shapes: dict[int, ClientUpdate] = {}
        self._accumulate = [
            Program(_name(phase), self._jit(self._chunks(update), 1))
            for phase, update in zip(algorithm.phases, self._updates, strict=True)
        ]
        self._finish: dict[int, Program] = {}

    def prepare(
        self, state: ServerState, cohort: Cohort, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """Compiles the first program of a round, and in another thread the later ones.

        Args:
          state: the server state, or one with the same shapes.
          cohort: one with the shapes of the cohorts to come.
          meanwhile: called once the thread has all its work, to give it more.
        """
        state, cohort = jax.device_put((state, self._mine(cohort)))
        arguments = functools.partial(self._arguments, state=state, cohort=cohort)

        def finished(number: int) -> tuple[Any, ...]:
            totals = self._zeros(number, state, cohort.ids.shape)
            return self._to_finish(state, totals, cohort, jax.random.key(0))

        def later() -> None:
            for number, accumulate in enumerate(self._accumulate):
                if number > 0:
                    accumulate.prepare_meanwhile(functools.partial(arguments, number))
                finish = self._finish_of(number, state)
                finish.prepare_meanwhile(functools.partial(finished, number))
            meanwhile()

        self._accumulate[0].prepare(*arguments(0), meanwhile=later)

    def run(
        self,
        state: ServerState,
        cohort: Cohort,
        key: jax.Array,
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> tuple[ServerState, list[dict[str, jax.Array]]]:
        """Runs one round.

        While clients compute, only two things move between host and device: the numbers of the next
        chunks, and zeros at the beginning of a phase. JAX refuses all implicit transfers.

        Args:
          state: the server state; its arrays are not given away.
          cohort: the clients that take part, in chunks, for all ranks.
          key: the round's key.
          progress: called with (chunks done, chunks in all) of this rank, over all phases.

        Returns:
          The next server state, and for each phase the metrics of the clients, [chunks, clients a
          chunk] in the order of `cohort.ids`. Every rank gets those of all ranks.
        """
        phases = len(self.algorithm.phases)
        count = self._mine(cohort).chunks_with_clients()
        metrics, finite = [], None
        for number in range(phases):
            report = functools.partial(_report, progress, number * count, count * phases)
            collected = self.collect(state, cohort, key, number, report, finite=finite)
            state = self.apply(state, collected, key, number)
            metrics.append(self.metrics(collected))
            if self.algorithm.leaves_out:
                now = collected.totals.metrics["finite"]
                finite = now if finite is None else finite & now
        return state, metrics

    def collect(
        self,
        state: ServerState,
        cohort: Cohort,
        key: jax.Array,
        number: int = 0,
        progress: Callable[[int], None] = lambda done: None,
        *,
        finite: jax.Array | None = None,
    ) -> Collected:
        """The clients' part of a phase, from a state that may be older than the server's.

        Args:
          state: from which the clients compute; it is still there afterwards.
          cohort: who computes, in chunks, on all ranks.
          key: of the round.
          number: of the phase, from 0.
          progress: called with how many chunks of this rank are done.
          finite: metric of the earlier phases of the round; where it is false, the client is left
            out.
        """
        mine = self._mine(cohort)
        count = mine.chunks_with_clients()
        state, mine = jax.device_put((state, mine))
        if finite is not None:
            mine = finite_only(mine, finite)
        phase_key = jax.random.fold_in(key, number)
        with jax.transfer_guard("disallow"):
            totals = self._all_chunks(number, state, mine, phase_key, count, progress)
        return Collected(totals, mine)

    def apply(
        self, state: ServerState, collected: Collected, key: jax.Array, number: int = 0
    ) -> ServerState:
        """The server's part of a phase: the state after what clients have sent, on every rank.

        Args:
          state: the server's now; it is still there afterwards.
          collected: of `collect`, which is used up.
          key: of the round.
          number: of the phase, from 0.
        """
        state = jax.device_put(state)
        phase_key = jax.random.fold_in(key, number)
        return self._server_update(number, state, collected.totals, collected.mine, phase_key)

    def metrics(self, collected: Collected) -> dict[str, jax.Array]:
        """The clients' metrics, [chunks, clients a chunk] as the cohort has them, of all ranks."""
        return self._communicator.gather(collected.totals.metrics)

    def _mine(self, cohort: Cohort) -> Cohort:
        """This rank's part of a cohort."""
        return cohort.of_rank(self._communicator.rank, self._communicator.size)

    def _server_update(
        self, number: int, state: ServerState, totals: Totals, mine: Cohort, key: jax.Array
    ) -> ServerState:
        """The server update of a phase, from what all ranks have collected.

        The ranks wait for each other before it: a rank that waits at the barrier can be
        interrupted, and leaves the cores to the others.
        """
        self._communicator.barrier()
        # Between ranks, JAX makes a token on the host that keeps collectives in order.
        alone = self._communicator.size == 1
        with jax.transfer_guard("disallow" if alone else "allow"):
            arguments = self._to_finish(state, totals, mine, key)
            state = self._finish_of(number, state)(*arguments)
        # Otherwise this thread might send the next messages while another still sums over ranks.
        return state if alone else jax.block_until_ready(state)

    def temporary_bytes(self, state: ServerState, cohort: Cohort) -> int:
        """Temporary memory of the phase that takes most of it, in bytes; compiles all phases.

        Inputs and outputs are not part of it.
        """
        state, cohort = jax.device_put((state, cohort))
        programs = [
            accumulate.prepare(*self._arguments(number, state, cohort))
            for number, accumulate in enumerate(self._accumulate)
        ]
        return max(program.memory_analysis().temp_size_in_bytes for program in programs)

    def seconds_of_a_chunk(self, state: ServerState, cohort: Cohort) -> float:
        """Seconds that the first phase takes for the first chunk; compiles it.

        The chunk is run three times, and the fastest counts. In the first phase clients make their
        local steps.
        """
        state, cohort = jax.device_put((state, cohort))
        seconds = []
        for _ in range(1 + _REPEATS):
            arguments = self._arguments(0, state, cohort)
            start = time.monotonic()
            jax.block_until_ready(self._accumulate[0](*arguments))
            seconds.append(time.monotonic() - start)
        return min(seconds[1:])  # the first compiles

    def traffic(self, state: ServerState) -> dict[str, int]:
        """Bytes that each client sends and receives in all phases of a round, uncompressed."""
        phases = range(len(self.algorithm.phases))
        sent = [self._update_shapes(number, state) for number in phases]
        return {
            "bytes_up_per_client": sum(_bytes((s.sums, s.weights)) for s in sent),
            "bytes_down_per_client": len(sent) * _bytes(self.algorithm.broadcast(state)),
        }

    def _update_shapes(self, number: int, state: ServerState) -> ClientUpdate:
        """The shapes of a client's update in a phase."""
        if number not in self._shapes:
            one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), self._clients)
            key = jax.eval_shape(lambda: jax.random.key(0))
            number_of: Any = jax.ShapeDtypeStruct((), jnp.int32)
            facts = ChunkFacts(number_of, number_of, group=number_of, key=key)
            one = one._replace(personal=jax.tree.map(_without_clients, self._personal(state)))
            self._shapes[number] = jax.eval_shape(
                self._updates[number], state, one, facts, self._examples, key
            )
        return self._shapes[number]

    def _personal(self, state: ServerState) -> Tree:
        """The personal states of all clients, [K, ...]; () if they have none."""
        return state.personal if self.algorithm.personal else ()

    def _zeros(self, number: int, state: ServerState, chunks: tuple[int, ...]) -> Totals:
        """Totals without any client yet.

        They are put on the device as one tree: with a program for each leaf, a round takes 30 ms
        more. Personal states are copied, since the totals are given away, and the state is not.
        """
        shapes = self._update_shapes(number, state)
        metrics: Any = {
            name: jax.ShapeDtypeStruct(chunks, m.dtype) for name, m in shapes.metrics.items()
        }
        nobody: Any = jax.ShapeDtypeStruct((), jnp.int32)
        places = math.prod(chunks) * self._communicator.size
        collected = self.algorithm.reducer.shapes((shapes.sums, shapes.weights), places)
        totals = Totals(collected, nobody, metrics, ())
        zeros = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), totals)
        zeros = jax.device_put(zeros, may_alias=False)  # it is given away
        return zeros._replace(personal=jax.tree.map(jnp.copy, self._personal(state)))

    def _to_finish(
        self, state: ServerState, totals: Totals, mine: Cohort, key: jax.Array
    ) -> tuple[Any, ...]:
        """The arguments of the program that `_finish_of` returns."""
        large, small = totals.collected
        here = mine.ids if self.algorithm.personal else ()
        return state, large, (small, totals.clients), totals.personal, here, mine.round, key

    def _arguments(
        self, number: int, state: ServerState, cohort: Cohort, key: jax.Array | None = None
    ) -> tuple[Any, ...]:
        """The arguments of a phase's compiled loop, for its first chunk."""
        key = jax.random.key(0) if key is None else key
        totals = self._zeros(number, state, cohort.ids.shape)
        return state, totals, self._clients, self._examples, cohort, key, *_numbers(0, 1)

    def _finish_of(self, number: int, state: ServerState) -> Program:
        """The program of a phase's server update.

        The collected sums are given away if the next state has arrays of their shapes, which saves
        a copy. The state is never given away: the caller of `run` needs it until the next one is
        known to be finite, and a phase that does not change it returns the caller's own arrays.
        """
        if number not in self._finish:
            phase, reducer = self.algorithm.phases[number], self.algorithm.reducer
            sent = self._update_shapes(number, state)
            large, _ = reducer.shapes((sent.sums, sent.weights), 1)
            given = (1,) if not Counter(_shapes(large)) - Counter(_shapes(state)) else ()

            @functools.wraps(phase.server_update)
            def of_all_ranks(
                state: ServerState,
                large: Tree,
                small: Tree,
                personal: Tree,
                here: Any,
                round: jax.Array,
                key: jax.Array,
            ) -> ServerState:
                large, (rest, clients) = self._communicator.total((large, small))
                sums, weights = reducer.finish((large, rest))
                draw = jax.random.fold_in(key, _SERVER_STREAM)
                after = phase.server_update(state, sums, weights, ServerFacts(round, draw, clients))
                if not self.algorithm.personal:
                    return after
                joined = personal_of_all_ranks(personal, here, self._communicator)
                return after._replace(personal=joined)

            jitted = self._jit(of_all_ranks, given)
            self._finish[number] = Program(f"the server's part of {_name(phase)}", jitted)
        return self._finish[number]

    def _chunks(self, client_update: Callable[..., ClientUpdate]) -> Callable[..., Totals]:
        return accumulator(client_update, self.algorithm.reducer, self.clients_per_chunk)

    def _jit(self, function: Callable[..., Any], donated: int | tuple[int, ...]) -> Any:
        return jit(function, quick=self.algorithm.large, donate_argnums=donated)

    def _all_chunks(
        self,
        number: int,
        state: ServerState,
        cohort: Cohort,
        key: jax.Array,
        chunks: int,
        progress: Callable[[int], None],
    ) -> Totals:
        """Goes through the chunks in calls of about a second, so that Python can react in between.

        The number of chunks in a call changes no bit of the result: the same program adds them in
        the same order.
        """
        _, totals, *arguments, _, _ = self._arguments(number, state, cohort, key)
        first, length = 0, 1
        while first < chunks:
            stop = min(first + length, chunks)
            start = time.monotonic()
            totals = self._accumulate[number](state, totals, *arguments, *_numbers(first, stop))
            jax.block_until_ready(totals)
            if time.monotonic() - start < 0.5:
                length *= 2
            first = stop
            progress(first)
        return totals


def _name(phase: Phase) -> str:
    return getattr(phase.client_update, "__name__", "the clients' part")


def _shapes(tree: Tree) -> list[tuple[Any, Any]]:
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


def _numbers(*numbers: int) -> list[jax.Array]:
    return [jax.device_put(np.int32(number)) for number in numbers]


def _report(progress: Callable[[int, int], None], before: int, of: int, done: int) -> None:
    progress(before + done, of)


def _without_clients(leaf: Any) -> jax.ShapeDtypeStruct:
    """The shape of one client's part of an array [K, ...]."""
    return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)
