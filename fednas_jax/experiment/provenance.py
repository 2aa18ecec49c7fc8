"""Finds the examples that a run, and its earlier runs, have learnt from.

A run builds on an earlier one if `config.warm_start` names it, or if the algorithm says so
(`Room.origins`). All examples that the earlier run has learnt from then count for this run too.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fednas_jax.algorithms import registry
from fednas_jax.checkpoints import checkpoint
from fednas_jax.checkpoints.checkpoint_folder import Damaged, read_learnt, read_model
from fednas_jax.data import datasets, learnt, partition_file, text
from fednas_jax.data.datasets import Dataset
from fednas_jax.data.learnt import Learnt
from fednas_jax.data.partition_file import Partition
from fednas_jax.experiment import workdir as folders
from fednas_jax.federated.ranks.communicator import Communicator
from fednas_jax.report import run_record
from fednas_jax.runtime import layout
from fednas_jax.runtime.errors import UserError, listed, warn
from fednas_jax.runtime.files import read_json
from fednas_jax.runtime.paths import expand


def to_keep(
    communicator: Communicator,
    config: Mapping[str, Any],
    dataset: Dataset,
    partition: Partition,
    newest: Path | None,
) -> bytes:
    """The record of `of_run` as bytes for checkpoints; empty except on rank 0, which writes them.

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
    """The record of a run's examples; warns if an earlier run has learnt from its test images.

    Args:
      config: the resolved config.
      dataset: data set of the run.
      partition: partition of the run.
      newest: the checkpoint from which the run resumes; None for a new run.

    Raises:
      UserError: the checkpoint is of other data, or of other class names.
    """
    own = learnt.of(dataset, partition.clients, learnt.settings_of(config, dataset.cut_by))
    if newest is not None:
        check_class_names(newest, dataset)
    if newest is not None and (there := _recorded(newest)) is not None:
        if (there.train_sha256, there.test_sha256) != (own.train_sha256, own.test_sha256):
            raise UserError(
                f"{newest}: a checkpoint of a run on other data; the checkpoints of this run, or "
                "another workdir, are needed"
            )
        return there._replace(settings=own.settings)  # the data may lie elsewhere now
    sources = list(_sources(config))
    for field, source in sources:
        known = 0 if source is None else learnt.tested_here(source, dataset)
        if known:  # for a warm start, this was refused earlier
            warn(
                f"config.{field}: comes from a run that has learnt from {known} of this run's "
                f"{len(dataset.test.labels)} test images"
            )
    return learnt.after(own, [source for _, source in sources])


def of_checkpoint(path: Path) -> Learnt | None:
    """The record of the examples that a checkpoint's model has learnt from; None if unknown.

    A checkpoint of an earlier version has no record. If it is in the folder of its run and the data
    have not changed, the record is computed from the data.

    Args:
      path: path of the checkpoint.

    Raises:
      UserError: the checkpoint is damaged.
    """
    if (found := checkpoint.learnt_of(path)) is not None:
        return found
    read = _read_again(path)
    return None if read is None else read.learnt


def data_have_changed(path: Path) -> bool:
    """Whether the data or the partition of a checkpoint's run have changed since the run began.

    Args:
      path: path of the checkpoint.

    Returns:
      False also if the checkpoint is not in a run's folder, or the data do not exist.
    """
    read = _read_again(path)
    return read is not None and read.learnt is None


def check_class_names(newest: Path, dataset: Dataset) -> None:
    """Refuses to resume with labels of other classes, or with other class names.

    Args:
      newest: a checkpoint of the run.
      dataset: the data set of this start.

    Raises:
      UserError: the names differ.
    """
    try:
        there = text.cleaned(read_model(newest)["class_names"])
    except (UserError, Damaged, KeyError, TypeError):
        return  # a checkpoint of an earlier version, which did not record names
    if there != dataset.class_names:
        raise UserError(
            f"{dataset.name}: its classes are {listed(dataset.class_names)}, those of {newest} "
            f"{listed(there)}; the class_names of the checkpoint, or another workdir, are needed"
        )


def _recorded(path: Path) -> Learnt | None:
    try:
        return read_learnt(path)
    except Damaged as error:
        raise UserError(f"{path}: {error}; a whole checkpoint is needed") from error


def _sources(config: Mapping[str, Any]) -> Iterator[tuple[str, Learnt | None]]:
    """The earlier runs: the field that names each, and its record, which is None if unknown."""
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
    """The data of a run, read again with the settings that it has recorded."""

    learnt: Learnt | None
    """None if the data have changed since they were recorded."""


def _read_again(checkpoint_path: Path) -> _ReadAgain | None:
    """Reads the data of a checkpoint's run; None if its records or data are not usable."""
    if checkpoint_path.parent.name != layout.CHECKPOINTS_FOLDER:
        return None
    run = checkpoint_path.parent.parent
    try:
        recorded = read_json(run / layout.RUN_FILE)
        config = recorded["config"]
        settings = learnt.settings_of(config, run_record.rules_of(recorded)["cut_by"])
        dataset = datasets.load(**settings, data_dir=config["dataset"]["data_dir"])
        partition, _ = partition_file.read(run / layout.INDICES_FILE)
        # The dtype that a run uses.
        clients = tuple(indices.astype(np.int32) for indices in partition.clients)
        if recorded["data_sha256"] != folders.fingerprint(dataset, clients):
            return _ReadAgain(None)
        own = learnt.of(dataset, clients, settings)
        return _ReadAgain(learnt.after(own, [source for _, source in _sources(config)]))
    except (UserError, KeyError, TypeError):
        return None
