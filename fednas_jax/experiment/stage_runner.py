"""Runs the stages of a run one after another; leaves out those that are finished.

`stages.json` in the workdir records the stages, and for each the digests of the earlier stages'
summaries when it began. A stage is not resumed if those summaries have changed since.

Only rank 0 reads and writes the workdir and computes the stages on the server.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from fednas_jax import config as schema
from fednas_jax.algorithms.stage_types import Folders, RoundsStage, Stage, is_whole
from fednas_jax.experiment import longer, moved, resumption, server_stage, shared_workdir
from fednas_jax.experiment import workdir as folders
from fednas_jax.federated.ranks.communicator import Communicator
from fednas_jax.runtime import costs, layout
from fednas_jax.runtime.errors import UserError, warn
from fednas_jax.runtime.files import read_json, write_json

RunRounds: TypeAlias = Callable[[RoundsStage, Folders, Path, Callable[[], None]], dict[str, Any]]
"""(stage, folders of the earlier stages, the stage's folder, a function to be called on rank 0 once
all checks of its start are done) -> the summary of the stage, after it has run."""


def run(
    stages: Sequence[Stage],
    workdir: Path,
    run_rounds: RunRounds,
    communicator: Communicator,
    config: schema.Config | None = None,
) -> dict[str, Any]:
    """Runs what is left of the stages.

    Args:
      stages: as `stage_types.check` returns them.
      workdir: the run's folder; with several stages, all ranks need access to it.
      run_rounds: see `RunRounds`.
      communicator: joins the ranks; each rank has to call this function.
      config: the resolved config of the whole run; None if each stage has its own config and none
        is on the server.

    Returns:
      The summary of the last stage.

    Raises:
      UserError: the workdir holds another run; an earlier stage has changed since a stage began; or
        a stage raises it.
    """
    if is_whole(stages):
        communicator.decide(lambda: _check_no_stages(workdir))
        (stage,) = stages
        assert isinstance(stage, RoundsStage)
        return run_rounds(stage, {}, workdir, lambda: None)
    facts = _facts(config)
    shared_workdir.check_same(communicator, "the stages", [stage.name for stage in stages])
    shared_workdir.check_same(communicator, "the configs and a user's code", facts)
    record = _Record(workdir, stages, facts)
    communicator.decide(record.check)
    before: dict[str, Path] = {}
    summary: dict[str, Any] = {}
    for stage in stages:
        communicator.decide(functools.partial(record.check_before, stage, before))
        communicator.decide(functools.partial(record.check_length, stage, before))
        note = record.noter(stage, before)
        if communicator.rank == 0:
            note()  # does nothing for the first stage of a new run, which calls `note` later
        begun = functools.partial(note, begun=True)
        if isinstance(stage, RoundsStage):
            summary = run_rounds(stage, before, workdir / stage.name, begun)
        else:
            assert config is not None
            folder = workdir / stage.name
            summary = server_stage.run(stage, config, folder, before, begun, communicator)
        before = {**before, stage.name: (workdir / stage.name).resolve()}
    return summary


def check_same_run(workdir: Path, config: schema.Config) -> None:
    """Refuses a workdir with the stages of another config, or of other versions of a user's code.

    Args:
      workdir: a run's folder. Nothing is checked if the run has only one stage.
      config: the resolved config.

    Raises:
      UserError: the workdir holds such stages, or stages.json is damaged.
    """
    record = layout.read_stages(workdir)
    if record is None or not isinstance(record.get("config"), dict):
        return
    but = folders.may_differ(record["config"], config)
    folders.check_same_config(workdir, record["config"], config, but)
    places = moved.fields(record["config"], config)
    resumption.check_same_code(workdir, record, resumption.code_of_user(config), places)


def _facts(config: schema.Config | None) -> dict[str, Any]:
    """What stages.json records of the whole run."""
    if config is None:
        return {}
    return {"config": schema.to_json(config), "user_code": resumption.code_of_user(config)}


def _check_no_stages(workdir: Path) -> None:
    if (recorded := layout.read_stages(workdir)) is not None:
        names = ", ".join(stage["name"] for stage in recorded["stages"])
        raise UserError(
            f"--workdir: {workdir} holds a run of several stages ({names}); another folder is "
            "needed"
        )


class _Record:
    """stages.json of a workdir; only rank 0 reads and writes it."""

    def __init__(self, workdir: Path, stages: Sequence[Stage], facts: Mapping[str, Any]) -> None:
        self._workdir, self._facts = workdir, facts
        self._stages = [
            {
                "name": stage.name,
                "kind": layout.ROUNDS if isinstance(stage, RoundsStage) else layout.SERVER,
            }
            for stage in stages
        ]

    def check(self) -> None:
        """Refuses a workdir of another run.

        Raises:
          UserError: its run has one stage, other stages, another config or other code.
        """
        recorded = layout.read_stages(self._workdir)
        if recorded is None:
            if (self._workdir / layout.RUN_FILE).exists():
                raise UserError(
                    f"--workdir: {self._workdir} holds a run of one stage; another folder is needed"
                )
            return
        if self._facts:
            check_same_run(self._workdir, self._facts["config"])
        was, now = (
            [f"{stage['name']} ({stage['kind']})" for stage in of]
            for of in (recorded["stages"], self._stages)
        )
        if was != now:
            raise UserError(
                f"--workdir: {self._workdir} holds a run of the stages {', '.join(was)}, and "
                f"those of this config are {', '.join(now)}; another folder is needed"
            )

    def check_before(self, stage: Stage, before: Folders) -> None:
        """Refuses to resume a stage if summaries of earlier stages have changed since it began.

        Raises:
          UserError: they have changed.
        """
        folder = self._workdir / stage.name
        if not (before and _has_begun(folder)):
            return
        recorded = self._after().get(stage.name)
        if recorded is None:
            warn(
                f"{folder}: has no record of the summaries of stage {', '.join(before)} that it "
                "began with; whether they have changed since cannot be checked"
            )
            return
        for name, digest in _digests(before).items():
            if recorded.get(name, digest) != digest:
                raise UserError(
                    f"--workdir: {before[name] / layout.SUMMARY_FILE} is not the summary that "
                    f"the stage in {folder} began with; the stage {name} as it was is needed, or "
                    "another workdir"
                )

    def check_length(self, stage: Stage, before: Folders) -> None:
        """Refuses another number of rounds for a stage if a later one has begun with its result.

        Raises:
          UserError: a later stage has begun.
        """
        place = self._workdir / stage.name / layout.RUN_FILE
        if not isinstance(stage, RoundsStage) or not place.exists():
            return
        run = read_json(place, "another workdir is needed")
        recorded = run.get("config", {}) if isinstance(run, dict) else {}
        was = recorded.get(longer.FIELD) if isinstance(recorded, dict) else None
        now = stage.config(before)[longer.FIELD]
        names = [one["name"] for one in self._stages]
        later = names[names.index(stage.name) + 1 :]
        begun = [name for name in later if _has_begun(self._workdir / name)]
        if was not in (None, now) and begun:
            raise UserError(
                f"config.{longer.FIELD}: {now} here, {was} in {place.parent}; stage {begun[0]} has "
                f"begun with what stage {stage.name} found in {was} rounds, so {was} is needed, or "
                "another workdir"
            )

    def noter(self, stage: Stage, before: Folders) -> Callable[..., None]:
        """A function that records which summaries a stage begins with, once the run has begun.

        Called with `begun=True` once all checks of the stage are done, it also records the config
        of this start, which may have another number of rounds, or files at other places.
        """
        is_new = not _has_begun(self._workdir / stage.name)

        def note(*, begun: bool = False) -> None:
            if not any(_has_begun(self._workdir / one["name"]) for one in self._stages):
                return
            after = self._after()
            if is_new or not before:
                after[stage.name] = _digests(before)
            known = [
                {**one, "after": after[one["name"]]} if one["name"] in after else one
                for one in self._stages
            ]
            recorded = layout.read_stages(self._workdir)
            there = dict(recorded or {**self._facts, "stages": []})
            if begun and self._facts and schema.changes_of(there["config"], self._facts["config"]):
                there |= self._facts
            there["stages"] = known
            if there != recorded:
                write_json(self._workdir / layout.STAGES_FILE, there)

        return note

    def _after(self) -> dict[str, dict[str, str]]:
        """Stage -> the digests of the earlier stages' summaries when it began."""
        recorded = layout.read_stages(self._workdir) or {"stages": []}
        return {one["name"]: one["after"] for one in recorded["stages"] if "after" in one}


def _has_begun(folder: Path) -> bool:
    return (folder / layout.RUN_FILE).exists() or (folder / layout.STAGES_FILE).exists()


def _digests(before: Folders) -> dict[str, str]:
    """Stage -> the SHA-256 of its summary without the costs."""
    found = {}
    for name, folder in before.items():
        path = folder / layout.SUMMARY_FILE
        if not path.exists():
            continue
        summary = read_json(path, "remove it to resume the stage")
        if isinstance(summary, dict):
            summary = {key: x for key, x in summary.items() if key not in costs.NAMES}
        found[name] = hashlib.sha256(json.dumps(summary, sort_keys=True).encode()).hexdigest()
    return found
