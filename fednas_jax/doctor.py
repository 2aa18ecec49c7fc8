"""Reports what fednas_jax finds on this machine, and what to do about what is missing.

    fednas-jax doctor

Prints one line for each finding: `ok`, `--` (missing, but not needed by every run) or `!!` (does
not work). Exit codes: 0 no line has `!!`, 1 some line has.
"""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from fednas_jax.data import published
from fednas_jax.runtime import console, environment, extras, gpu, releases, start
from fednas_jax.runtime.command_line import HELP_FLAGS
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.version import __version__

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_DATA_SETS = ("cifar10", "cifar100", "mnist", "fashion_mnist")
_OWN_SETUP = gpu.setup_command()
_SETUP = f"{_OWN_SETUP} --mpi" if _OWN_SETUP else "bash scripts/setup.sh --mpi in a clone"
_ROUND_TRIP_SECONDS = 120
_GIB = 2**30

OK, ABSENT, BROKEN = "ok", "--", "!!"


class Finding(NamedTuple):
    """One line of the report."""

    mark: str
    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.mark}  {self.about:<12} {self.text}"


def versions() -> Iterator[Finding]:
    """The versions of Python, of this package and of its dependencies."""
    right = (3, 11) <= sys.version_info[:2] <= (3, 13)
    needed = "" if right else "; 3.11, 3.12 or 3.13 is needed: bash scripts/setup.sh"
    yield Finding(OK if right else BROKEN, "Python", platform.python_version() + needed)
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            yield Finding(BROKEN, name, "not installed; bash scripts/setup.sh installs it")
    yield Finding(OK, "fednas_jax", f"{__version__} with {', '.join(found)}")
    fault = releases.objection(releases.installed())
    if fault:
        yield Finding(BROKEN, "jaxlib", fault)
    elif releases.installed():
        yield Finding(OK, "jaxlib", f"{releases.installed()} is not known to miscompile")


def devices() -> Iterator[Finding]:
    """The devices that JAX uses, and their memory."""
    try:
        start.import_jax()
        import jax

        from fednas_jax.runtime import settings

        settings.check_devices()
        all_devices = jax.local_devices()
    except UserError as error:
        yield Finding(BROKEN, "devices", str(error))
        return
    for device in all_devices:
        limit = (device.memory_stats() or {}).get("bytes_limit")
        memory = f", {limit / _GIB:.1f} GiB" if limit else ""
        yield Finding(OK, "device", f"{device.platform}: {device.device_kind}{memory}")
    unused = gpu.unused()
    if unused:
        yield Finding(ABSENT, "GPU", unused)


def machine() -> Iterator[Finding]:
    """Cores, memory, and free space on the disk."""
    memory, cores = psutil.virtual_memory(), len(os.sched_getaffinity(0))
    free = shutil.disk_usage(".").free
    yield Finding(OK, "machine", f"{platform.machine()}, {cores} cores to use")
    text = f"{memory.available / _GIB:.1f} of {memory.total / _GIB:.1f} GiB free"
    enough = memory.available > 2 * _GIB
    more = "" if enough else "; the quick start needs 1.5 GiB"
    yield Finding(OK if enough else ABSENT, "memory", text + more)
    yield Finding(OK, "disk", f"{free / _GIB:.1f} GiB free in {Path.cwd()}")


