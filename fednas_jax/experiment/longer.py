"""A run that goes on to another number of rounds than it was begun with.

`config.rounds` is the only field that affects results and may change: the rounds that are done stay
as they are, and the next ones are computed with the new number.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fednas_jax.algorithms import registry
from fednas_jax.fields.field import names_in
from fednas_jax.runtime import layout, user_code
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import read_json

FIELD = "rounds"
_MADE_OF_THE_CONFIG = ("transforms", "reducer")
"""Fields of a user's own code, besides the algorithm, that may read the number of rounds and that
no fingerprint of the data covers."""


class Length(NamedTuple):
    """How many rounds a run has, and has to have."""

    before: int
    """What its earlier starts were asked for."""
    now: int
    """What this start is asked for."""
    done: int
    """The round of its newest checkpoint; of a finished run, its last round. 0: it has none."""
    ended: bool
    """Whether there is a summary, of `done` rounds."""

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.ended and self.now == self.done


def length(
    folder: Path, recorded: Mapping[str, Any], config: Mapping[str, Any], checkpoints: Sequence[int]
) -> Length:
    """How long a run is, and has to be.

    Args:
      folder: the run's folder.
      recorded: content of run.json.
      config: the resolved config of this start.
      checkpoints: the rounds with a checkpoint, ascending.

    Raises:
      UserError: fewer rounds are asked for than are done; or a finished run should go on, but has
        no checkpoint of its last round.
    """
    before, now = recorded["config"].get(FIELD, config[FIELD]), config[FIELD]
    newest = checkpoints[-1] if checkpoints else 0
    if not (folder / layout.SUMMARY_FILE).exists():
        found = Length(before, now, newest, ended=False)
    else:
        found = Length(before, now, _rounds_of_summary(folder, before), ended=True)
    if found.finished or before == now:
        return found._replace(done=now) if found.ended else found
    if now < found.done:
        raise UserError(
            f"config.{FIELD}: {now} is less than the {found.done} rounds that the run in {folder} "
            f"has done; at least {found.done} is needed, or another workdir"
        )
    if found.ended and newest < found.done:
        raise _cannot_go_on(folder, found, f"has no checkpoint of round {found.done}")
    return found


def _rounds_of_summary(folder: Path, otherwise: int) -> int:
    """The rounds in the summary; `otherwise` if it is damaged, which whoever reads it will say."""
    try:
        rounds = read_json(folder / layout.SUMMARY_FILE)["rounds"]
    except (UserError, KeyError, TypeError):
        return otherwise
    return rounds if isinstance(rounds, int) else otherwise


def _cannot_go_on(folder: Path, length: Length, why: str) -> UserError:
    return UserError(
        f"config.{FIELD}: the run in {folder} {why}, from which it could go on to round "
        f"{length.now}; this checkpoint is needed, or {length.before} rounds, or another workdir"
    )


def check_state(
    folder: Path,
    values: Sequence[Any] | None,
    restored: int,
    rows: Sequence[Mapping[str, Any]],
    scores: Sequence[str],
) -> None:
    """Refuses what only the checkpoint itself tells.

    Args:
      folder: the run's folder.
      values: those of a `Length`; None of a new run.
      restored: the round of the newest intact checkpoint; 0 without one.
      rows: the rows of its rounds.
      scores: the columns that the row of a last round has to have.

    Raises:
      UserError: a finished run should go on, but the checkpoint of its last round is damaged; or
        the run should end with a round that was not scored as a last round is.
    """
    length = Length(*values) if values else None
    if length is None or length.before == length.now:
        return
    if length.ended and restored < length.done:
        raise _cannot_go_on(folder, length, f"has a damaged checkpoint of round {length.done}")
    if restored and restored == length.now:
        lacking = [name for name in scores if rows[-1].get(name) is None]
        if lacking:
            raise UserError(
                f"config.{FIELD}: round {restored} of the run in {folder} was not the last one "
                f"before, and has no {' and no '.join(lacking)}; at least {restored + 1} is needed"
            )


def described(
    length: Length, starts: Sequence[Mapping[str, Any]], config: Mapping[str, Any]
) -> list[str]:
    """The line about a change of the number of rounds; none where it does not change.

    Args:
      length: as of `length`.
      starts: those in run.json.
      config: the resolved config of this start.
    """
    before, now, done, _ = length
    if before == now:
        return []
    line = f"config.{FIELD}: {before} before, {now} now; "
    if not done:
        return [f"{line}no round is done yet"]
    line += f"the run goes on after round {done}" if now > done else f"the run ends with {done}"
    parts = _consequences(length, starts, config)
    if not parts and now > done and _earlier(before, starts) == [before]:
        parts = [f"the rounds are the same as in a run begun with {now}"]
    return ["; ".join([line, *parts])]


def _consequences(
    length: Length, starts: Sequence[Mapping[str, Any]], config: Mapping[str, Any]
) -> list[str]:
    _, now, done, ended = length
    found = []
    if spread := spread_over_rounds(config):
        spans = _spans(length, starts) + ([(done + 1, now, now)] if now > done else [])
        found.append(
            f"{' and '.join(spread)} over the number of rounds: {', '.join(map(_span, spans))}"
        )
    every = [f"config.{name} {config[name]}" for name in ("test_every", "held_out_every")
             if _scored_only_as_last(done, config[name])]  # fmt: skip
    if ended and every:
        found.append(f"round {done} was scored as the last one, and keeps its scores "
                     f"({', '.join(every)})")  # fmt: skip
    if unknown := _own_code(config):
        found.append(
            f"whether {', '.join(unknown)} uses the number of rounds is not known; if not, the "
            f"rounds are the same as in a run begun with {now}"
        )
    return found


def _earlier(before: int, starts: Sequence[Mapping[str, Any]]) -> list[int]:
    """The numbers of rounds that earlier starts were asked for, ascending."""
    replaced = [start.get("replaced") for start in starts]
    found = [values[FIELD] for values in replaced if isinstance(values, dict) and FIELD in values]
    return sorted({before, *found})


def spread_over_rounds(config: Mapping[str, Any]) -> list[str]:
    """What a config changes from its first round to its last, in words; each reads `rounds`.

    Args:
      config: a resolved config.
    """
    optimizer, found = config["optimizer"], []
    if optimizer.get("schedule") in ("across_rounds", "both"):
        name = optimizer["schedule"]
        found.append(f"the learning rate falls (config.optimizer.schedule {name!r})")
    if rate := optimizer.get("drop_path_rate", 0.0):
        found.append(f"drop path grows (config.optimizer.drop_path_rate {rate})")
    return found


def _spans(length: Length, starts: Sequence[Mapping[str, Any]]) -> list[tuple[int, int, int]]:
    """First round, last round and the number of rounds asked for of each span of done rounds."""
    changes = [
        (start["replaced"][FIELD], start.get("after_round", 0))
        for start in starts
        if isinstance(start.get("replaced"), dict) and FIELD in start["replaced"]
    ]
    found, last = list[tuple[int, int, int]](), 0
    for asked, until in [*changes, (length.before, length.done)]:
        if until > last:
            found.append((last + 1, until, asked))
            last = until
    return found


def _span(span: tuple[int, int, int]) -> str:
    first, last, asked = span
    return f"over {asked} in round{'s' if last > first else ''} {first}" + (
        f" to {last}" if last > first else ""
    )


def _scored_only_as_last(number: int, every: int) -> bool:
    return not every or number % every != 0


def _own_code(config: Mapping[str, Any]) -> list[str]:
    """The user's own code that may read the number of rounds."""
    named = {name: config.get(name, "") for name in _MADE_OF_THE_CONFIG}
    found = [
        f"config.{field} {one}"
        for field, value in named.items()
        for one in names_in(value)
        if user_code.is_reference(one)
    ]
    own = registry.is_brought(config["algorithm"])
    return [f"config.algorithm {config['algorithm']}", *found] if own else found
