"""Shared by all benchmarks: interleaved timing, rows with bars, and peers in other interpreters.

Figures that are compared are measured in the same run: the candidates take turns, and their medians
are compared. A peer that needs other packages runs in a process of another interpreter, which
answers each line of JSON with a line of JSON.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import write_json

RESULTS = Path(__file__).resolve().parent / "results"
PEERS = Path(__file__).resolve().parent / "peers"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
"""Packages whose versions are in a result, if they are installed."""

SETTLE_SECONDS = 0.5
"""Pause between two candidates. Without it, threads of one that still wait for work, and memory
that it frees, would slow down the next."""


class Bar(NamedTuple):
    """A limit that a value must meet."""

    limit: float
    at_most: bool

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.limit:g}"


def at_most(limit: float) -> Bar:
    """A bar for a value that should be small."""
    return Bar(limit, True)


def at_least(limit: float) -> Bar:
    """A bar for a value that should be large."""
    return Bar(limit, False)


class Row(NamedTuple):
    """One figure of a benchmark."""

    name: str
    value: float
    unit: str
    bar: Bar | None = None

    @property
    def met(self) -> bool | None:
        """Whether the value reaches its bar; None without one."""
        if self.bar is None:
            return None
        return bool(
            self.value <= self.bar.limit if self.bar.at_most else self.value >= self.bar.limit
        )


def parser(doc: str | None, peers: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The arguments that all benchmarks have.

    Args:
      doc: docstring of the benchmark's module, whose first line is shown.
      peers: names of the environments that it can use; each adds a flag --NAME-python.
    """
    result = argparse.ArgumentParser(description=(doc or "").split("\n")[0])
    result.add_argument("--quick", action="store_true", help="only what takes a minute or two")
    result.add_argument("--json", type=Path, help="write the rows to this file too")
    result.add_argument("--repeats", type=int, default=0, help="of each candidate; 0: as fits")
    for name in peers:
        result.add_argument(
            f"--{name}-python",
            default="",
            help=f"interpreter that has {name}; 'none' does without (default: ${_variable(name)}, "
            f"or that of {_default_python(name)})",
        )
    return result


def start(main: Callable[[], object]) -> None:
    """Runs a benchmark's `main`; a user's error becomes one line and exit status 2."""
    try:
        main()
    except UserError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        sys.exit(2)