def mpi() -> Iterator[Finding]:
    """Whether several ranks can share a run, tested by two ranks that add up an array."""
    launcher = mpirun()
    if launcher is None:
        text = f"no mpirun; for runs on several devices or machines: {_SETUP}"
        yield Finding(ABSENT, "MPI", text)
        return
    said = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=False)
    yield Finding(OK, "MPI", f"{(said.stdout.splitlines() or ['?'])[0]}: {launcher}")
    for name in ("mpi4py", "mpi4jax"):
        try:
            yield Finding(OK, name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(ABSENT, name, f"not installed; {_SETUP} installs it")
            return
    yield round_trip(launcher)


def mpirun() -> str | None:
    """The path of mpirun: that of this Python's environment, else the first on the PATH."""
    beside = Path(sys.executable).with_name("mpirun")
    return str(beside) if beside.exists() else shutil.which("mpirun")


def round_trip(launcher: str) -> Finding:
    """Runs two ranks on this machine, which add up an array in a compiled program."""
    command = [launcher, "-n", "2", sys.executable, "-m", "fednas_jax.doctor", "--rank"]
    version = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=False)
    if "Open MPI" in version.stdout:
        command[1:1] = ["--oversubscribe", "--bind-to", "none"]
        command[1:1] = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    root = str(Path(__file__).resolve().parents[1])
    paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False,
            timeout=_ROUND_TRIP_SECONDS,
            env={**os.environ, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        text = f"no answer after {_ROUND_TRIP_SECONDS} s; is a firewall on the loopback device?"
        return Finding(BROKEN, "two ranks", text)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip(" -")] or ["no message"]
        cure = f"{_SETUP} installs compatible versions"
        if "home directory" in lines[0]:
            cure = "set HOME=FOLDER, which mpirun needs"
        return Finding(BROKEN, "two ranks", f"{lines[0]}; {cure}")
    return Finding(OK, "two ranks", done.stdout.strip())


def rank() -> None:
    """The program of each of the two ranks."""
    import time

    import jax
    import jax.numpy as jnp

    from fednas_jax.federated.ranks import communicator as communicators
    from fednas_jax.federated.ranks import launch

    own = launch.start()
    with communicators.one_for_all(own):
        add_up, mine = jax.jit(own.total), jnp.full(2**20, own.rank + 1.0)
        add_up(mine).block_until_ready()
        own.barrier(60)
        start = time.monotonic()
        total = add_up(mine).block_until_ready()
        seconds = time.monotonic() - start
        if own.size != 2 or not (total == 3).all():
            raise RuntimeError(f"{own.size} ranks have the sum {total[0]}; 2 ranks should have 3")
        if own.rank == 0:
            print(f"4 MiB added up in {1000 * seconds:.1f} ms")


def data() -> Iterator[Finding]:
    """The data sets on this machine."""
    yield Finding(OK, "digits", "part of scikit-learn")
    data_dir = os.environ.get("TFDS_DATA_DIR")
    try:
        folder = published.data_folder()
    except UserError as error:
        yield Finding(ABSENT, "data", str(error))
        return
    for name in _DATA_SETS:
        if (folder / name).is_dir():
            yield Finding(OK, name, f"in {folder / name}")
        else:
            where = (
                "TFDS_DATA_DIR" if data_dir else "TFDS_DATA_DIR, which is not set, or the default"
            )
            text = f"not in {folder} ({where}); the first run that needs it downloads it"
            yield Finding(ABSENT, name, text)


def groups() -> Iterator[Finding]:
    """The features that are left out because optional packages are missing."""
    what = "pictures, pages, TensorBoard"
    features = [name for name, feature in extras.FEATURES.items() if feature.group == "report"]
    if absent := extras.missing(*features):
        text = f"without {', '.join(absent)}; {extras.command(*features)} installs them"
        yield Finding(ABSENT, "report", f"{what}: {text}")
    else:
        yield Finding(OK, "report", f"{what}: all packages are installed")


def settings() -> Iterator[Finding]:
    """The environment variables that the command line would set before JAX starts."""
    for name, value in environment.missing(os.environ).items():
        yield Finding(OK, "environment", f"the command line sets {name}={value} for runs")


_PARTS: tuple[Callable[[], Iterator[Finding]], ...] = (
    versions, groups, machine, devices, settings, data, mpi,
)  # fmt: skip


@console.tolerant()
def main(argv: Sequence[str], program: str = "python -m fednas_jax.doctor") -> int:
    """Prints the report.

    Args:
      argv: the arguments, without the program's name.
      program: name of this command in its help.

    Returns:
      The exit code: 0 no finding is `!!`, 1 some finding is, 2 bad input.
    """
    if any(argument in HELP_FLAGS for argument in argv):
        print((__doc__ or "").replace("fednas-jax doctor", program))
        return 0
    if list(argv) == ["--rank"]:
        start.import_jax_or_exit()
        rank()
        return 0
    if argv:
        print(f"fednas_jax: error: {argv[0]}: not a flag; none is needed", file=sys.stderr)
        return 2
    broken = False
    for part in _PARTS:
        for finding in part():
            print(finding, flush=True)
            broken = broken or finding.mark == BROKEN
    return int(broken)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
