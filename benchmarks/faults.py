"""Faults that a run survives: each is really caused, and tries and survivals are counted.

    python -m benchmarks.faults [--quick] [--only FAULT,...] [--repeats N] [--seed N] [--json FILE]

A small run of ten rounds is a separate process. It is disturbed and then resumed by the same
command. It has survived if its last state, its metrics and its summary are, bit by bit, those of an
undisturbed run, and if it has printed the expected line without a traceback. A full disk is a small
tmpfs, which needs root on Linux; without root, its rows are left out.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import fault_runs, harness
from benchmarks.fault_runs import Process, Result, finish
from benchmarks.harness import Row
from fednas_jax.checkpoints.checkpoint import Checkpoints
from fednas_jax.runtime.errors import UserError

KILLS = 20
DISK_BYTES = 8_000_000
"""Size of the tmpfs, for three checkpoints of 2 MB and all other files."""


class Ground(NamedTuple):
    """The folder, and the undisturbed run, that all cases use."""

    folder: Path
    wanted: Result
    """Results of the undisturbed run."""
    rng: np.random.RandomState
    repeats: int

    def new(self, name: str) -> Path:
        """The path of a new workdir."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder)) / "run"

    def whole(self, workdir: Path) -> bool:
        """Whether a finished run has the same results as the undisturbed one."""
        return fault_runs.result(workdir) == self.wanted


class Tally:
    """The tries of a fault, and how many were survived."""

    def __init__(self, fault: str) -> None:
        """Nothing is tried yet."""
        self.fault, self.tried, self.survived = fault, 0, 0

    def add(self, good: bool, said: str = "") -> None:
        """Counts a try; if it was not survived, prints the output `said`."""
        good = good and "Traceback" not in said
        self.tried += 1
        self.survived += good
        if not good:
            print(f"{self.fault}: not survived: {said.strip()[-2000:]}", file=sys.stderr)

    def row(self) -> Row:
        """The number of survivals, with the number of tries."""
        bar = harness.at_least(self.tried)
        return Row(f"{self.fault}: survived", self.survived, f"of {self.tried}", bar)


# --- Signals ---


def killed(ground: Ground) -> Iterator[Tally]:
    """SIGKILL at random moments, from the first import to the last round."""
    tally = Tally("SIGKILL at a random moment of ten rounds")
    count = ground.repeats or KILLS
    kills = 0
    while kills < count:
        workdir, here = ground.new("killed"), 0
        while True:
            process = Process(workdir)
            struck = kills < count and _disturb(process, ground.rng, signal.SIGKILL)
            process.end()
            if not struck:
                break
            kills, here = kills + 1, here + 1
        good = ground.whole(workdir)
        for _ in range(here):
            tally.add(good, process.said)
    yield tally


def interrupted(ground: Ground) -> Iterator[Tally]:
    """SIGTERM and Ctrl-C in rounds without a checkpoint: the last whole round is kept."""
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        tally = Tally(f"{number.name} in a round, exit code {code}")
        for _ in range(ground.repeats or 5):
            workdir, fields = ground.new("interrupted"), {"checkpoint_every": "100"}
            process = Process(workdir, fields)
            last = ground.rng.randint(1, fault_runs.ROUNDS - 1)
            process.wait_for(f"round {last:>2}/")
            time.sleep(ground.rng.random_sample() * 0.5)
            process.process.send_signal(number)
            right = process.end() == code
            rounds = Checkpoints(workdir / "checkpoints", reading=True).rounds()
            right &= bool(rounds) and rounds[-1] >= last and fault_runs.agree(workdir)
            after = finish(workdir, fields)
            right &= f"resuming after round {rounds[-1] if rounds else 0}" in after.said
            tally.add(right and ground.whole(workdir), process.said + after.said)
        yield tally


def _disturb(process: Process, rng: np.random.RandomState, number: int) -> bool:
    """Sends a signal at a random moment; false if the run ends before it."""
    if rng.random_sample() < 0.3:  # while it starts
        time.sleep(rng.random_sample() * 6)
    elif not process.wait_for("round"):
        return False
    else:
        time.sleep(rng.random_sample() * 1.2)
    if process.process.poll() is not None:
        return False
    process.process.send_signal(number)
    return True


# --- Disks ---


