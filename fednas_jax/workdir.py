"""The folder of a run: whose it is, whether it may be gone on with, and that one process writes
it."""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fednas_jax import __version__
from fednas_jax import config as schema
from fednas_jax.data.datasets import Dataset
from fednas_jax.errors import UserError
from fednas_jax.files import read_json, write_json

RUN_FILE, SUMMARY_FILE, METRICS_FILE = "run.json", "summary.json", "metrics.jsonl"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[None]:
    """Makes the folder and holds its lock, which the system lets go of however the process ends.

    Raises:
      UserError: it cannot be made or written, or another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise UserError(
            f"--workdir: {folder} cannot be written ({error.strerror}); a writable folder is needed"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"--workdir: another process is running in {folder}; wait for it or take another"
            ) from error
        yield


def recorded_run(folder: Path, config: schema.Config) -> dict[str, Any] | None:
    """What run.json says of the run in the folder, if there is one.

    Raises:
      UserError: it is of another config; or run.json is damaged, or missing beside results.
    """
    path = folder / RUN_FILE
    if not path.exists():
        for name in (METRICS_FILE, SUMMARY_FILE, "checkpoints"):
            if (folder / name).exists():
                raise UserError(
                    f"--workdir: {folder} holds {name} but no {RUN_FILE}; another folder is needed"
                )
        return None
    run = read_json(path)
    if not isinstance(run, dict) or not isinstance(run.get("config"), dict):
        raise UserError(f"{path}: not the record of a run; another workdir is needed")
    if different := schema.differences(run["config"], config):
        raise UserError(
            f"--workdir: {folder} holds a run of another config ({'; '.join(different)}); "
            "another folder is needed, or the config of that run"
        )
    return run


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a finished run.

    Raises:
      UserError: it is damaged.
    """
    summary = read_json(folder / SUMMARY_FILE)
    if not isinstance(summary, dict) or "genotype" not in summary:
        raise UserError(f"{folder / SUMMARY_FILE}: not a summary; remove it to go on with the run")
    return summary


def check_same_data(folder: Path, run: dict[str, Any], fingerprint: str) -> None:
    """Refuses to go on with other data than the run began with.

    Raises:
      UserError: the data or its partition has changed.
    """
    if run.get("data_sha256") != fingerprint:
        raise UserError(
            f"--workdir: the data or its partition has changed since the run in {folder} began; "
            "another folder is needed, or the data as it was"
        )


def fingerprint(dataset: Dataset, clients: tuple[np.ndarray, ...]) -> str:
    """SHA-256 over all images and labels, and over who holds which."""
    digest = hashlib.sha256()
    for split in (dataset.train, dataset.test):
        for array in (split.images, split.labels):
            digest.update(repr((array.dtype.str, array.shape)).encode())
            digest.update(np.ascontiguousarray(array).data)
    for indices in clients:
        digest.update(repr(len(indices)).encode() + np.ascontiguousarray(indices).tobytes())
    return digest.hexdigest()


def write_run(folder: Path, run: dict[str, Any] | None, facts: dict[str, Any]) -> None:
    """Records a start in run.json: the first with the config and facts, later ones as starts.

    Args:
      folder: of the run.
      run: what is recorded so far; None for a new run.
      facts: what to record of a new run.
    """
    record = facts if run is None else run
    starts = [*record.get("starts", []), _start()]
    write_json(folder / RUN_FILE, {**record, "starts": starts})


def _start() -> dict[str, Any]:
    device = jax.devices()[0]
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"fednas_jax": __version__, "python": platform.python_version(), **versions},
        "device": f"{device.platform}: {device.device_kind}",
        "devices": jax.device_count(),
    }
