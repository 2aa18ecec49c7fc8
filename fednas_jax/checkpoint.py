"""Checkpoints: the whole state of a run after a round, written whole or not at all.

`<folder>/000012/` is the checkpoint of round 12:

    state/            the arrays, by Orbax, each under its path in the state
    checkpoint.json   format, round, best round so far, the arrays' shapes and dtypes, and
                      whatever JSON the caller adds
    model.json        of which model the arrays are (`model_file.py`): all that predicting needs
    examples.npz      which examples it has learnt from (`data/learnt.py`), as digests
    checksums.json    SHA-256 of every other file

What a run has measured so far stands beside them in rows.jsonl (`report/ledger.py`).

A checkpoint is written under a temporary name and renamed when all of it is on the disk. It is
read only if every checksum holds. Nothing in it is pickled, and the arrays are stored without
the devices they lay on, so any other machine can go on.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

from fednas_jax.checkpoint_folder import (
    Damaged,
    check_facts,
    describe,
    first_difference,
    read_facts,
    read_learnt,
    read_model,
    read_part,
    read_state,
    room_bytes,
    sync,
    verify,
    write_folder,
)
from fednas_jax.data.learnt import Learnt
from fednas_jax.errors import UserError, warn
from fednas_jax.files import check_format, reason

FORMAT = 2
"""Raised whenever older code could not read what is written. In 1, `extra` held a run's rows."""

_ROUND = re.compile(r"\d{6,}")
_TEMPORARY = re.compile(r"\.tmp-.*-(\d+)")


class Restored(NamedTuple):
    """A checkpoint, read back."""

    round: int
    state: Any  # as the abstract state; arrays on the default device
    extra: Any  # the JSON given to `save`


