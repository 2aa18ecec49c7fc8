"""The folder of a run: its lock, its run.json, and checks that it holds the same run."""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import platform
import shlex
import sys
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np

from fednas_jax import config as schema
from fednas_jax.data.datasets import Dataset
from fednas_jax.experiment import longer, moved
from fednas_jax.runtime import settings, user_code
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import read_json, write_json
from fednas_jax.runtime.layout import (
    CHECKPOINTS_FOLDER,
    METRICS_FILE,
    PAGE_FILE,
    PLOTS_FOLDER,
    RUN_FILE,
    SUMMARY_FILE,
)
from fednas_jax.runtime.version import __version__

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


@contextlib.contextmanager
def opened(folder: Path, besides: Sequence[str] = ()) -> Iterator[None]:
    """Makes the folder of a run and its subfolders, and holds its lock.

    Args:
      folder: the run's folder.
      besides: subfolders that the run needs besides those of every run.

    Raises:
      UserError: as `locked`; or a subfolder cannot be made.
    """
    with locked(folder):
        for name in (PLOTS_FOLDER, *besides):
            _make(folder / name)
        yield


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes the folder of a run, and holds its lock.

    The operating system releases the lock when the process ends, for whatever reason.

    Args:
      folder: the run's folder.

    Raises:
      UserError: the folder cannot be made, written or locked, or another process holds the lock.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise UserError(
            f"--workdir: {folder} cannot be written ({error.strerror}); a writable folder is needed"
        ) from error
    with lock:
        _lock(lock, folder)
        yield


def _lock(file: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            f"--workdir: another process is running in {folder}; wait for it or take another folder"
        ) from error
    except OSError as error:
        raise UserError(
            f"--workdir: {folder} is on a file system that cannot lock ({error.strerror}); "
            "a folder on another file system is needed"
        ) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--workdir: {folder} cannot be made a folder ({error.strerror}); "
            "remove the file of that name, or take another workdir"
        ) from error


def recorded_run(folder: Path, config: schema.Config) -> dict[str, Any] | None:
    """The content of run.json in a folder; None if there is no run.

    Raises:
      UserError: the run has another config; run.json is damaged, or missing although there are
        results; or the folder cannot be read.
    """
    path = folder / RUN_FILE
    try:
        results = METRICS_FILE, SUMMARY_FILE, CHECKPOINTS_FOLDER
        held = [name for name in results if (folder / name).exists()]
        recorded = path.exists()
    except OSError as error:
        raise UserError(
            f"--workdir: {folder} cannot be read ({error.strerror}); another folder is needed"
        ) from error
    if not recorded:
        if held:
            raise UserError(
                f"--workdir: {folder} holds {held[0]} but no {RUN_FILE}; another folder is needed"
            )
        return None
    run = read_json(path, "another workdir is needed")
    if not _is_run(run):
        raise UserError(f"{path}: not the record of a run; another workdir is needed")
    check_same_config(folder, run["config"], config, may_differ(run["config"], config))
    return run


def may_differ(recorded: schema.Config, config: schema.Config) -> set[str]:
    """The fields of a run that a later start may change, though they affect the result.

    These are the number of rounds, which `longer` checks, and paths of files, whose content
    `moved` checks.

    Args:
      recorded: the run's config, in JSON's types.
      config: the config of this start.
    """
    return {longer.FIELD, *moved.fields(recorded, config)}


def check_same_config(
    folder: Path, recorded: schema.Config, config: schema.Config, but: Collection[str] = ()
) -> None:
    """Refuses to resume a run with another config.

    Args:
      folder: the run's folder.
      recorded: the run's config, in JSON's types.
      config: the config of this start.
      but: names of fields that are not compared.

    Raises:
      UserError: they differ in a field that affects the result.
    """
    if different := schema.differences(recorded, config, but):
        raise UserError(
            f"--workdir: {folder} holds a run of another config ({'; '.join(different)}); "
            "another folder is needed, or the config of that run"
        )


def _is_run(run: Any) -> bool:
    return (
        isinstance(run, dict)
        and isinstance(run.get("config"), dict)
        and isinstance(run.get("clients_per_chunk"), int)
        and run["clients_per_chunk"] >= 1
        and isinstance(run.get("starts"), list)
    )


def recorded_data(folder: Path) -> str:
    """The fingerprint of the data of the run in a folder; "" if there is no record of it."""
    return _recorded(folder, "data_sha256")


def recorded_examples(folder: Path) -> str:
    """The SHA-256 of all examples of the run in a folder; "" if there is no record of it.

    It does not depend on how train and test examples are split.
    """
    return _recorded(folder, "examples_sha256")


def _recorded(folder: Path, name: str) -> str:
    try:
        return str(read_json(folder / RUN_FILE)[name])
    except (UserError, KeyError, TypeError):
        return ""


def check_same_data(folder: Path, run: dict[str, Any], fingerprint: str) -> None:
    """Refuses to resume a run with other data.

    Raises:
      UserError: the data or its partition has changed since the run began.
    """
    if run.get("data_sha256") != fingerprint:
        by_name = ""
        if "cut_by" not in run and run["config"].get("dataset", {}).get("test_path"):
            by_name = (
                " (an earlier version took the labels of config.dataset.test_path as numbers; now "
                "they are matched by class_names)"
            )
        raise UserError(
            f"--workdir: the data or its partition has changed since the run in {folder} began"
            f"{by_name}; another folder is needed, or the original data"
        )


