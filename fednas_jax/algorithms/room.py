"""Rooms: what an algorithm offers to a run, beyond its declaration."""

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
    """The share of a client's examples, without its held-out part, that trains the weights; the
    rest is its validation part. With 1 there is no validation part."""
    last_batch: bool = True
    """Whether an epoch ends with a smaller batch if the batch size does not divide the examples."""
    validation_teaches: str = "other parameters"
    """What the validation part trains; for messages."""

    @property
    def taught(self) -> str:
        """What the validation part trains; "" if clients have none."""
        return self.validation_teaches if self.train_fraction < 1 else ""


def _no_facts(config: Config, partition: Partition) -> dict[str, np.ndarray]:
    return {}


def _nothing(config: Config) -> dict[str, Any]:
    return {}


def _no_sections(run: RunFolder) -> list[Section]:
    return []


class Room(NamedTuple):
    """How a run builds an algorithm; `Declared` has what is known before that."""

    layout: Callable[[Config], ClientLayout]
    build: Callable[[Config, Dataset], Algorithm]
    """Raises `UserError` if a field does not fit the data."""
    network: Callable[[Config], dict[str, Any]]
    """Name and fields of the network, in JSON's types; `networks.build` builds it from them."""
    findings: Callable[[Any, Path], Findings] = Findings
    """(config, the run's folder) -> what the run finds besides metrics, such as genotypes."""
    sections: Callable[[RunFolder], list[Section]] = _no_sections
    """Sections of the run's page that other algorithms do not have."""
    inputs: Callable[[Config], Mapping[str, Any]] = _nothing
    """Config -> field -> what its value stands for, in JSON's types, such as the content of a file.
    run.json records it, and a run is not resumed if it has changed. Raises `UserError` if it cannot
    be read."""
    origins: Callable[[Config], Mapping[str, Path | None]] = _nothing
    """Config -> for each field whose value an earlier run made, the folder of that run, or None if
    it is not known. This run counts as trained on the examples of that run too.
    `config.warm_start` does not belong here."""
    tests_at_first: bool = True
    """Whether the first weights are tested, as round 0."""
    facts: Callable[[Config, Partition], dict[str, np.ndarray]] = _no_facts
    """Facts of every client by name, [K, ...] each, such as its tier; see `Clients.facts`."""
    schedule: Schedule = SYNCHRONOUS
    """How rounds are run."""
    stages: Callable[[Config], tuple[Stage, ...]] = stage_types.whole
    """Resolved config -> the stages of a run, in order."""