class Saved(NamedTuple):
    """What a checkpoint holds of a model, whichever algorithm made it."""

    path: Path
    round: int
    model: Any
    """The JSON given to `save`, as it was read: not checked."""
    variables: dict[str, Any]
    """By collection, nested dicts of NumPy arrays."""
    learnt: Learnt | None
    """Which examples it has learnt from; None of a checkpoint of an earlier version."""


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(
        self,
        folder: Path | str,
        keep: int = 2,
        say: Callable[[str], None] | None = None,
        *,
        reading: bool = False,
    ) -> None:
        """Opens a folder of checkpoints; what a killed process left half written is removed.

        Args:
          folder: made at the first `save`.
          keep: how many of the latest to keep; the best one as of each of these is kept too.
          say: takes a line of warning; by default it goes to stderr.
          reading: nothing is removed: the folder may be a run's that is going on elsewhere.
        """
        self.folder = Path(folder)
        self._keep = keep
        self._say = say or warn
        for path in self.folder.glob(".tmp-*"):
            if not reading and not _belongs_to_another(path.name):
                shutil.rmtree(path, ignore_errors=True)

    def rounds(self) -> list[int]:
        """The rounds that have a checkpoint, ascending; whether whole is not looked at."""
        return sorted(int(path.name) for path in self.folder.glob("*") if _is_round(path))

    def best_round(self) -> int | None:
        """The best round as of the newest readable checkpoint; None if there is none."""
        return self._best_of(self.rounds())

    def save(
        self,
        round: int,
        state: Any,
        extra: Any,
        *,
        is_best: bool,
        model: dict[str, Any] | None = None,
        examples: bytes = b"",
    ) -> None:
        """Writes the checkpoint of a round, then removes those that are no longer to be kept.

        Later rounds are removed as well: they are from before the run fell back to an earlier
        checkpoint, and must not be gone on with.

        Args:
          round: counted from 0 or 1, as the caller does.
          state: a tree of arrays, numbers and typed keys.
          extra: anything that JSON can hold.
          is_best: this round is the best so far (so is the first that is saved).
          model: JSON that says of which model the state is, for `read_saved`.
          examples: which examples it has learnt from, as `learnt.to_bytes` gives it.

        Raises:
          UserError: it cannot be written; what was there before is as it was.
        """
        best = self._best_of([number for number in self.rounds() if number < round])
        facts = {
            "format": FORMAT,
            "round": round,
            "best_round": round if is_best or best is None else best,
            "leaves": describe(state),
            "extra": extra,
        }
        temporary = self.folder / f".tmp-{round}-{os.getpid()}"
        try:
            temporary.mkdir(parents=True)
            write_folder(temporary, state, facts, model, examples)
            self._put_in_place(temporary, round)
        except OSError as error:
            room = room_bytes(state) + len(examples)
            raise self._unwritable(round, reason(error, temporary, room)) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._prune(round)

    def restore_latest(
        self,
        abstract_state: Any,
        complete: Callable[[Restored], Any] = lambda restored: restored.extra,
    ) -> Restored | None:
        """Reads the newest whole checkpoint; damaged ones are passed over, with a warning.

        Args:
          abstract_state: a tree with the shapes and dtypes of the state, such as the fresh
            state itself, or what `jax.eval_shape` makes of its `init`.
          complete: makes of what was read the `extra` that is returned, from files beside it; None
            where these are damaged.

        Returns:
          None where there is no checkpoint at all.

        Raises:
          UserError: there are checkpoints, but no whole one; or the newest whole one is of
            another architecture, or of a later version of this program.
        """
        numbers = self.rounds()
        for number in reversed(numbers):
            try:
                restored = self._read(number, abstract_state)
                if (extra := complete(restored)) is None and restored.extra is not None:
                    raise Damaged("the rows of its rounds, beside it, are cut short or edited")
                return restored._replace(extra=extra)
            except Damaged as error:
                self._say(f"{self._path(number)}: {error}; passing over it")
        if numbers:
            raise UserError(
                f"{self.folder}: none of the {len(numbers)} checkpoints is whole; "
                "another workdir is needed, or the whole files put back"
            )
        return None

    def restore(self, which: int | str, abstract_state: Any) -> Restored:
        """Reads one checkpoint.

        Args:
          which: a round, or "best".
          abstract_state: as in `restore_latest`.

        Raises:
          UserError: it is missing, damaged, or of another architecture.
        """
        number = self.best_round() if which == "best" else which
        if not isinstance(number, int) or number not in self.rounds():
            kept = ", ".join(map(str, self.rounds())) or "none"
            raise UserError(f"{self.folder}: no checkpoint of round {which}; there are: {kept}")
        try:
            return self._read(number, abstract_state)
        except Damaged as error:
            raise UserError(f"{self._path(number)}: {error}; take another round") from error

    def _best_of(self, numbers: list[int]) -> int | None:
        for number in reversed(numbers):
            with contextlib.suppress(Damaged):
                return read_facts(self._path(number))["best_round"]
        return None

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}"

    def _read(self, number: int, abstract_state: Any) -> Restored:
        path = self._path(number)
        facts = _whole_facts(path)
        if difference := first_difference(facts["leaves"], describe(abstract_state)):
            raise UserError(
                f"{path}: a checkpoint of another architecture: {difference}; another workdir "
                "is needed, or the config the checkpoint was made with"
            )
        state = read_state(path / "state", facts["keys"], abstract_state)
        return Restored(facts["round"], state, facts["extra"])

    def _put_in_place(self, temporary: Path, number: int) -> None:
        final = self._path(number)
        if final.exists():  # only after a fall back from a damaged one
            self._discard(final)
        temporary.rename(final)
        sync(self.folder)

    def _prune(self, newest: int) -> None:
        latest = [number for number in self.rounds() if number <= newest][-self._keep :]
        wanted = set(latest)
        for number in latest:
            # Each kept one may become the newest again, if a later one is damaged.
            with contextlib.suppress(Damaged):
                wanted.add(read_facts(self._path(number))["best_round"])
        for number in set(self.rounds()) - wanted:
            try:
                self._discard(self._path(number))
            except OSError as error:
                self._say(f"{self._path(number)}: cannot be removed ({error.strerror})")

    def _discard(self, path: Path) -> None:
        # Renamed first, so that a kill half way does not leave a damaged checkpoint.
        doomed = path.with_name(f".tmp-old-{path.name}-{os.getpid()}")
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def _unwritable(self, number: int, why: str) -> UserError:
        kept = self.rounds()
        whole = f"round {kept[-1]} is still there" if kept else "none was written before"
        return UserError(
            f"{self.folder}: the checkpoint of round {number} cannot be written ({why}; "
            f"{whole}); a folder that can be written, with room, is needed"
        )


