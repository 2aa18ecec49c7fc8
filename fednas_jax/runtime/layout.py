"""The layout of a run's folder, also of a run of several stages: names of files and folders."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import read_json

RUN_FILE, SUMMARY_FILE, METRICS_FILE = "run.json", "summary.json", "metrics.jsonl"
PAGE_FILE = "report.html"
GENOTYPES_FOLDER, PLOTS_FOLDER = "genotypes", "plots"
CHECKPOINTS_FOLDER = "checkpoints"
INDICES_FILE = "partition.npz"

STAGES_FILE = "stages.json"
"""In a run of several stages: their names in order, and the summaries each has begun with."""

SEARCH_FOLDER, TRAIN_FOLDER = "search", "train"
"""The stages of a search and the training after it. Runs of an earlier version with these stages
have no `STAGES_FILE`."""

ROUNDS, SERVER = "rounds", "server"
"""The kinds of stage."""

_OF_A_RUN = (CHECKPOINTS_FOLDER, GENOTYPES_FOLDER, PLOTS_FOLDER, "evaluation", "export")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9][A-Za-z0-9_-]*)*")


class StageFolder(NamedTuple):
    """A stage of a run, whether it has begun or not."""

    name: str
    folder: Path
    kind: str
    """`ROUNDS` or `SERVER`."""

    @property
    def finished(self) -> bool:
        """Whether there is a summary."""
        return (self.folder / SUMMARY_FILE).exists()

    @property
    def has_model(self) -> bool:
        """Whether it has a checkpoint; a stage on the server also has to be finished."""
        return _has_checkpoint(self.folder) and (self.kind == ROUNDS or self.finished)


def is_stage_name(name: Any) -> bool:
    """Whether a stage, and so its folder in the workdir, may have this name."""
    fits = isinstance(name, str) and _NAME.fullmatch(name) is not None
    return fits and not any(part.lower() in _OF_A_RUN for part in name.split("/"))


def read_stages(workdir: Path) -> dict[str, Any] | None:
    """The content of `STAGES_FILE`; None if there is none.

    Raises:
      UserError: it is damaged.
    """
    path = workdir / STAGES_FILE
    if not path.exists():
        return None
    right = "the unchanged file is needed, or another workdir"
    record = read_json(path, right)
    stages = record.get("stages") if isinstance(record, dict) else None
    if not (isinstance(stages, list) and stages and all(map(_is_stage, stages))):
        raise UserError(f"{path}: not the record of a run's stages; {right}")
    return record


def _is_stage(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and is_stage_name(value.get("name"))
        and value.get("kind") in (ROUNDS, SERVER)
        and isinstance(value.get("after", {}), dict)
    )


def stages(workdir: Path) -> list[StageFolder]:
    """The stages of the run in a workdir, in order; none if the run has only one stage.

    Raises:
      UserError: the record of the stages is damaged.
    """
    record = read_stages(workdir)
    if record is None:
        by_default = [StageFolder(n, workdir / n, ROUNDS) for n in (SEARCH_FOLDER, TRAIN_FOLDER)]
        return by_default if any(stage.folder.is_dir() for stage in by_default) else []
    found: list[StageFolder] = []
    for stage in record["stages"]:
        name, folder = stage["name"], workdir / stage["name"]
        if (folder / STAGES_FILE).exists():  # a training that itself has several
            inner = stages(folder)
            found += [one._replace(name=f"{name}/{one.name}") for one in inner]
        else:
            found.append(StageFolder(name, folder, stage["kind"]))
    return found


def last(workdir: Path) -> Path:
    """The folder with the model of a run: that of the last stage, if there are several.

    Finished stages on the server that have saved no model are left out.

    Raises:
      UserError: the last stage has no checkpoint yet, but an earlier one has.
    """
    having = [s for s in stages(workdir) if s.has_model or s.kind == ROUNDS or not s.finished]
    if having and having[-1].has_model:
        return having[-1].folder
    earlier = [stage for stage in having if stage.has_model]
    if earlier and not _has_checkpoint(workdir):
        raise _not_yet(workdir, having[-1], earlier[-1])
    return workdir


def _not_yet(workdir: Path, awaited: StageFolder, other: StageFolder) -> UserError:
    what, whose = f"stage {awaited.name}", f"the model of stage {other.name}"
    if (other.name, awaited.name) == (SEARCH_FOLDER, TRAIN_FOLDER):
        what, whose = "training", "the search's supernet"
    return UserError(
        f"{workdir}: its {what} has no checkpoint yet; for {whose} {other.folder} is needed"
    )


def of_rounds(workdir: Path) -> Path:
    """The folder of the last stage whose rounds have begun; the workdir of a run of one stage."""
    begun = [s.folder for s in stages(workdir) if (s.folder / METRICS_FILE).exists()]
    return workdir if (workdir / RUN_FILE).exists() or not begun else begun[-1]


def title(folder: Path) -> str:
    """The folder's name; for a stage of a run, the run's name and the stage's.

    Raises:
      UserError: the record of the stages is damaged.
    """
    folder = folder.resolve()
    for workdir in reversed(folder.parents):
        recorded = (workdir / STAGES_FILE).exists()
        if recorded and folder in [stage.folder for stage in stages(workdir)]:
            return f"{workdir.name}/{folder.relative_to(workdir).as_posix()}"
    staged = folder.name in (SEARCH_FOLDER, TRAIN_FOLDER)
    return f"{folder.parent.name}/{folder.name}" if staged else folder.name


def _has_checkpoint(run: Path) -> bool:
    return any((run / CHECKPOINTS_FOLDER).glob("[0-9]*"))
