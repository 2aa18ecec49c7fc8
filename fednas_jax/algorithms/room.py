"""What the room of an algorithm has to offer to a run."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fednas_jax import stage_types
from fednas_jax.config import Config
from fednas_jax.data.datasets import Dataset
from fednas_jax.federated.algorithm import Algorithm, ServerState
from fednas_jax.search.genotype import Genotype
from fednas_jax.stage_types import Stage


class ClientLayout(NamedTuple):
    """How a client's examples are divided for its local steps."""

    train_fraction: float = 1.0
    """Of the examples that it does not hold out, the share that weights learn from; the others are
    its validation part. 1: all of them, and no validation part."""
    last_batch: bool = True
    """Whether an epoch ends with a smaller batch where the batch size does not divide it."""

    @property
    def validates(self) -> bool:
        """Whether clients have a validation part."""
        return self.train_fraction < 1


def _no_genotype(config: Config) -> None:
    return None


class Room(NamedTuple):
    """An algorithm as a run builds it; `Declared` is what is known before."""

    layout: Callable[[Config], ClientLayout]
    build: Callable[[Config, Dataset], Algorithm]
    """Raises `UserError` where a field does not fit the data."""
    network: Callable[[Config], dict[str, Any]]
    """Name and fields of the network, as `model.json` keeps them."""
    genotype: Callable[[Config], Genotype | None] = _no_genotype
    """That the network is built from; raises `UserError` where there is no such genotype."""
    alphas: Callable[[ServerState], dict[str, np.ndarray]] | None = None
    """By kind of cell, of an algorithm that searches; None of others. Their runs keep genotypes."""
    tests_at_first: bool = True
    """Whether the first weights are tested, as round 0."""
    stages: Callable[[Config], tuple[Stage, ...]] = stage_types.whole
    """What a run consists of, in order; of the resolved config."""
