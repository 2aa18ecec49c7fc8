"""Rounds of the package's own engine, as an experiment runs them but without its files."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from benchmarks.peer_data import write_examples
from fednas_jax import config as schema
from fednas_jax.experiment import assembly
from fednas_jax.experiment.rounds import EVALUATION_BATCH
from fednas_jax.federated import chunks
from fednas_jax.federated import cohort as cohorts
from fednas_jax.federated.algorithm import Algorithm
from fednas_jax.federated.evaluation import Evaluator
from fednas_jax.federated.ranks.communicator import LOCAL, Communicator
from fednas_jax.federated.round import RoundEngine
from fednas_jax.fields import config_file
from fednas_jax.runtime import compilation

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def load_config(name: str, variant: str = "") -> schema.Config:
    """A config of configs/, or a variant of it."""
    path = str(CONFIGS / f"{name}.py")
    return schema.resolve(config_file.load(f"{path}:{variant}" if variant else path))


def load_population(config: schema.Config) -> assembly.Population:
    """The data and the clients of a config."""
    dataset = assembly.load_dataset(config)
    return assembly.populate(config, dataset, assembly.make_partition(config, dataset))


@contextmanager
def examples_file(population: assembly.Population) -> Iterator[str]:
    """A temporary file with the population's data and partition, for peers."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "examples.npz"
        write_examples(path, population.dataset, population.partition.clients)
        yield str(path)


class Ours:
    """A federation that runs rounds when told to."""

    def __init__(
        self,
        config: schema.Config,
        population: assembly.Population,
        communicator: Communicator = LOCAL,
    ) -> None:
        """Draws the first weights; the first round compiles.

        Args:
          config: of the run.
          population: the same on all ranks.
          communicator: of the ranks, which share the clients of each round.
        """
        self._communicator = communicator
        algorithm = assembly.build_algorithm(config, population.dataset)
        self._clients, self._per_round = population.clients, config["clients_per_round"]
        self._key = jax.random.key(config["seed"])
        self._state = compilation.jit_once(algorithm.init)(self._key)
        self._engine = self._choose_engine(algorithm, config["clients_per_chunk"], population)
        self._evaluator = Evaluator(
            algorithm, population.examples, [population.test], EVALUATION_BATCH
        )
        self.done = 0

    def _choose_engine(
        self, algorithm: Algorithm, asked: int | str, population: assembly.Population
    ) -> RoundEngine:
        def build(count: int) -> RoundEngine:
            return RoundEngine(
                algorithm, population.clients, population.examples, count, self._communicator
            )

        if isinstance(asked, int):
            return build(min(asked, self._per_round))
        steps = self._clients.local_steps
        ids = cohorts.sample(self._key, len(self._clients.id), self._per_round)
        if asked == "auto":
            return chunks.fitting(build, self._state, cohorts.in_chunks(ids, steps, 1)).engine
        return chunks.measured(build, self._state, ids, steps, lambda line: None).engine

    def parameters(self) -> int:
        """Weights of the network."""
        return sum(leaf.size for leaf in jax.tree.leaves(self._state.params))

    def sums(self) -> Any:
        """What the ranks add up in a round's first phase, as zeros: (sums, weights)."""
        return self._engine._zeros(0, self._state, (1, 1)).collected

    def rounds(self, count: int) -> float:
        """Runs rounds to their end; returns seconds a round."""
        begin = time.perf_counter()
        for _ in range(count):
            self.done += 1
            draw, compute = jax.random.split(jax.random.fold_in(self._key, self.done))
            ids = cohorts.sample(draw, len(self._clients.id), self._per_round)
            cohort = cohorts.in_chunks(
                ids,
                self._clients.local_steps,
                self._engine.clients_per_chunk,
                ranks=self._communicator.size,
            )
            if self.done == 1:
                self._engine.prepare(self._state, cohort)  # as an experiment begins
            self._state, _ = self._engine.run(self._state, cohort, compute)
        jax.block_until_ready(self._state)
        return (time.perf_counter() - begin) / count

    def test(self) -> dict[str, float]:
        """Accuracy on the test set, and the seconds it took."""
        begin = time.perf_counter()
        (score,) = self._evaluator(self._state)
        return {"accuracy": float(score.accuracy), "seconds": time.perf_counter() - begin}
