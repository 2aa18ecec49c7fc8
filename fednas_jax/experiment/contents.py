"""Compares the content of files that lie elsewhere than when a run began."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fednas_jax.checkpoints.checkpoint import Checkpoints
from fednas_jax.experiment import assembly, moved, provenance, warm_start
from fednas_jax.experiment import workdir as folders
from fednas_jax.report import run_record
from fednas_jax.report.run_folder import read_partition
from fednas_jax.runtime import layout, settings, user_code
from fednas_jax.runtime.errors import UserError, listed

WEIGHTS_SHA256 = "warm_start_sha256"
"""In run.json: the digest of the checkpoint from which a run has its first weights."""


def check(
    folder: Path, run: Mapping[str, Any], config: Mapping[str, Any], places: moved.Places
) -> list[str]:
    """Refuses files at other places than at first if their content is another.

    Args:
      folder: the run's folder.
      run: content of run.json.
      config: the resolved config of this start.
      places: as of `moved.fields`. Users' code among them has been compared already.

    Returns:
      A line if there are any.

    Raises:
      UserError: the content is another, is not recorded, or cannot be read.
    """
    of_data = {name: places[name] for name in moved.OF_DATA if name in places}
    if any(not user_code.is_reference(now) for _, now in of_data.values()):
        _check_data(folder, run, config, of_data)
    if moved.WEIGHTS in places:
        was, now = places[moved.WEIGHTS]
        if run.get(WEIGHTS_SHA256, "") != warm_start.digest(now):
            raise other(folder, {moved.WEIGHTS: (was, now)})
    if not places:
        return []
    lines = [
        f"config.{name}: {now} has the content of {was}" for name, (was, now) in places.items()
    ]
    return ["; ".join(lines)]


def other(folder: Path, places: moved.Places) -> UserError:
    """The error that files do not have the content that the run has recorded.

    Args:
      folder: the run's folder.
      places: the fields that name them, as of `moved.fields`.
    """
    what = " and ".join(f"config.{name}: {now}" for name, (_, now) in places.items())
    was = " and ".join(was for was, _ in places.values())
    return UserError(
        f"{what} does not have the recorded content of {was}, with which the run in {folder} "
        "began; files with the same content are needed, or another workdir"
    )


def digests(config: Mapping[str, Any]) -> dict[str, str]:
    """The digests of what a new run begins with, which its config names only by place.

    Args:
      config: the resolved config.

    Raises:
      UserError: `config.warm_start` names no checkpoint.
    """
    begins_with = config.get("warm_start")
    return {WEIGHTS_SHA256: warm_start.digest(begins_with)} if begins_with else {}


def _check_data(
    folder: Path, run: Mapping[str, Any], config: Mapping[str, Any], places: moved.Places
) -> None:
    with settings.fixed(say=False):
        dataset = assembly.load_dataset(config, run_record.rules_of(run)["cut_by"])
        partition = assembly.partition_of(config, dataset)
    if run.get("data_sha256") != folders.fingerprint(dataset, partition.clients):
        raise other(folder, places)
    _check_client_names(folder, assembly.client_names(dataset, partition), places)
    checkpoints = Checkpoints(folder / layout.CHECKPOINTS_FOLDER, reading=True)
    for number in checkpoints.rounds()[-1:]:
        provenance.check_class_names(checkpoints.folder / f"{number:06d}", dataset)


def _check_client_names(folder: Path, names: tuple[str, ...], places: moved.Places) -> None:
    """Refuses data whose clients have other names than the run has recorded."""
    counts = read_partition(folder)
    recorded = None if counts is None else tuple(counts.called or ())
    if recorded is None or recorded == names:
        return
    what = " and ".join(f"config.{name}: {now}" for name, (_, now) in places.items())
    now, before = (listed(each) or "without names" for each in (names, recorded))
    raise UserError(
        f"{what} has the clients {now}; the run in {folder} began with the clients {before}; the "
        "same are needed, or another workdir"
    )
