"""A stage on the server: rank 0 computes it, and it is finished when its summary is written.

Its folder holds run.json with "kind": "server", summary.json, and what the stage itself writes. An
interrupted stage is computed again, from the same config, code and earlier summaries.
"""

import json
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from fednas_jax import config as schema
from fednas_jax.algorithms.stage_types import Folders, ServerContext, ServerStage, named
from fednas_jax.experiment import moved, resumption
from fednas_jax.experiment import workdir as folders
from fednas_jax.federated.ranks.communicator import Communicator
from fednas_jax.runtime import cache, console, layout, settings
from fednas_jax.runtime import costs as all_costs
from fednas_jax.runtime.errors import UserError, one_line, warn
from fednas_jax.runtime.files import plain, read_json, write_json

_KEY = 2
"""Folded into the seed's key; 0 is for the first state, 1 for the rounds."""


def run(
    stage: ServerStage,
    config: schema.Config,
    folder: Path,
    before: Folders,
    begun: Callable[[], None],
    communicator: Communicator,
) -> dict[str, Any]:
    """Computes a stage, or reads its summary if it is finished.

    Args:
      stage: the stage.
      config: the resolved config of the whole run.
      folder: the stage's folder.
      before: folders of the earlier stages.
      begun: called on rank 0 once the stage is recorded.
      communicator: joins the ranks; each rank has to call this function, and rank 0 computes.

    Returns:
      The summary, as in summary.json.

    Raises:
      UserError: on all ranks, if the folder holds something else or the stage cannot be computed.
        After a first start that fails, the folder holds nothing of it.
    """
    failure: list[Exception] = []

    def compute() -> dict[str, Any]:
        try:
            with named(stage):
                return {"summary": _run(stage, config, folder, before, begun, communicator.size)}
        except Exception as error:  # sent to the other ranks, which wait
            failure.append(error)
            kind = f"stage {stage.name}: {type(error).__name__}: "
            kind = "" if isinstance(error, UserError) else kind
            return {"error": f"{kind}{one_line(error)}"}

    outcome: dict[str, Any] = communicator.decide(compute)
    if failure:
        raise failure[0]
    if "error" in outcome:
        raise UserError(outcome["error"])
    found: dict[str, Any] = outcome["summary"]
    return found


def key_of(config: schema.Config, name: str) -> jax.Array:
    """The key of a stage: it depends only on the seed and the stage's name, not on its place."""
    key = jax.random.fold_in(jax.random.key(config["seed"]), _KEY)
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def is_record(run: Any) -> bool:
    """Whether a run.json is that of a stage on the server."""
    return isinstance(run, dict) and run.get("kind") == layout.SERVER


def _run(
    stage: ServerStage,
    config: schema.Config,
    folder: Path,
    before: Folders,
    begun: Callable[[], None],
    ranks: int,
) -> dict[str, Any]:
    code = resumption.code_of_user(config)
    recorded = _recorded(folder, config, code, verified=bool(before))
    if (folder / layout.SUMMARY_FILE).exists():
        console.show(f"{folder}: this stage is finished")
        return _read_summary(folder / layout.SUMMARY_FILE)
    if recorded is not None:
        resumption.check_same_settings(folder, recorded, settings.recorded())
    costs = all_costs.Costs()
    with settings.fixed(), cache.configured(config["compilation_cache"]), folders.locked(folder):
        if recorded is not None:
            for line in resumption.unlike(recorded, folders.machine()):
                warn(line)
        there = set(folder.iterdir())
        facts = {"kind": layout.SERVER, "config": schema.to_json(config), "user_code": code}
        folders.write_run(folder, recorded, {**facts, "ranks": ranks})
        try:
            begun()
            key = key_of(config, stage.name)
            found = stage.compute(ServerContext(config, folder, before, key, console.show))
            summary = _checked(found) | plain(costs.so_far())
            write_json(folder / layout.SUMMARY_FILE, summary)
        except Exception:
            if recorded is None:
                _remove(set(folder.iterdir()) - there)
            raise
    return summary


def _recorded(
    folder: Path,
    config: schema.Config,
    code: Mapping[str, Mapping[str, str]],
    *,
    verified: bool,
) -> dict[str, Any] | None:
    """The content of the stage's run.json; None if the stage has not begun.

    Args:
      folder: the stage's folder.
      config: the resolved config of the whole run.
      code: as `resumption.code_of_user` returns it.
      verified: whether an earlier stage has compared the content of files that lie elsewhere now.

    Raises:
      UserError: run.json is not that of a stage on the server, or has another config or another
        version of a user's code.
    """
    path, right = folder / layout.RUN_FILE, "another workdir is needed"
    if not path.exists():
        if (folder / layout.SUMMARY_FILE).exists():
            raise UserError(
                f"--workdir: {folder} holds {layout.SUMMARY_FILE} but no {layout.RUN_FILE}; {right}"
            )
        return None
    run = read_json(path, right)
    if not (
        is_record(run)
        and isinstance(run.get("config"), dict)
        and isinstance(run.get("starts"), list)
    ):
        raise UserError(f"{path}: not the record of a stage on the server; {right}")
    places = moved.fields(run["config"], config) if verified else {}
    folders.check_same_config(folder, run["config"], config, places.keys())
    resumption.check_same_code(folder, run, code, places)
    return dict(run)


def _read_summary(path: Path) -> dict[str, Any]:
    right = "remove it to compute the stage anew"
    summary = read_json(path, right)
    if not isinstance(summary, dict):
        raise UserError(f"{path}: not a summary; {right}")
    return summary


def _checked(found: Any) -> dict[str, Any]:
    """The result of a stage, in JSON's types.

    Raises:
      UserError: it is not a mapping, holds values that JSON cannot, or has a name that every
        summary has.
    """
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise UserError(
            f"returns {type(found).__name__}; a mapping from names to the summary's values is "
            "needed"
        )
    if taken := [name for name in all_costs.NAMES if name in found]:
        raise UserError(
            f"returns {taken[0]!r}, which is added to every summary; another name is needed"
        )
    try:
        value: dict[str, Any] = json.loads(json.dumps(plain(found), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"returns a value that JSON cannot hold ({one_line(error)}); numbers, text, lists and "
            "mappings are needed"
        ) from error
    return value


def _remove(paths: set[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
