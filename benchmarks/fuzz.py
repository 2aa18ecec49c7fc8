"""Fuzzes every reader of a file: damaged or foreign input must be read, or refused in one line.

    python -m benchmarks.fuzz [--quick] [--only TARGET,...] [--repeats N] [--seed N] [--json FILE]

Each target gets 10,000 inputs. An input is survived if the reader returns, or raises a UserError of
one line, and if it writes and removes no file, unpickles nothing and starts no process, according
to Python's audit events. The first input of each target that is not survived is minimised and
shown.
"""

import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis

from benchmarks import harness
from benchmarks.fuzz_targets import Target, check_line, targets
from benchmarks.harness import Row
from fednas_jax.runtime.errors import UserError

INPUTS = 10_000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FORBIDDEN = (
    "os.exec", "os.fork", "os.kill", "os.link", "os.mkdir", "os.posix_spawn", "os.remove",
    "os.rename", "os.rmdir", "os.spawn", "os.symlink", "os.system", "os.truncate",
    "pickle.find_class", "shutil.rmtree", "socket.connect", "subprocess.Popen",
)  # fmt: skip


class Watch:
    """Records forbidden actions of the process, those beyond reading, while it is watched."""

    def __init__(self) -> None:
        """Adds an audit hook, which stays."""
        self._on, self._seen = False, list[str]()
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on:
            return
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
            self._seen.append(f"open for writing: {arguments[0]!r}")
        elif event in _FORBIDDEN:
            self._seen.append(f"{event}{arguments!r}")

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Fails afterwards if anything forbidden was done."""
        self._on = True
        self._seen.clear()
        try:
            yield
        finally:
            self._on = False
        assert not self._seen, f"a reader does more than read: {self._seen[:3]}"


def survives(target: Target, given: Any, folder: Path, watch: Watch) -> None:
    """Tries one input; raises an error if it is not survived."""
    for path in folder.iterdir():
        path.unlink()
    target.put(given, folder)
    try:
        with watch():
            target.read(given, folder)
    except UserError as error:
        check_line(error)


def fuzz(name: str, target: Target, count: int, seed: int, watch: Watch) -> Row:
    """Tries `count` inputs on a target; shows the first that is not survived, and stops there."""
    tried = 0

    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        report_multiple_bugs=False,
    )
    @hypothesis.seed(seed)
    @hypothesis.given(target.inputs)
    def check(given: Any) -> None:
        nonlocal tried
        tried += 1
        survives(target, given, folder, watch)

    with tempfile.TemporaryDirectory() as place:
        folder, survived = Path(place), 0
        try:
            check()
            survived = tried
        except Exception:  # of any type, since any exception is a failure
            traceback.print_exc()
            survived = tried - 1
    share = 100 * survived / max(tried, 1)
    return Row(f"{name}, {tried} inputs: survived", share, "%", harness.at_least(100))


def main() -> None:
    """Fuzzes everything; with --quick 300 inputs each."""
    parser = harness.parser(__doc__)
    parser.add_argument("--only", default="", help="names of targets, commas between")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs")
    arguments = parser.parse_args()
    count = arguments.repeats or (300 if arguments.quick else INPUTS)
    warnings.simplefilter("ignore")
    watch, rows = Watch(), []
    with tempfile.TemporaryDirectory() as folder:
        all_targets = targets(Path(folder))
        chosen = arguments.only.split(",") if arguments.only else list(all_targets)
        for name in chosen:
            if name not in all_targets:
                raise UserError(f"--only: {name!r}; some of {', '.join(all_targets)} are needed")
            rows.append(fuzz(name, all_targets[name], count, arguments.seed, watch))
            print(harness.table(rows[-1:]).splitlines()[-1], flush=True)
    harness.publish("fuzz", rows, arguments)


if __name__ == "__main__":
    harness.start(main)
