"""The kinds of stage that a run may have: rounds with clients, and computation on the server.

Imports no JAX, since the stages of a run are needed before anything is computed.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from fednas_jax.fields.field import Config
from fednas_jax.runtime.errors import UserError, listed
from fednas_jax.runtime.layout import is_stage_name

if TYPE_CHECKING:
    import jax

Folders: TypeAlias = Mapping[str, Path]
"""The absolute path of each earlier stage's folder, by the stage's name."""


class ServerContext(NamedTuple):
    """The arguments of a stage on the server."""

    config: Config
    """The resolved config of the whole run."""
    folder: Path
    """The stage's folder. The stage may write there; after an interruption its files are there."""
    before: Folders
    key: "jax.Array"
    """The stage's own key, made from `config.seed` and the stage's name."""
    say: Callable[[str], None]
    """Prints a line."""


class RoundsStage(NamedTuple):
    """Federated rounds: a run like any other, in its own folder."""

    name: str
    """The name of the stage's folder in the workdir, such as "search" or "train/tier-1". The only
    stage of a run may have the name "": its folder is the workdir itself."""
    config: Callable[[Folders], Config]
    """Folders of the earlier stages -> the stage's config; called on every rank. The algorithm of
    this config has to have one stage."""


class ServerStage(NamedTuple):
    """Computation on the server, between rounds."""

    name: str
    """The name of the stage's folder in the workdir."""
    compute: Callable[[ServerContext], Mapping[str, Any]]
    """Returns the content of summary.json, in JSON's types. Called on rank 0 only, and again after
    an interruption. Raises `UserError` if the stage cannot be computed."""


Stage: TypeAlias = RoundsStage | ServerStage


def whole(config: Config) -> tuple[Stage, ...]:
    """One stage of rounds, in the workdir itself."""
    return (RoundsStage("", lambda before: config),)


def is_whole(stages: Sequence[Stage]) -> bool:
    """Whether the run has only one stage, whose folder is the workdir itself."""
    return stages[0].name == ""


def check(stages: Any, algorithm: str) -> tuple[Stage, ...]:
    """The stages, as a tuple, if a run can have them.

    Args:
      stages: the stages that an algorithm's room returned.
      algorithm: the algorithm's name.

    Raises:
      UserError: there are no stages, one is of another type, its name cannot be that of a folder,
        or two stages would share a folder or one would lie in the other's.
    """
    about = f"config.algorithm: the stages of {algorithm!r}"
    if not (isinstance(stages, tuple | list) and stages) or isinstance(stages, Stage):
        raise UserError(f"{about} are {stages!r}; a tuple of at least one stage is needed")
    for stage in stages:
        if not isinstance(stage, Stage):
            raise UserError(
                f"{about}: {stage!r} is not a stage; a RoundsStage or ServerStage of "
                "fednas_jax.algorithms.stage_types is needed"
            )
    if len(stages) == 1 and isinstance(stages[0], RoundsStage) and stages[0].name == "":
        return tuple(stages)
    taken: dict[str, str] = {}
    for name in (stage.name for stage in stages):
        if not is_stage_name(name):
            raise UserError(
                f"{about}: {name!r} cannot be the name of a folder; letters, digits, '-' and '_' "
                "are needed, with '/' between folders, and no name of a folder that every run has "
                "(checkpoints, plots)"
            )
        for lower, other in taken.items():
            one, two = sorted((f"{lower}/", f"{name.lower()}/"), key=len)
            if two.startswith(one):
                raise UserError(
                    f"{about}: {other!r} and {name!r} would share a folder; each stage needs its "
                    "own name, outside the folders of the others"
                )
        taken[name.lower()] = name
    return tuple(stages)


def check_one(stages: Sequence[Stage], algorithm: str, field: str) -> None:
    """Refuses an algorithm of several stages where only one stage is possible.

    Args:
      stages: the algorithm's stages.
      algorithm: its name.
      field: the field or option that needs an algorithm of one stage.

    Raises:
      UserError: the algorithm has several stages, or its one stage has its own folder.
    """
    if not is_whole(stages):
        names = listed(stage.name for stage in stages)
        raise UserError(
            f"{field}: {algorithm!r} runs in its own stages ({names}); an algorithm of one stage "
            "is needed here"
        )


@contextlib.contextmanager
def named(stage: Stage) -> Iterator[None]:
    """Puts the name of the stage before the text of an error, if the stage has a name."""
    try:
        yield
    except UserError as error:
        if not stage.name:
            raise
        raise UserError(f"stage {stage.name}: {error}") from error
