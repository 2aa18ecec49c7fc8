"""The stages that a run may consist of: rounds with clients, and computation on the server.

Imports no JAX: what a room's stages are is asked for before anything is computed.
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
"""The folder of each earlier stage, in full, by the stage's name."""


class ServerContext(NamedTuple):
    """What a stage on the server computes from."""

    config: Config
    """Of the whole run, resolved."""
    folder: Path
    """Of this stage. It may write there; after an interruption it finds there what it wrote."""
    before: Folders
    key: "jax.Array"
    """Its own: made of `config.seed` and the stage's name."""
    say: Callable[[str], None]
    """Shows a line to people."""


class RoundsStage(NamedTuple):
    """Federated rounds: a run like any other, in a folder of its own."""

    name: str
    """Of its folder in the workdir, such as "search" or "train/tier-1"; "" for the workdir itself,
    where this is the only stage."""
    config: Callable[[Folders], Config]
    """Its config, whose algorithm is run as one stage; called on every rank."""


class ServerStage(NamedTuple):
    """Computation on the server, between rounds."""

    name: str
    """As of `RoundsStage`."""
    compute: Callable[[ServerContext], Mapping[str, Any]]
    """Returns what summary.json will hold, as JSON has it; called on rank 0 alone, anew after an
    interruption. Raises `UserError` where it cannot be computed."""


Stage: TypeAlias = RoundsStage | ServerStage


def whole(config: Config) -> tuple[Stage, ...]:
    """One stage of rounds, in the workdir itself."""
    return (RoundsStage("", lambda before: config),)


def is_whole(stages: Sequence[Stage]) -> bool:
    """Whether the workdir itself is the folder of the only stage."""
    return stages[0].name == ""


def check(stages: Any, algorithm: str) -> tuple[Stage, ...]:
    """The stages, if a run can consist of them.

    Args:
      stages: what the room of an algorithm returned.
      algorithm: its name.

    Raises:
      UserError: there is none, or one is none, or its name cannot be that of a folder, or two
        would share a folder, or one lie in that of another.
    """
    about = f"config.algorithm: the stages of {algorithm!r}"
    if not (isinstance(stages, tuple | list) and stages) or isinstance(stages, Stage):
        raise UserError(f"{about} are {stages!r}; a tuple of at least one stage is needed")
    for stage in stages:
        if not isinstance(stage, Stage):
            raise UserError(
                f"{about}: {stage!r} is none; a RoundsStage or ServerStage of "
                "fednas_jax.algorithms.stage_types is needed"
            )
    if len(stages) == 1 and isinstance(stages[0], RoundsStage) and stages[0].name == "":
        return tuple(stages)
    taken: dict[str, str] = {}
    for name in (stage.name for stage in stages):
        if not is_stage_name(name):
            raise UserError(
                f"{about}: {name!r} cannot be the name of a folder; letters, digits, '-' and '_' "
                "are needed, with '/' between folders, and none that a run has itself "
                "(checkpoints, plots)"
            )
        for lower, other in taken.items():
            one, two = sorted((f"{lower}/", f"{name.lower()}/"), key=len)
            if two.startswith(one):
                raise UserError(
                    f"{about}: {other!r} and {name!r} would share a folder; a name of its own is "
                    "needed for each, outside of the others' folders"
                )
        taken[name.lower()] = name
    return tuple(stages)


def check_one(stages: Sequence[Stage], algorithm: str, field: str) -> None:
    """Refuses an algorithm of several stages where a single run is asked for.

    Args:
      stages: of the algorithm.
      algorithm: its name.
      field: what asks for a single run.

    Raises:
      UserError: it has several, or one in a folder of its own.
    """
    if not is_whole(stages):
        names = listed(stage.name for stage in stages)
        raise UserError(
            f"{field}: {algorithm!r} runs in stages of its own ({names}); an algorithm of one "
            "stage is needed here"
        )


@contextlib.contextmanager
def named(stage: Stage) -> Iterator[None]:
    """Errors begin with the stage that they are of, where there are several."""
    try:
        yield
    except UserError as error:
        if not stage.name:
            raise
        raise UserError(f"stage {stage.name}: {error}") from error
