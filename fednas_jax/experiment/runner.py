"""Runs all stages of an experiment in its own folder; starts a new run or resumes an old one."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from fednas_jax import config as schema
from fednas_jax.algorithms import registry, stage_types
from fednas_jax.algorithms.declared import Declared
from fednas_jax.algorithms.stage_types import Folders, RoundsStage
from fednas_jax.experiment import (
    assembly,
    omissions,
    resumption,
    shared_workdir,
    stage_runner,
    summary,
)
from fednas_jax.experiment import callbacks as callback_functions
from fednas_jax.experiment import workdir as folders
from fednas_jax.experiment.rounds import Experiment
from fednas_jax.federated.ranks.communicator import LOCAL, Communicator
from fednas_jax.fields import extension
from fednas_jax.report import run_record, tracking
from fednas_jax.runtime import cache, gpu, settings
from fednas_jax.runtime.costs import Costs
from fednas_jax.runtime.errors import warn_once
from fednas_jax.runtime.paths import check_utf8, expand


def run(
    config: schema.Config,
    workdir: Path | str,
    communicator: Communicator = LOCAL,
    *,
    algorithm: Declared | None = None,
    network: Callable[..., Any] | None = None,
    dataset: Any = None,
    partition: Callable[..., Any] | None = None,
    transforms: Sequence[Any] = (),
    reducer: Any = None,
    callbacks: Sequence[Callable[..., Any]] = (),
) -> dict[str, Any]:
    """Runs all stages of an experiment in its own folder, or what is left of them.

    Your own algorithm, network and so on take the place of what the config names. Each except the
    algorithm may also be given as an `Extension`; see docs/extending.md.

    Args:
      config: as `fednas_jax.config.default` or a file under `configs/` returns it.
      workdir: the folder. If it holds an interrupted run of this config, that run is resumed. A
        run of fewer rounds goes on, see `longer`.
      communicator: joins the ranks that share the work; each rank has to call this function.
      algorithm: your own algorithm.
      network: a linen module, or a function from `num_classes` to one.
      dataset: a `Dataset`, or a function from the config to one.
      partition: a function from config and data set to the indices of each client.
      transforms: transforms of client updates, in the order in which clients apply them.
      reducer: combines the client updates of a phase.
      callbacks: functions of an `Event`, called on rank 0 after each round.

    Returns:
      The summary, as in summary.json; if the algorithm has several stages, that of the last.

    Raises:
      UserError: bad input of any kind; the content of the folder is unchanged.
    """
    one = {"network.name": network, "dataset.name": dataset, "partition.name": partition}
    several = {"transforms": transforms, "callbacks": callbacks}
    own = extension.given_fields({**one, "reducer": reducer}, several)
    if algorithm is not None:
        registry.add(algorithm)
        own["algorithm"] = algorithm.name
    resolved = schema.resolve(config, own)
    callback_functions.load(resolved)  # so that bad ones are refused at once
    folder = check_utf8(expand(workdir, "--workdir"), "--workdir")
    name = resolved["algorithm"]
    stages = stage_types.check(registry.room(name).stages(resolved), name)

    def run_rounds(
        stage: RoundsStage, before: Folders, place: Path, begun: Callable[[], None]
    ) -> dict[str, Any]:
        with stage_types.named(stage):
            return _run_rounds(schema.resolve(stage.config(before)), place, communicator, begun)

    return stage_runner.run(stages, folder, run_rounds, communicator, resolved)


def _run_rounds(
    resolved: ml_collections.FrozenConfigDict,
    folder: Path,
    communicator: Communicator,
    begun: Callable[[], None],
) -> dict[str, Any]:
    """Runs one stage of rounds; calls `begun` on rank 0 once the stage is recorded."""
    costs = Costs()
    tracking.check(resolved["report"])
    shared_workdir.check_same(communicator, "the versions of packages", folders.versions())
    shared_workdir.check_same(communicator, "the configs", schema.to_json(resolved))
    shared_workdir.check_same(communicator, "a user's code", resumption.code_of_user(resolved))
    shared_workdir.check_same(communicator, "the settings of JAX and XLA", settings.recorded())
    found = resumption.Found(*communicator.decide(lambda: resumption.look(folder, resolved)))
    is_rank_0 = communicator.rank == 0
    if is_rank_0:
        resumption.tell(found)
    if found.finished:
        return communicator.decide(lambda: summary.already_finished(resolved, folder))
    with settings.fixed(say=is_rank_0), cache.configured(resolved["compilation_cache"]):
        shared_workdir.check_same(communicator, "the kinds of device", settings.device().platform)
        cut_by = run_record.rules_of(found.recorded)["cut_by"]
        population, built = assembly.prepare(resolved, begun=found.begun, cut_by=cut_by)
        if is_rank_0:
            if unused := gpu.unused():
                warn_once(unused)
            omissions.tell(population.remarks)
        with contextlib.ExitStack() as stack:
            if is_rank_0:
                findings = registry.room(resolved["algorithm"]).findings(resolved, folder)
                stack.enter_context(folders.opened(folder, findings.folders))
            experiment = Experiment(
                resolved,
                folder,
                population=population,
                algorithm=built,
                found=found,
                costs=costs,
                communicator=communicator,
            )
            if is_rank_0:
                begun()
            return experiment.run()