@contextlib.contextmanager
def _small_disk(ground: Ground) -> Iterator[Path | None]:
    """A folder on a new tmpfs; None where none can be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="disk-", dir=ground.folder))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def full_disk(ground: Ground) -> Iterator[Tally]:
    """The disk fills up at a random place: files stay intact; with free space, the run resumes."""
    tally = Tally("disk full while a run writes")
    for _ in range(ground.repeats or 8):
        with _small_disk(ground) as disk:
            if disk is None:
                print("Without the full disk: no tmpfs can be mounted here.\n")
                return
            workdir = disk / "run"
            process = Process(workdir)
            process.wait_for(f"round {ground.rng.randint(1, 6):>2}/")
            room = ground.rng.randint(0, 1_200_000)
            used = shutil.disk_usage(disk)
            (disk / "ballast").write_bytes(bytes(max(0, used.free - room)))
            code = process.end()
            before = fault_runs.state(workdir)
            right = code == 2 and bool(before) and "free" in process.said.splitlines()[-1]
            (disk / "ballast").unlink()
            after = finish(workdir)
            tally.add(right and ground.whole(workdir), process.said + after.said)
    yield tally


def damaged(ground: Ground) -> Iterator[Tally]:
    """Each file of the newest checkpoint is truncated, has a flipped byte, or is missing."""
    base = ground.new("base")
    process = Process(base)
    process.wait_for("round  5/")
    process.process.send_signal(signal.SIGTERM)
    process.end()
    newest = Checkpoints(base / "checkpoints", reading=True).rounds()[-1]
    files = [p for p in (base / f"checkpoints/{newest:06d}").rglob("*") if p.is_file()]
    for fault, damage in DAMAGES.items():
        tally = Tally(f"checkpoint with a file {fault}")
        chosen = ground.rng.permutation(len(files))[: ground.repeats or 6]
        for path in (files[number] for number in chosen):
            workdir = ground.new("damaged")
            shutil.copytree(base, workdir)
            damage(workdir / path.relative_to(base), ground.rng)
            after = finish(workdir)
            right = "it is skipped" in after.said
            right &= f"resuming after round {newest - 1}" in after.said
            tally.add(right and ground.whole(workdir), f"{path.name}: {after.said}")
        yield tally


def _cut_short(path: Path, rng: np.random.RandomState) -> None:
    os.truncate(path, rng.randint(0, path.stat().st_size))


def _flip(path: Path, rng: np.random.RandomState) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randint(len(content))] ^= 1 << rng.randint(8)
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path, np.random.RandomState], Any]] = {
    "cut short": _cut_short,
    "with a flipped bit": _flip,
    "missing": lambda path, rng: path.unlink(),
}


# --- Others ---


def two_processes(ground: Ground) -> Iterator[Tally]:
    """A second process on the workdir refuses, and the first does not notice."""
    tally = Tally("second process on one workdir")
    for _ in range(ground.repeats or 2):
        workdir = ground.new("two")
        first = Process(workdir)
        first.wait_for("round")
        os.kill(first.process.pid, signal.SIGSTOP)  # it must not end before the second starts
        second = finish(workdir)
        os.kill(first.process.pid, signal.SIGCONT)
        right = second.process.returncode == 2 and "another process is running" in second.said
        right &= first.end() == 0
        tally.add(right and ground.whole(workdir), second.said + first.said)
    yield tally


CLOCK = """
import datetime, runpy, sys, time
real, offsets, calls = time.time, {offsets}, [0]
def jumping():
    calls[0] += 1
    return real() + offsets[calls[0] % len(offsets)]
time.time = jumping
time.time_ns = lambda: int(jumping() * 1e9)
class Jumping(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(jumping(), tz)
datetime.datetime = Jumping
sys.argv = ["fednas_jax.main"] + sys.argv[1:]
runpy.run_module("fednas_jax.main", run_name="__main__")
"""


def clock(ground: Ground) -> Iterator[Tally]:
    """A clock that jumps by years at every look, and files from the past and from the future."""
    tally = Tally("clock that jumps, files of other times")
    for _ in range(ground.repeats or 2):
        workdir = ground.new("clock")
        offsets = ground.rng.randint(-(10**9), 10**9, 7).tolist()
        arguments = fault_runs.command(workdir)[3:]
        with_jumps = [sys.executable, "-c", CLOCK.format(offsets=offsets), *arguments]
        start = f"round {ground.rng.randint(2, 6):>2}/"
        options: dict[str, Any] = {"cwd": fault_runs.ROOT, "text": True, "stdout": subprocess.PIPE}
        options["stderr"] = subprocess.STDOUT
        with subprocess.Popen(with_jumps, **options) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(start):
                    process.kill()
        for path in (workdir, *workdir.rglob("*")):
            moment = time.time() + offsets[ground.rng.randint(7)]
            os.utime(path, (moment, moment))
        last = subprocess.run(with_jumps, check=False, **options)
        tally.add(last.returncode == 0 and ground.whole(workdir), last.stdout)
    yield tally


CASES: dict[str, Callable[[Ground], Iterator[Tally]]] = {
    "killed": killed,
    "interrupted": interrupted,
    "full_disk": full_disk,
    "damaged": damaged,
    "two_processes": two_processes,
    "clock": clock,
}


def main() -> None:
    """Causes every fault; with --quick, each twice."""
    parser = harness.parser(__doc__)
    parser.add_argument("--only", default="", help=f"some of {', '.join(CASES)}, commas between")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and places")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",") if arguments.only else list(CASES)
    if unknown := [name for name in chosen if name not in CASES]:
        raise UserError(f"--only: {unknown[0]!r}; some of {', '.join(CASES)} are needed")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Path(folder) / "undisturbed"
        process = finish(undisturbed)
        if process.process.returncode:
            raise UserError(f"the undisturbed run failed: {process.said.strip()[-500:]}")
        repeats = arguments.repeats or (2 if arguments.quick else 0)
        rng = np.random.RandomState(arguments.seed)
        ground = Ground(Path(folder), fault_runs.result(undisturbed), rng, repeats)
        for name in chosen:
            for tally in CASES[name](ground):
                rows.append(tally.row())
                print(harness.table(rows[-1:]).splitlines()[-1], flush=True)
    harness.publish("faults", rows, arguments)


if __name__ == "__main__":
    harness.start(main)
