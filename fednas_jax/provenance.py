"""Which examples a run has learnt from, and those that it began with: read, pieced together, kept.

A run begins with what another has learnt where `config.warm_start` takes weights of it, and where
its algorithm says so (`Room.origins`). So all that those have learnt from counts.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fednas_jax import checkpoint, layout
from fednas_jax import workdir as folders
from fednas_jax.algorithms import registry
from fednas_jax.checkpoint_folder import Damaged, read_learnt, read_model
from fednas_jax.data import datasets, learnt, partition_file
from fednas_jax.data.datasets import Dataset
from fednas_jax.data.learnt import Learnt
from fednas_jax.data.partition_file import Partition
from fednas_jax.errors import UserError, listed, warn
from fednas_jax.federated.communicator import Communicator
from fednas_jax.files import read_json
from fednas_jax.paths import expand


def to_keep(
    communicator: Communicator,
    config: Mapping[str, Any],
    dataset: Dataset,
    partition: Partition,
    newest: Path | None,
) -> bytes:
    """What `of_run` finds, as checkpoints hold it; on other ranks than 0, which write none, empty.

    Raises:
      UserError: as `of_run`, on all ranks.
    """
    found: list[bytes] = []

    def find() -> None:
        found.append(learnt.to_bytes(of_run(config, dataset, partition, newest)))

    communicator.decide(find)
    return found[0] if found else b""


def of_run(
    config: Mapping[str, Any], dataset: Dataset, partition: Partition, newest: Path | None
) -> Learnt:
    """Which examples a run learns from; a line on stderr where it knows its test images already.

    Args:
      config: resolved.
      dataset: of the run.
      partition: of the run.
      newest: the checkpoint that it goes on from; None where it begins.

    Raises:
      UserError: the checkpoint is of other data, or of other names of classes.
    """
    own = learnt.of(dataset, partition.clients, learnt.settings_of(config, dataset.cut_by))
    if newest is not None:
        _check_class_names(newest, dataset)
    if newest is not None and (there := _recorded(newest)) is not None:
        if (there.train_sha256, there.test_sha256) != (own.train_sha256, own.test_sha256):
            raise UserError(
                f"{newest}: a checkpoint of a run on other data; the checkpoints of this run, or "
                "another workdir, are needed"
            )
        return there
    sources = list(_sources(config))
    for field, source in sources:
        known = 0 if source is None else learnt.tested_here(source, dataset)
        if known:  # by weights it is refused before
            warn(
                f"config.{field}: comes of a run that has learnt from {known} of this run's "
                f"{len(dataset.test.labels)} test images"
            )
    return learnt.after(own, [source for _, source in sources])


def of_checkpoint(path: Path) -> Learnt | None:
    """Which examples the model of a checkpoint has learnt from; None where nobody knows.

    A checkpoint of an earlier version does not say so. Where it lies in the folder of its run, and
    the data are as they were, it is pieced together.

    Args:
      path: of one checkpoint.

    Raises:
      UserError: it is damaged.
    """
    if (found := checkpoint.learnt_of(path)) is not None:
        return found
    read = _read_again(path)
    return None if read is None else read.learnt


def data_have_changed(path: Path) -> bool:
    """Whether the data that a checkpoint's run names, or its partition, have changed since.

    Args:
      path: of one checkpoint; False where it lies in no run's folder, or there are no such data.
    """
    read = _read_again(path)
    return read is not None and read.learnt is None


def _check_class_names(newest: Path, dataset: Dataset) -> None:
    """Refuses to go on with labels that stand for other classes, or are called otherwise."""
    try:
        there = tuple(read_model(newest)["class_names"])
    except (UserError, Damaged, KeyError, TypeError):
        return  # of an earlier version, which did not say
    if there != dataset.class_names:
        raise UserError(
            f"{dataset.name}: its classes are {listed(dataset.class_names)}, those of {newest} "
            f"{listed(there)}; the class_names as they were are needed, or another workdir"
        )


def _recorded(path: Path) -> Learnt | None:
    try:
        return read_learnt(path)
    except Damaged as error:
        raise UserError(f"{path}: {error}; a whole checkpoint is needed") from error


def _sources(config: Mapping[str, Any]) -> Iterator[tuple[str, Learnt | None]]:
    """The field that names each run with which a run begins, and the examples of that run.

    The examples are None where they cannot be known.
    """
    if config.get("warm_start"):
        yield "warm_start", _of_folder(config["warm_start"])
    for field, run in registry.room(config["algorithm"]).origins(config).items():
        yield field, None if run is None else _of_folder(run)


def _of_folder(folder: Path | str) -> Learnt | None:
    try:
        return of_checkpoint(checkpoint.locate(layout.last(expand(folder, "config.warm_start"))))
    except UserError:
        return None


class _ReadAgain(NamedTuple):
    """Data of a run, read by the settings in its record."""

    learnt: Learnt | None
    """None where the data are not those of the record any more."""


def _read_again(checkpoint_path: Path) -> _ReadAgain | None:
    """None where a part of the run's record, or what it names, is not there or not usable."""
    if checkpoint_path.parent.name != layout.CHECKPOINTS_FOLDER:
        return None
    run = checkpoint_path.parent.parent
    try:
        recorded = read_json(run / layout.RUN_FILE)
        config = recorded["config"]
        settings = learnt.settings_of(config, folders.rules_of(recorded)["cut_by"])
        dataset = datasets.load(**settings, data_dir=config["dataset"]["data_dir"])
        partition, _ = partition_file.read(run / layout.INDICES_FILE)
        # As a run has them in memory.
        clients = tuple(indices.astype(np.int32) for indices in partition.clients)
        if recorded["data_sha256"] != folders.fingerprint(dataset, clients):
            return _ReadAgain(None)
        own = learnt.of(dataset, clients, settings)
        return _ReadAgain(learnt.after(own, [source for _, source in _sources(config)]))
    except (UserError, KeyError, TypeError):
        return None
