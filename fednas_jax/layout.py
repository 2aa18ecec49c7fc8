"""What lies where in the folder of a run, and in one of several stages."""

from pathlib import Path

from fednas_jax.errors import UserError

RUN_FILE, SUMMARY_FILE, METRICS_FILE = "run.json", "summary.json", "metrics.jsonl"
GENOTYPES_FOLDER, PLOTS_FOLDER = "genotypes", "plots"
CHECKPOINTS_FOLDER = "checkpoints"
INDICES_FILE = "partition.npz"

SEARCH_FOLDER, TRAIN_FOLDER = "search", "train"
"""Of the stages of a search that is followed by a training."""


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
    return any((run / CHECKPOINTS_FOLDER).glob("[0-9]*"))
