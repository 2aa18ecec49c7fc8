"""Runs the stages of a run one after another: what is done is left alone, the rest is gone on with.

`stages.json` in the workdir says which stages there are, and with which summaries of the stages
before each of them has begun. A stage does not go on where these are others now.

Rank 0 alone reads and writes the workdir, and computes what is computed on the server.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from fednas_jax import config as schema
from fednas_jax.algorithms.stage_types import Folders, RoundsStage, Stage, is_whole
from fednas_jax.experiment import resumption, server_stage, shared_workdir
from fednas_jax.experiment import workdir as folders
from fednas_jax.federated.ranks.communicator import Communicator
from fednas_jax.runtime import costs, layout
from fednas_jax.runtime.errors import UserError, warn
from fednas_jax.runtime.files import read_json, write_json

RunRounds: TypeAlias = Callable[[RoundsStage, Folders, Path, Callable[[], None]], dict[str, Any]]
"""Runs a stage of rounds, from: the stage, the folders of those before, its own folder, and what to
call on rank 0 once nothing speaks against its start any more. Returns its summary."""


def run(
    stages: Sequence[Stage],
    workdir: Path,
    run_rounds: RunRounds,
    communicator: Communicator,
    config: schema.Config | None = None,
) -> dict[str, Any]:
    """Runs what is left of the stages.

    Args:
      stages: of `stage_types.check`.
      workdir: of the run; of several stages within reach of all ranks.
      run_rounds: see `RunRounds`.
      communicator: of the ranks, each of which calls this.
      config: of the whole run, resolved; None where each stage has its own, and none is on the
        server.

    Returns:
      The summary of the last stage.

    Raises:
      UserError: the workdir holds another run; or a stage has begun with something else than is
        there now; or as the stages.
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
        note = record.noter(stage, before)
        if communicator.rank == 0:
            note()  # the first stage, before which there is no folder, notes itself
        if isinstance(stage, RoundsStage):
            summary = run_rounds(stage, before, workdir / stage.name, note)
        else:
            assert config is not None
            folder = workdir / stage.name
            summary = server_stage.run(stage, config, folder, before, note, communicator)
        before = {**before, stage.name: (workdir / stage.name).resolve()}
    return summary


def check_same_run(workdir: Path, config: schema.Config) -> None:
    """Refuses a workdir that holds the stages of another config, or of other code of a user's.

    Args:
      workdir: of a run, also one of one stage, of which nothing is looked at.
      config: resolved.

    Raises:
      UserError: it does, or what it holds is damaged.
    """
    record = layout.read_stages(workdir)
    if record is None or not isinstance(record.get("config"), dict):
        return
    folders.check_same_config(workdir, record["config"], config)
    resumption.check_same_code(workdir, record, resumption.code_of_user(config))


def _facts(config: schema.Config | None) -> dict[str, Any]:
    """What stages.json says of a run as a whole."""
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
    """stages.json of a workdir; on rank 0 alone read and written."""

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
          UserError: it is one of one stage, or of other stages, another config or other code.
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
        """Refuses to go on with a stage that has begun with other summaries than are there now.

        Raises:
          UserError: it has.
        """
        folder = self._workdir / stage.name
        if not (before and _has_begun(folder)):
            return
        recorded = self._after().get(stage.name)
        if recorded is None:
            warn(
                f"{folder}: there is no record of the summaries that it began with, those of stage "
                f"{', '.join(before)}; whether they have changed since cannot be checked"
            )
            return
        for name, digest in _digests(before).items():
            if recorded.get(name, digest) != digest:
                raise UserError(
                    f"--workdir: {before[name] / layout.SUMMARY_FILE} is not the summary that "
                    f"the stage in {folder} began with; the stage {name} as it was is needed, or "
                    "another workdir"
                )

    def noter(self, stage: Stage, before: Folders) -> Callable[[], None]:
        """What writes down with what a stage begins; nothing where the run has not begun yet."""
        is_new = not _has_begun(self._workdir / stage.name)

        def note() -> None:
            if not any(_has_begun(self._workdir / one["name"]) for one in self._stages):
                return
            after = self._after()
            if is_new or not before:
                after[stage.name] = _digests(before)
            known = [
                {**one, "after": after[one["name"]]} if one["name"] in after else one
                for one in self._stages
            ]
            there = layout.read_stages(self._workdir) or {**self._facts, "stages": []}
            if there["stages"] != known:
                write_json(self._workdir / layout.STAGES_FILE, {**there, "stages": known})

        return note

    def _after(self) -> dict[str, dict[str, str]]:
        """By stage, the digests of the summaries with which it began."""
        recorded = layout.read_stages(self._workdir) or {"stages": []}
        return {one["name"]: one["after"] for one in recorded["stages"] if "after" in one}


def _has_begun(folder: Path) -> bool:
    return (folder / layout.RUN_FILE).exists() or (folder / layout.STAGES_FILE).exists()


def _digests(before: Folders) -> dict[str, str]:
    """By stage, the SHA-256 of what it came to, without what that cost."""
    found = {}
    for name, folder in before.items():
        path = folder / layout.SUMMARY_FILE
        if not path.exists():
            continue
        summary = read_json(path, "remove it to go on with the stage")
        if isinstance(summary, dict):
            summary = {key: x for key, x in summary.items() if key not in costs.NAMES}
        found[name] = hashlib.sha256(json.dumps(summary, sort_keys=True).encode()).hexdigest()
    return found
