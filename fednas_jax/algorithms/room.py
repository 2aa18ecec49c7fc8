"""What the room of an algorithm has to offer to a run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fednas_jax.algorithms import stage_types
from fednas_jax.algorithms.stage_types import Stage
from fednas_jax.data.datasets import Dataset
from fednas_jax.data.partition import Partition
from fednas_jax.federated.algorithm import Algorithm
from fednas_jax.federated.schedule import SYNCHRONOUS, Schedule
from fednas_jax.fields.field import Config
from fednas_jax.report.findings import Findings
from fednas_jax.report.page_parts import Section
from fednas_jax.report.run_types import RunFolder


class ClientLayout(NamedTuple):
    """How a client's examples are divided for its local steps."""

    train_fraction: float = 1.0
    """Of the examples that it does not hold out, the share that weights learn from; the others are
    its validation part. 1: all of them, and no validation part."""
    last_batch: bool = True
    """Whether an epoch ends with a smaller batch where the batch size does not divide it."""
    validation_teaches: str = "other parameters"
    """What learns from the validation part, for people."""

    @property
    def taught(self) -> str:
        """What learns from the validation part; "" where clients have none."""
        return self.validation_teaches if self.train_fraction < 1 else ""


def _no_facts(config: Config, partition: Partition) -> dict[str, np.ndarray]:
    return {}


def _nothing(config: Config) -> dict[str, Any]:
    return {}


def _no_sections(run: RunFolder) -> list[Section]:
    return []


class Room(NamedTuple):
    """An algorithm as a run builds it; `Declared` is what is known before."""

    layout: Callable[[Config], ClientLayout]
    build: Callable[[Config, Dataset], Algorithm]
    """Raises `UserError` where a field does not fit the data."""
    network: Callable[[Config], dict[str, Any]]
    """Name and fields of the network, as JSON holds them; `networks.build` builds it again."""
    findings: Callable[[Any, Path], Findings] = Findings
    """(config, the run's folder) -> what the run finds beside metrics."""
    sections: Callable[[RunFolder], list[Section]] = _no_sections
    """Of the run's page: what it has beside those of every run."""
    inputs: Callable[[Config], Mapping[str, Any]] = _nothing
    """Field of the config -> what it stands for, as JSON holds it, where that may change while the
    field does not: a file's content. It is recorded in run.json, and a run does not go on with
    another. Raises `UserError` where there is none."""
    origins: Callable[[Config], Mapping[str, Path | None]] = _nothing
    """Field of the config -> the folder of the run that it comes from, None where that is not
    known: what that run has learnt from, this one has too. `config.warm_start` aside."""
    tests_at_first: bool = True
    """Whether the first weights are tested, as round 0."""
    facts: Callable[[Config, Partition], dict[str, np.ndarray]] = _no_facts
    """Facts of every client by name, [K, ...] each, such as its tier: `Clients.facts`."""
    schedule: Schedule = SYNCHRONOUS
    """How a round goes."""
    stages: Callable[[Config], tuple[Stage, ...]] = stage_types.whole
    """What a run consists of, in order; of the resolved config."""
