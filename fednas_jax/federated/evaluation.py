"""Scores of a server state on groups of examples: the test set and each client's held-out part."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fednas_jax.federated.algorithm import Algorithm, ServerState
from fednas_jax.federated.clients import Examples
from fednas_jax.federated.ranks.communicator import LOCAL, Communicator
from fednas_jax.runtime.compilation import Program, jit


class Score(NamedTuple):
    """Means over the scored units, which are examples or tokens; nan if there are none."""

    loss: float
    accuracy: float


class Evaluator:
    """Evaluates groups of examples of any size with one compiled program."""

    def __init__(
        self,
        algorithm: Algorithm,
        examples: Examples,
        groups: Sequence[np.ndarray],
        batch_size: int,
        communicator: Communicator = LOCAL,
    ) -> None:
        """Prepares; compiles at the first call.

        Args:
          algorithm: its `evaluate` scores a batch.
          examples: all examples; the indices of `groups` are into them.
          groups: arrays of indices. One call scores neighbouring groups.
          batch_size: examples in a batch.
          communicator: joins the ranks that share the batches.
        """
        self._communicator = communicator
        self._examples = examples
        self._sizes = [len(group) for group in groups]
        self.counts = list(self._sizes)
        """How many units of each group were scored, such as tokens; before that, its examples."""
        self._batch_size = batch_size
        owners = [np.full(len(group), i, np.int32) for i, group in enumerate(groups)]
        self._indices = jax.device_put(_in_batches(groups, batch_size, fill=0))
        self._owners = jax.device_put(_in_batches(owners, batch_size, fill=len(groups)))
        evaluate = _evaluator(algorithm, len(groups))
        self._run = Program("evaluation", jit(evaluate, quick=algorithm.large))

    def prepare(self, state: ServerState) -> None:
        """Compiles in another thread."""
        self._run.prepare_meanwhile(lambda: self._arguments(state, 0, 0))

    def __call__(self, state: ServerState, stop: int | None = None, start: int = 0) -> list[Score]:
        """Scores of the groups `start` to `stop`, by default of all; computes no others."""
        sizes = np.array(self._sizes[start:stop], np.int64)
        if not sizes.any():
            return [Score(np.nan, np.nan)] * len(sizes)
        before = sum(self._sizes[:start])
        first, last = before // self._batch_size, -(-(before + sizes.sum()) // self._batch_size)
        rank, ranks = self._communicator.rank, self._communicator.size
        mine = [first + (last - first) * part // ranks for part in (rank, rank + 1)]
        result = np.column_stack(jax.device_get(self._run(*self._arguments(state, *mine))))
        of_ranks = self._communicator.gather(result.astype(np.float64)[None, start:stop])
        sums = of_ranks.sum(axis=0)
        counts = sums[:, 2:]
        self.counts[start:stop] = counts[:, 0].astype(int).tolist()
        with np.errstate(invalid="ignore"):  # 0 / 0 in a group without units
            return [Score(*means) for means in (sums[:, :2] / counts).tolist()]

    def _arguments(self, state: ServerState, first: int, last: int) -> tuple[Any, ...]:
        batches = np.int32(first), np.int32(last)
        return state, self._examples, self._indices, self._owners, *batches


def mean_score(scores: Sequence[Score], sizes: Sequence[int]) -> Score:
    """The score over the union of groups of the given sizes."""
    present = [(s, n) for s, n in zip(scores, sizes, strict=True) if n]
    if not present:
        return Score(np.nan, np.nan)
    weights = [n for _, n in present]
    return Score(
        float(np.average([s.loss for s, _ in present], weights=weights)),
        float(np.average([s.accuracy for s, _ in present], weights=weights)),
    )


def _evaluator(algorithm: Algorithm, groups: int) -> Any:
    def evaluate(
        state: ServerState,
        examples: Examples,
        indices: jax.Array,
        owners: jax.Array,
        first: jax.Array,
        last: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """Sums of loss and correctness [groups, 2] and counts [groups] of some batches."""

        def one_batch(number: jax.Array, totals: Any) -> Any:
            sums, counts = totals
            batch, owner = examples.take(indices[number]), owners[number]
            scores = algorithm.evaluate(state, batch.inputs, batch.targets)
            # Places after the last example belong to an additional group, which is cut off below.
            sums = sums.at[owner].add(jnp.stack((scores.loss, scores.correct), axis=-1))
            return sums, counts.at[owner].add(scores.units)

        nothing = jnp.zeros((groups + 1, 2)), jnp.zeros(groups + 1, jnp.int32)
        sums, counts = lax.fori_loop(first, last, one_batch, nothing)
        return sums[:groups], counts[:groups]

    return evaluate


def _in_batches(arrays: Sequence[np.ndarray], batch_size: int, fill: int) -> np.ndarray:
    """All arrays concatenated and cut into rows, [batches, batch_size], filled up with `fill`."""
    flat = np.concatenate(arrays).astype(np.int32)
    batches = max(1, -(-len(flat) // batch_size))
    out = np.full(batches * batch_size, fill, np.int32)
    out[: len(flat)] = flat
    return out.reshape(batches, batch_size)
