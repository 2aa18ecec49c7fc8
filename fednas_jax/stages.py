"""A search and the training of what it finds, as one config: two runs, one after the other.

A config file asks for it by a second config inside of the first:

    config.then_train = train_config

The search runs in `<workdir>/search`; then `<workdir>/train` trains the network of its best
genotype. Each is a run like any other: it is gone on with where it was interrupted.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections

from fednas_jax import config as schema
from fednas_jax.errors import UserError

THEN_TRAIN = "then_train"
SEARCH_FOLDER, TRAIN_FOLDER = "search", "train"
FROM_SEARCH = "search"
"""Of `then_train.warm_start`: start from the weights of the search before."""


class Stages(NamedTuple):
    """What a command runs."""

    first: ml_collections.FrozenConfigDict
    """Resolved; a search, where something follows."""
    train: ml_collections.FrozenConfigDict | None
    """Resolved, but for what the search will find; None where one run is all."""


def resolve(config: ml_collections.ConfigDict, overrides: Mapping[str, str]) -> Stages:
    """Checks both configs, as `config.resolve` does one.

    Args:
      config: as a config file made it.
      overrides: fields to set; those of the second stage begin with `then_train.`.

    Raises:
      UserError: as `config.resolve`; or the first is no search, or the second trains something
        else than what it finds.
    """
    fields = dict(config.items())
    then = fields.pop(THEN_TRAIN, None)
    if then is None:
        return Stages(schema.resolve(config, overrides), None)
    prefix = f"{THEN_TRAIN}."
    later = {n.removeprefix(prefix): v for n, v in overrides.items() if n.startswith(prefix)}
    now = {n: v for n, v in overrides.items() if not n.startswith(prefix)}
    first = schema.resolve(ml_collections.ConfigDict(fields, type_safe=False), now)
    if first["algorithm"] != "fednas":
        raise UserError(
            f"config.algorithm: {first['algorithm']!r} searches nothing that could be trained "
            "then; 'fednas' is needed, or no config.then_train"
        )
    return Stages(first, _resolve_train(then, later))


def _resolve_train(config: Any, overrides: Mapping[str, str]) -> ml_collections.FrozenConfigDict:
    try:
        train = schema.resolve(config, overrides)
    except UserError as error:
        raise UserError(f"config.{THEN_TRAIN}: {error}") from error
    if train["algorithm"] != "fedavg" or train["network"]["name"] != "genotype":
        raise UserError(
            f"config.{THEN_TRAIN}: does not train the genotype that is found; algorithm 'fedavg' "
            "and network.name 'genotype' are needed"
        )
    if train["genotype"] != schema.default().genotype:
        raise UserError(
            f"config.{THEN_TRAIN}.genotype: {train['genotype']!r} is not used, as the one that is "
            "found is trained; nothing is needed there"
        )
    return train


def run(stages: Stages, workdir: Path) -> None:
    """Runs what the stages say, or what is left of it.

    Args:
      stages: of `resolve`.
      workdir: of the run; of both, where there are two.

    Raises:
      UserError: as `experiment.run`.
    """
    from fednas_jax import experiment  # not above: it imports jax

    if stages.train is None:
        experiment.run(stages.first, workdir)
        return
    search = workdir / SEARCH_FOLDER
    experiment.run(stages.first, search)
    train = stages.train.as_configdict()
    train.genotype = str(search / "genotypes" / "best.json")
    if train.warm_start == FROM_SEARCH:
        train.warm_start = str(search)
    experiment.run(train, workdir / TRAIN_FOLDER)


def last(workdir: Path) -> Path:
    """The folder of the run whose model counts: the training's, where a search went before.

    Raises:
      UserError: there is a search of which the training has not come to a checkpoint yet.
    """
    search, train = workdir / SEARCH_FOLDER, workdir / TRAIN_FOLDER
    if _has_checkpoint(train):
        return train
    if _has_checkpoint(search) and not _has_checkpoint(workdir):
        raise UserError(
            f"{workdir}: its training has no checkpoint yet; for the search's supernet {search} "
            "is needed"
        )
    return workdir


def _has_checkpoint(run: Path) -> bool:
    return any((run / "checkpoints").glob("[0-9]*"))