def locate(folder: Path, which: int | str = "best") -> Path:
    """The folder of one checkpoint, which may be damaged.

    Args:
      folder: of one checkpoint, of the checkpoints of a run, or the workdir of a run.
      which: a round, or "best"; not looked at where `folder` is a checkpoint already.

    Raises:
      UserError: there is no such folder or round, or no checkpoint in it.
    """
    if not folder.is_dir():
        problem = "a file" if folder.exists() else "no such folder"
        raise UserError(f"{folder}: {problem}; a run's workdir or a checkpoint is needed")
    if (folder / "checkpoint.json").exists():
        return folder
    inside = folder / "checkpoints"
    checkpoints = Checkpoints(inside if inside.is_dir() else folder, reading=True)
    rounds = checkpoints.rounds()
    if not rounds:
        raise UserError(f"{folder}: holds no checkpoint; a run's workdir or a checkpoint is needed")
    number = checkpoints.best_round() if which == "best" else which
    if number is None:
        raise UserError(f"{folder}: none of its checkpoints is whole; whole files are needed")
    if number not in rounds:
        kept = ", ".join(map(str, rounds))
        its_best = ", its best" if which == "best" else ""
        raise UserError(f"{folder}: no checkpoint of round {number}{its_best}; there are: {kept}")
    return checkpoints.folder / f"{number:06d}"


def read_saved(path: Path, collections: Collection[str]) -> Saved:
    """Reads a checkpoint's model, without its algorithm.

    Args:
      path: of one checkpoint.
      collections: the parts of the state to read, where they are there.

    Raises:
      UserError: it is damaged, of a later version of this program, or without a model.
    """
    try:
        facts = _whole_facts(path)
        model, learnt = read_model(path), read_learnt(path)
        wanted = [leaf for leaf in facts["leaves"] if leaf["path"].split("/")[0] in collections]
        return Saved(path, facts["round"], model, read_part(path / "state", wanted), learnt)
    except Damaged as error:
        raise UserError(f"{path}: {error}; a whole checkpoint is needed") from error


def learnt_of(path: Path) -> Learnt | None:
    """Which examples a checkpoint's model has learnt from; None where it does not say.

    Args:
      path: of one checkpoint.

    Raises:
      UserError: it is damaged, or of a later version of this program.
    """
    try:
        _whole_facts(path)
        return read_learnt(path)
    except Damaged as error:
        raise UserError(f"{path}: {error}; a whole checkpoint is needed") from error


def _whole_facts(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself, if it is whole.

    Raises:
      Damaged: it is not.
      UserError: it is of a later version.
    """
    verify(path)
    facts = read_facts(path)
    check_format(facts.get("format"), FORMAT, path)
    check_facts(facts)
    return facts


def _is_round(path: Path) -> bool:
    return bool(_ROUND.fullmatch(path.name)) and path.is_dir()


def _belongs_to_another(name: str) -> bool:
    """Whether the process that writes a temporary folder, by its number, lives and is not us."""
    match = _TEMPORARY.fullmatch(name)
    if match is None or int(match[1]) == os.getpid():
        return False
    try:
        os.kill(int(match[1]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
