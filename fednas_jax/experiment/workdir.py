"""The folder of a run: whose it is, whether it may be gone on with, and that one process writes
it."""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np

from fednas_jax import config as schema
from fednas_jax.data.datasets import Dataset
from fednas_jax.runtime import settings, user_code
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import read_json, write_json
from fednas_jax.runtime.layout import (
    CHECKPOINTS_FOLDER,
    METRICS_FILE,
    PLOTS_FOLDER,
    RUN_FILE,
    SUMMARY_FILE,
)
from fednas_jax.runtime.version import __version__

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


@contextlib.contextmanager
def opened(folder: Path, besides: Sequence[str] = ()) -> Iterator[None]:
    """Makes the folder and those in it, and holds its lock.

    Args:
      folder: of the run.
      besides: folders in it that the run needs, beside those of every run.

    Raises:
      UserError: as `locked`; or a folder in it cannot be made.
    """
    with locked(folder):
        for name in (PLOTS_FOLDER, *besides):
            _make(folder / name)
        yield


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes the folder, and holds its lock.

    The system lets go of the lock however the process ends.

    Args:
      folder: of a run.

    Raises:
      UserError: it cannot be made or written, or locked, or another process holds it.
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
            f"--workdir: another process is running in {folder}; wait for it or take another"
        ) from error
    except OSError as error:
        raise UserError(
            f"--workdir: {folder} lies on a file system that cannot lock ({error.strerror}); "
            "a folder on another one is needed"
        ) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--workdir: {folder} cannot be made a folder ({error.strerror}); "
            "remove what is there, or take another workdir"
        ) from error


def recorded_run(folder: Path, config: schema.Config) -> dict[str, Any] | None:
    """What run.json says of the run in the folder, if there is one.

    Raises:
      UserError: it is of another config; or run.json is damaged, or missing beside results; or
        the folder cannot be looked into.
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
    check_same_config(folder, run["config"], config)
    return run


def check_same_config(folder: Path, recorded: schema.Config, config: schema.Config) -> None:
    """Refuses to go on with a run of another config.

    Args:
      folder: of the run.
      recorded: its config, as JSON has it.
      config: asked for now.

    Raises:
      UserError: they differ in a field that affects the result.
    """
    if different := schema.differences(recorded, config):
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
    """The fingerprint of the data of the run in a folder; "" where there is no such record."""
    return _recorded(folder, "data_sha256")


def recorded_examples(folder: Path) -> str:
    """The SHA-256 of all its examples, however they are cut; "" where there is no such record."""
    return _recorded(folder, "examples_sha256")


def _recorded(folder: Path, name: str) -> str:
    try:
        return str(read_json(folder / RUN_FILE)[name])
    except (UserError, KeyError, TypeError):
        return ""


def check_same_data(folder: Path, run: dict[str, Any], fingerprint: str) -> None:
    """Refuses to go on with other data than the run began with.

    Raises:
      UserError: the data or its partition has changed.
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
            f"{by_name}; another folder is needed, or the data as it was"
        )


def fingerprint(dataset: Dataset, clients: tuple[np.ndarray, ...]) -> str:
    """SHA-256 over all images and labels, and over who holds which."""
    digest = hashlib.sha256()
    for split in (dataset.train, dataset.test):
        for array in (split.images, split.truth):
            digest.update(repr((array.dtype.str, array.shape)).encode())
            digest.update(np.ascontiguousarray(array).data)
    for indices in clients:
        digest.update(repr(len(indices)).encode() + np.ascontiguousarray(indices).tobytes())
    return digest.hexdigest()


def write_run(folder: Path, run: dict[str, Any] | None, facts: dict[str, Any]) -> None:
    """Records a start in run.json: the first with all facts, each with what may differ from it.

    Args:
      folder: of the run.
      run: what is recorded so far; None for a new run.
      facts: of this start: `config`, as JSON has it, `clients_per_chunk` of a stage of rounds,
        `ranks`, which is of this start alone, and others.
    """
    record = {k: v for k, v in facts.items() if k != "ranks"} if run is None else run
    starts = [*record.get("starts", []), _start(facts, record)]
    write_json(folder / RUN_FILE, {**record, "starts": starts})


def versions() -> dict[str, str]:
    """Of this package and of those that decide over its results."""
    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"fednas_jax": __version__, **packages}


def machine() -> dict[str, Any]:
    """What computes here, as run.json records it: `versions`, `device` and `cores`."""
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
        # Fields that leave the result as it is may be set otherwise than at the first start.
        "changed": {name: x for name, x in now.items() if not same(x, before.get(name))},
        **({"user_code": code} if code else {}),  # of callbacks, which may change
    }


def _command() -> str:
    """The command line of this process where it is one of the package's; else empty."""
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
    """The values of all fields by their dotted names; the default of one that is not there."""
    return {field.name: field.default for field in schema.FIELDS} | schema.flat(config)