def interleaved(
    candidates: Mapping[str, Callable[[], object]], repeats: int
) -> dict[str, list[float]]:
    """Times candidates in turns, so that other load on the machine affects all of them.

    Args:
      candidates: functions to call; a returned float is used as the time in seconds.
      repeats: number of timed calls of each, after one call that is not timed.

    Returns:
      Name -> seconds of each repeat.
    """
    for candidate in candidates.values():
        candidate()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, candidate in candidates.items():
            time.sleep(SETTLE_SECONDS)
            begin = time.perf_counter()
            own = candidate()
            elapsed = time.perf_counter() - begin
            seconds[name].append(own if isinstance(own, float) else elapsed)
    return seconds


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two in the middle."""
    return float(statistics.median(values))


# Peers ------------------------------------------------------------------------------------------


def _variable(name: str) -> str:
    return f"FEDNAS_{name.upper()}_PYTHON"


def _default_python(name: str) -> Path:
    return PEERS / f".venv-{name}" / "bin" / "python"


def find_python(arguments: argparse.Namespace, name: str) -> Path | None:
    """The interpreter of an environment that was passed to `parser`.

    Returns:
      Its path; None, after a line that says so, where there is none or the user gave 'none'.

    Raises:
      UserError: the user named an interpreter that does not exist.
    """
    flag = f"--{name}-python"
    given = getattr(arguments, f"{name}_python") or os.environ.get(_variable(name), "")
    if given == "none":
        print(f"Without {name}: {flag} none.\n")
        return None
    path = Path(given).expanduser() if given else _default_python(name)
    if path.is_file():
        return path
    if given:
        raise UserError(f"{flag}: {path} does not exist; an interpreter with {name} is needed")
    print(
        f"Without {name}, and so without the rows that compare with it: there is no "
        f"benchmarks/peers/.venv-{name}. benchmarks/peers/setup.sh {name} makes it; {flag} names "
        "another interpreter.\n"
    )
    return None


class Peer:
    """A process of another interpreter that answers requests; a context manager.

    Args:
      python: the interpreter.
      module: the module that it runs, as `python -m`. It prints a line {"ready": true, ...} when it
        is ready, then a line of JSON for each line of JSON that it reads, and ends with its input.
      arguments: arguments of the module.
      launcher: command that starts the interpreter, such as mpirun with its options; may be empty.

    Attributes:
      facts: the other values in its first line.

    Raises:
      UserError: the process cannot start or does not answer.
    """

    def __init__(
        self,
        python: Path | str,
        module: str,
        arguments: Sequence[str] = (),
        launcher: Sequence[str] = (),
    ):
        self._module = module
        try:
            self._process = subprocess.Popen(
                [*launcher, str(python), "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).resolve().parent.parent,
            )
        except OSError as error:
            raise UserError(f"{python}: does not run ({error.strerror})") from error
        try:
            self.facts = self._answer()
        except UserError:
            self.close()
            raise

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a request and waits for its answer.

        Raises:
          UserError: the process has ended, or has answered {"error": ...}.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # no answer will come either: that says why
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                break
        else:
            status = self._process.wait()
            raise UserError(f"{self._module}: ended with status {status}; its output says why")
        if "error" in answer:
            raise UserError(f"{self._module}: {answer['error']}")
        return answer

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process, which has half a minute to end by itself."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


# Results ----------------------------------------------------------------------------------------


def publish(
    benchmark: str,
    rows: Sequence[Row],
    arguments: argparse.Namespace,
    versions: Mapping[str, str] | None = None,
) -> None:
    """Prints the rows as a Markdown table, and writes them to the file of --json.

    Args:
      benchmark: name of the benchmark's module, such as "local_step".
      rows: the figures.
      arguments: arguments from `parser`.
      versions: versions of packages in the environments of peers.

    Raises:
      UserError: the file cannot be written.
    """
    head = _head(benchmark, versions or {})
    print(f"{head['device']}, {head['cores']} cores, {head['date']}\n")
    print(table(rows), flush=True)
    if arguments.json is None:
        return
    listed = [
        {
            "name": row.name,
            "value": float(row.value),
            "unit": row.unit,
            "bar": None if row.bar is None else str(row.bar),
            "met": row.met,
        }
        for row in rows
    ]
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.json, {**head, "rows": listed})


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| what | value | unit | bar | met |", "| --- | --- | --- | --- | --- |"]
    said = {None: "", True: "yes", False: "**no**"}
    for row in rows:
        bar = "" if row.bar is None else str(row.bar)
        lines.append(f"| {row.name} | {row.value:.4g} | {row.unit} | {bar} | {said[row.met]} |")
    return "\n".join(lines)


def _head(benchmark: str, versions: Mapping[str, str]) -> dict[str, Any]:
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    command = " ".join(["python -m", f"benchmarks.{benchmark}", *_without_places(sys.argv[1:])])
    return {
        "benchmark": benchmark,
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "versions": {**installed, **versions},
    }


def _without_places(argv: Sequence[str]) -> list[str]:
    """The arguments without the paths of interpreters and of the result, which are
    machine-specific."""
    kept, skip = [], False
    for argument in argv:
        if skip:
            skip = False
        elif re.fullmatch(r"--(\w+-python|json)", argument):
            skip = True
        elif not re.match(r"--(\w+-python|json)=", argument):
            kept.append(argument)
    return kept


def device() -> str:
    """The accelerator that this process's JAX uses, else the model of the processor."""
    jax = sys.modules.get("jax")
    if jax is not None and jax.default_backend() != "cpu":
        return str(jax.devices()[0].device_kind)
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
