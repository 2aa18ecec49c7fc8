"""Checkpoints: the complete state of a run after a round, written whole or not at all.

`<folder>/000012/` is the checkpoint of round 12:

    state/            the arrays, by Orbax, each under its path in the state
    checkpoint.json   format, round, best round so far, the arrays' shapes and dtypes, and
                      JSON that the caller adds
    model.json        the model that the arrays belong to (`model_file.py`), for predictions
    examples.npz      digests of the examples that it has learnt from (`data/learnt.py`)
    checksums.json    SHA-256 of every other file

The metrics of a run so far are beside the checkpoints in rows.jsonl (`report/ledger.py`).

A checkpoint is written under a temporary name and renamed when all of it is on the disk. It is
read only if all checksums are correct. It contains no pickles and does not depend on the devices of
the run, so that any other machine can resume the run.
"""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

from fednas_jax.checkpoints.checkpoint_folder import (
    CHECKSUMS_FILE,
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
from fednas_jax.runtime.errors import UserError, one_line, warn
from fednas_jax.runtime.files import check_format, reason

FORMAT = 2
"""Raised when older code cannot read what is written. In format 1, `extra` held a run's rows."""

_ROUND = re.compile(r"\d{6,}")
_TEMPORARY = re.compile(r"\.tmp-.*-(\d+)")


class Restored(NamedTuple):
    """The content of a checkpoint."""

    round: int
    state: Any  # a tree like the abstract state, with arrays on the default device
    extra: Any  # the JSON passed to `save`


class Saved(NamedTuple):
    """The model in a checkpoint, of any algorithm."""

    path: Path
    round: int
    model: Any
    """The JSON passed to `save`, not checked."""
    variables: dict[str, Any]
    """The variables: collection -> nested dicts of NumPy arrays."""
    learnt: Learnt | None
    """The record of the examples it has learnt from; None in checkpoints of earlier versions."""


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
        """Opens a folder of checkpoints, and removes incomplete ones of killed processes.

        Args:
          folder: the folder, created by the first `save`.
          keep: number of latest checkpoints to keep, besides the best one as of each of these.
          say: called with warnings, one line each; None prints them on stderr.
          reading: whether to remove nothing, for a folder of a run that may be in progress.
        """
        self.folder = Path(folder)
        self._keep = keep
        self._say = say or warn
        for path in self.folder.glob(".tmp-*"):
            if not reading and not _belongs_to_another(path.name):
                shutil.rmtree(path, ignore_errors=True)

    def rounds(self) -> list[int]:
        """The rounds that have a checkpoint, ascending; damaged checkpoints are included."""
        return sorted(int(path.name) for path in self.folder.glob("*") if _is_round(path))

    def best_round(self) -> int | None:
        """The best round according to the newest readable checkpoint; None if there is none."""
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
        """Writes the checkpoint of a round, then removes those that need not be kept.

        Checkpoints of later rounds are removed too: they were written before the run fell back to
        an earlier checkpoint, and the run must not resume from them.

        Args:
          round: number of the round, counted from 0 or 1 by the caller.
          state: a tree of arrays, numbers and typed keys.
          extra: any value that JSON can hold.
          is_best: whether this round is the best so far; the first saved round always is.
          model: JSON that describes the model of the state, for `read_saved`.
          examples: the record of examples, from `learnt.to_bytes`.

        Raises:
          UserError: it cannot be written; earlier checkpoints are unchanged.
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
        """Reads the newest intact checkpoint; skips damaged ones with a warning.

        Args:
          abstract_state: a tree with the shapes and dtypes of the state, such as an initial state,
            or the result of `jax.eval_shape` for its `init`.
          complete: returns the `extra` for what was read, using files beside the checkpoint; None
            if these are damaged.

        Returns:
          The checkpoint; None where there is none at all.

        Raises:
          UserError: there are checkpoints, but none is intact; or the newest intact one is of
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
                self._say(f"{self._path(number)}: {error}; it is skipped")
        if numbers:
            raise UserError(
                f"{self.folder}: all {len(numbers)} checkpoints are damaged; "
                "another workdir, or a copy of the intact files, is needed"
            )
        return None

    def restore(self, which: int | str, abstract_state: Any) -> Restored:
        """Reads one checkpoint.

        Args:
          which: number of a round, or "best".
          abstract_state: as in `restore_latest`.

        Raises:
          UserError: the checkpoint is missing, damaged, or of another architecture.
        """
        number = self.best_round() if which == "best" else which
        if not isinstance(number, int) or number not in self.rounds():
            kept = ", ".join(map(str, self.rounds())) or "none"
            raise UserError(f"{self.folder}: no checkpoint of round {which}; there are: {kept}")
        try:
            return self._read(number, abstract_state)
        except Damaged as error:
            raise UserError(f"{self._path(number)}: {error}; another round is needed") from error

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
        if final.exists():  # only after the run fell back from a damaged checkpoint
            self._discard(final)
        temporary.rename(final)
        sync(self.folder)

    def _prune(self, newest: int) -> None:
        latest = [number for number in self.rounds() if number <= newest][-self._keep :]
        wanted = set(latest)
        for number in latest:
            # Any kept checkpoint may become the newest, if later ones are damaged.
            with contextlib.suppress(Damaged):
                wanted.add(read_facts(self._path(number))["best_round"])
        for number in set(self.rounds()) - wanted:
            try:
                self._discard(self._path(number))
            except OSError as error:
                self._say(f"{self._path(number)}: cannot be removed ({error.strerror})")

    def _discard(self, path: Path) -> None:
        # Renamed first, so that killing the process does not leave a damaged checkpoint.
        doomed = path.with_name(f".tmp-old-{path.name}-{os.getpid()}")
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def _unwritable(self, number: int, why: str) -> UserError:
        kept = self.rounds()
        whole = f"that of round {kept[-1]} is intact" if kept else "there is no earlier one"
        return UserError(
            f"{self.folder}: the checkpoint of round {number} cannot be written ({why}; "
            f"{whole}); a writable folder with enough space is needed"
        )


def locate(folder: Path, which: int | str = "best") -> Path:
    """Finds the folder of one checkpoint, which may be damaged.

    Args:
      folder: a checkpoint, a folder of checkpoints, or the workdir of a run.
      which: number of a round, or "best"; not used where `folder` is a checkpoint.

    Raises:
      UserError: there is no such folder or round, or the folder contains no checkpoint.
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
        raise UserError(f"{folder}: all its checkpoints are damaged; an intact one is needed")
    if number not in rounds:
        kept = ", ".join(map(str, rounds))
        its_best = ", its best" if which == "best" else ""
        raise UserError(f"{folder}: no checkpoint of round {number}{its_best}; there are: {kept}")
    return checkpoints.folder / f"{number:06d}"


def read_saved(path: Path, collections: Collection[str]) -> Saved:
    """Reads the model in a checkpoint, without its algorithm.

    Args:
      path: path of the checkpoint.
      collections: the parts of the state to read, if present.

    Raises:
      UserError: the checkpoint is damaged, of a later version of this program, or has no model.
    """
    try:
        facts = _whole_facts(path)
        model, learnt = read_model(path), read_learnt(path)
        wanted = [leaf for leaf in facts["leaves"] if leaf["path"].split("/")[0] in collections]
        return Saved(path, facts["round"], model, read_part(path / "state", wanted), learnt)
    except Damaged as error:
        raise UserError(f"{path}: {error}; a whole checkpoint is needed") from error


def learnt_of(path: Path) -> Learnt | None:
    """The record of the examples that a checkpoint's model has learnt from; None without a record.

    Args:
      path: path of the checkpoint.

    Raises:
      UserError: the checkpoint is damaged, or of a later version of this program.
    """
    try:
        _whole_facts(path)
        return read_learnt(path)
    except Damaged as error:
        raise UserError(f"{path}: {error}; a whole checkpoint is needed") from error


def digest(path: Path) -> str:
    """The SHA-256 of a checkpoint, from the checksums of its files.

    Args:
      path: path of the checkpoint.

    Raises:
      UserError: the checkpoint is damaged, or of a later version of this program.
    """
    try:
        _whole_facts(path)
        return hashlib.sha256((path / CHECKSUMS_FILE).read_bytes()).hexdigest()
    except (Damaged, OSError) as error:
        raise UserError(f"{path}: {one_line(error)}; a whole checkpoint is needed") from error


def _whole_facts(path: Path) -> dict[str, Any]:
    """The content of checkpoint.json, after checking the checksums of all files.

    Raises:
      Damaged: the checkpoint is damaged.
      UserError: it is of a later version of this program.
    """
    verify(path)
    facts = read_facts(path)
    check_format(facts.get("format"), FORMAT, path)
    check_facts(facts)
    return facts


def _is_round(path: Path) -> bool:
    return bool(_ROUND.fullmatch(path.name)) and path.is_dir()


def _belongs_to_another(name: str) -> bool:
    """Whether another process, which is still running, writes a temporary folder."""
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