def fingerprint(dataset: Dataset, clients: tuple[np.ndarray, ...]) -> str:
    """SHA-256 of all images and labels, and of the indices of each client."""
    digest = hashlib.sha256()
    for split in (dataset.train, dataset.test):
        for array in (split.images, split.truth):
            digest.update(repr((array.dtype.str, array.shape)).encode())
            digest.update(np.ascontiguousarray(array).data)
    for indices in clients:
        digest.update(repr(len(indices)).encode() + np.ascontiguousarray(indices).tobytes())
    return digest.hexdigest()


def write_run(folder: Path, run: dict[str, Any] | None, facts: dict[str, Any]) -> None:
    """Records a start in run.json: all facts at the first start, later only what may differ.

    `config` is that of the newest start in the fields that affect the result. A start that changes
    one has its earlier value in `replaced`, and the round after which it changed in `after_round`.

    Args:
      folder: the run's folder.
      run: the content of run.json so far; None for a new run.
      facts: facts of this start: `config` in JSON's types, `clients_per_chunk` of a stage of
        rounds, and others; and facts that are recorded for each start: `ranks`, `done`, the last
        round before this start, and `said`, lines about what this start changes.
    """
    of_start = ("ranks", "done", "said")
    record = {k: v for k, v in facts.items() if k not in of_start} if run is None else run
    changes = {} if run is None else schema.changes_of(record["config"], facts["config"])
    if changes:
        record = _with_changes(record, facts, {name: now for name, (_, now) in changes.items()})
    start = _start(facts, record) | _changing(
        facts, {name: was for name, (was, _) in changes.items()}
    )
    write_json(folder / RUN_FILE, {**record, "starts": [*record.get("starts", []), start]})


def _with_changes(
    record: dict[str, Any], facts: dict[str, Any], now: dict[str, Any]
) -> dict[str, Any]:
    """The record with the values of this start in fields that it changes."""
    changed = {**record, "config": schema.with_values(record["config"], now)}
    code = facts.get("user_code", {})
    moved_code = {key: source for key, source in code.items() if key.partition(":")[0] in now}
    if moved_code:
        changed["user_code"] = {**record.get("user_code", {}), **moved_code}
    return changed


def _changing(facts: dict[str, Any], was: dict[str, Any]) -> dict[str, Any]:
    """What a start records of fields that it changes, though they affect the result."""
    if not was:
        return {}
    return {"replaced": was, "after_round": facts.get("done", 0), "remarks": facts.get("said", [])}


def reopen(folder: Path) -> None:
    """Removes what says that a run is finished, before it goes on: its summary and its page.

    If the process ends right after this, the run is an interrupted one, with the rounds that it
    had. Both files are written again at the end.

    Raises:
      UserError: they cannot be removed.
    """
    for name in (SUMMARY_FILE, PAGE_FILE):
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"{folder / name}: cannot be removed ({error.strerror}); a writable folder is "
                "needed"
            ) from error


def versions() -> dict[str, str]:
    """The versions of this package and of those that its results depend on."""
    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"fednas_jax": __version__, **packages}


def machine() -> dict[str, Any]:
    """The machine, as run.json records it: `versions`, `device` and `cores`."""
    device = settings.device()
    return {
        "versions": versions(),
        "device": f"{device.platform}: {device.device_kind}",
        "cores": settings.cores(),
    }


def _start(facts: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    now, before, here = _values(facts["config"]), _values(record["config"]), machine()
    known = record.get("user_code", {})

    def same(one: Any, other: Any) -> bool:
        if isinstance(one, str) and isinstance(other, str):
            return user_code.comparable(one) == user_code.comparable(other)
        return bool(one == other)

    code = {key: s for key, s in facts.get("user_code", {}).items() if known.get(key) != s}
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        **here,
        "versions": here["versions"] | {"python": platform.python_version()},
        "settings": settings.recorded(),
        "command": _command(),
        "devices": jax.device_count(),
        "ranks": facts.get("ranks", 1),
        **{name: facts[name] for name in ("clients_per_chunk",) if name in facts},
        # Fields that do not affect the result may differ from those of the first start.
        "changed": {name: x for name, x in now.items() if not same(x, before.get(name))},
        **({"user_code": code} if code else {}),  # of callbacks, which may change
    }


def _command() -> str:
    """The command line of this process; "" if it is not a command of the package."""
    rest = sys.orig_argv[1:]
    while rest:
        first, *rest = rest
        if Path(first).name == "fednas-jax":
            return shlex.join(["fednas-jax", *rest])
        if first == "-m":
            ours = rest and rest[0].partition(".")[0] == "fednas_jax"
            return shlex.join(["python", "-m", *rest]) if ours else ""
    return ""


def _values(config: Any) -> dict[str, Any]:
    """The values of all fields by dotted name; the default for a field that the config lacks."""
    return {field.name: field.default for field in schema.FIELDS} | schema.flat(config)
