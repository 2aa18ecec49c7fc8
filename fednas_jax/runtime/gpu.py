"""The NVIDIA GPUs of a machine, the CUDA release for their driver, and why JAX does not use them.

This file needs only Python itself: `scripts/setup.sh` runs it before anything is installed.

    python fednas_jax/runtime/gpu.py [12 | 13]

prints the CUDA release to install (12 or 13); or the reason why none is usable, with exit code 2.
"""

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

_WSL = "/usr/lib/wsl/lib/nvidia-smi"
_QUERY_SECONDS = 30
_PLATFORMS = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME")
_ROOT = Path(__file__).resolve().parents[2]
_HIDING = ("", "-1", "none", "NoDevFiles", "void")


class Gpus(NamedTuple):
    """The NVIDIA GPUs of a machine.

    Attributes:
      names: name of each GPU.
      driver: version of NVIDIA's driver, such as "580.65.06"; "" where none is loaded.
      capability: lowest compute capability of the GPUs, such as 9.0; None where unknown.
    """

    names: tuple[str, ...]
    driver: str
    capability: float | None


class Needs(NamedTuple):
    """What JAX needs to run on a CUDA release."""

    driver: tuple[int, ...]
    capability: float


NEEDS = {13: Needs((580,), 7.5), 12: Needs((525, 60, 13), 5.2)}
"""From JAX's installation guide (docs.jax.dev, "pip installation: NVIDIA GPU"); newest first."""


def find(root: Path = Path("/"), query: Callable[[str], str] | None = None) -> Gpus | None:
    """The NVIDIA GPUs of this machine; None where there are none.

    Args:
      root: folder that contains `proc` and `sys`.
      query: returns the output of `nvidia-smi --query-gpu` for given fields, "" where it fails.
    """
    query = query or _query
    found = _from_smi(query("name,driver_version,compute_cap"))
    found = found or _from_smi(query("name,driver_version"))
    return found or _from_driver(root / "proc/driver/nvidia") or _from_bus(root / "sys/bus/pci")


def objection(gpus: Gpus, cuda: int) -> str:
    """Why a CUDA release (12 or 13) does not support these GPUs; "" where it does."""
    needs = NEEDS[cuda]
    if not gpus.driver:
        return (
            f"NVIDIA's driver is not loaded, and CUDA {cuda} needs {_text(needs.driver)} or newer"
        )
    if _numbers(gpus.driver) < needs.driver:
        least = _text(needs.driver)
        return f"CUDA {cuda} needs NVIDIA driver {least} or newer, but {gpus.driver} is installed"
    if gpus.capability is not None and gpus.capability < needs.capability:
        least = f"compute capability {needs.capability} or above"
        return f"CUDA {cuda} needs {least}, {gpus.names[0]} has {gpus.capability}"
    return ""


def newest_cuda(gpus: Gpus) -> int | None:
    """The newest CUDA release that supports these GPUs; None where none does."""
    return next((cuda for cuda in NEEDS if not objection(gpus, cuda)), None)


def why_unused(
    gpus: Gpus, environment: Mapping[str, str], installed: Mapping[str, str], setup: str
) -> str:
    """Why JAX computes on the CPU of a machine with a GPU, and what to do, in one line.

    Args:
      gpus: GPUs of the machine.
      environment: environment variables, such as `os.environ`.
      installed: name -> version, as `packages` returns it.
      setup: the command that installs into this environment, from `setup_command`; "" for pip.
    """
    reason = _obstacle(gpus, environment, installed, setup)
    return f"this machine has a GPU ({gpus.names[0]}), but JAX computes on the CPU: {reason}"


def _obstacle(
    gpus: Gpus, environment: Mapping[str, str], installed: Mapping[str, str], setup: str
) -> str:
    """The reason why JAX does not use the GPUs, and what to do."""
    cuda, asked = newest_cuda(gpus), [v for v in _PLATFORMS if environment.get(v)]
    plugins = {n: f"jax-cuda{n}-plugin" for n in NEEDS if f"jax-cuda{n}-plugin" in installed}
    unfit = [n for n in plugins if objection(gpus, n)]
    if cuda is None:
        return f"{objection(gpus, min(NEEDS))}; {_way_out(gpus)}"
    if asked and not {"cuda", "gpu"} & set(environment[asked[0]].split(",")):
        return f"{asked[0]}={environment[asked[0]]} excludes it; unset {asked[0]}"
    if environment.get("CUDA_VISIBLE_DEVICES", "all") in _HIDING:
        hidden = environment["CUDA_VISIBLE_DEVICES"]
        return f"CUDA_VISIBLE_DEVICES={hidden!r} hides it; unset CUDA_VISIBLE_DEVICES"
    if not plugins:
        return f"JAX is installed without CUDA; {_installation(cuda, installed, setup)}"
    if unfit and cuda in plugins:
        return f"{objection(gpus, unfit[0])}; pip uninstall {plugins[unfit[0]]} removes it"
    if len(unfit) == len(plugins):
        return f"{objection(gpus, unfit[0])}; {_installation(cuda, installed, setup)}"
    if all(installed[name] != installed.get("jaxlib") for name in plugins.values()):
        name = plugins[max(plugins)]
        unlike = f"{name} {installed[name]} does not fit jaxlib {installed.get('jaxlib')}"
        return f"{unlike}; {_installation(max(plugins), installed, setup)}"
    return "CUDA does not start; python -c \"import jax; jax.devices('cuda')\" says why"


def packages() -> dict[str, str]:
    """Name -> version of jaxlib and its CUDA plugins, as far as installed."""
    found = {}
    for name in ("jaxlib", *(f"jax-cuda{cuda}-plugin" for cuda in NEEDS)):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def unused() -> str:
    """`why_unused` for this process, if JAX computes on the CPU although there is a GPU; else
    ""."""
    import jax

    gpus = _find_once() if jax.default_backend() == "cpu" else None
    if gpus is None:
        return ""
    environment = {**os.environ, "JAX_PLATFORMS": jax.config.values.get("jax_platforms") or ""}
    return why_unused(gpus, environment, packages(), setup_command())


def in_use() -> str:
    """Where JAX computes in this process, in one line; on the CPU, why and what to do."""
    import jax

    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"JAX computes on {len(jax.devices())} x {device.device_kind}."
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    cores = len(affinity(0)) if affinity else os.cpu_count()
    said = unused()
    reason = f"{said[0].upper()}{said[1:]}." if said else "This machine has no NVIDIA GPU."
    return f"No GPU is used: JAX computes on the CPU ({cores} cores). {reason}"


def why_not() -> str:
    """Why a requested GPU cannot be used on this machine, and what to do."""
    gpus = _find_once()
    if gpus is None:
        return "no NVIDIA GPU is found"
    return _obstacle(gpus, os.environ, packages(), setup_command())


def setup_command(root: Path = _ROOT, prefix: Path | None = None) -> str:
    """The command of the repository that installs into this environment; "" without a repository.

    Args:
      root: root of the repository, if the package is used from one.
      prefix: prefix of the environment; None for that of this process.
    """
    prefix = prefix or Path(sys.prefix)
    if prefix.parent != root or not (root / "scripts" / "setup.sh").exists():
        return ""
    variable = "" if prefix.name == ".venv" else f"VENV={prefix.name} "
    return f"{variable}bash scripts/setup.sh"


_find_once = functools.cache(find)
"""nvidia-smi takes up to some seconds."""


def _way_out(gpus: Gpus) -> str:
    """What to do where no CUDA release supports the GPUs."""
    needs = NEEDS[min(NEEDS)]
    if not gpus.driver:
        return "load or install it; docker run --gpus all lets a container have it"
    if _numbers(gpus.driver) < needs.driver:
        return "install a newer driver"
    return "JAX no longer supports such GPUs"


def _installation(cuda: int, installed: Mapping[str, str], setup: str) -> str:
    if setup:
        return f"{setup} --cuda={cuda} installs it"
    return f'pip install "jax[cuda{cuda}]=={installed.get("jaxlib", "")}" installs it'


def _query(fields: str) -> str:
    program = shutil.which("nvidia-smi") or (_WSL if Path(_WSL).exists() else None)
    if program is None:
        return ""
    command = [program, f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_QUERY_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _from_smi(printed: str) -> Gpus | None:
    rows = [[cell.strip() for cell in line.split(",")] for line in printed.splitlines()]
    rows = [row for row in rows if len(row) >= 2 and _numbers(row[1])]
    if not rows:
        return None
    capabilities = [float(row[2]) for row in rows if len(row) > 2 and _numbers(row[2])]
    lowest = min(capabilities) if capabilities else None
    return Gpus(tuple(row[0] for row in rows), rows[0][1], lowest)


def _from_driver(folder: Path) -> Gpus | None:
    """The GPUs that the driver lists under /proc, which has no compute capability."""
    try:
        version = re.search(r"\s(\d{3,}\.[\d.]+)\s", (folder / "version").read_text())
        about = [path.read_text() for path in sorted(folder.glob("gpus/*/information"))]
    except OSError:
        return None
    models = [re.search(r"Model:\s*(.+)", text) for text in about]
    names = tuple(model[1].strip() for model in models if model)
    return Gpus(names, version[1], None) if version and names else None


def _from_bus(folder: Path) -> Gpus | None:
    """The GPUs on the PCI bus: display controllers (class 03) of NVIDIA (vendor 10de)."""
    count = 0
    for device in folder.glob("devices/*"):
        try:
            vendor, kind = (device / "vendor").read_text(), (device / "class").read_text()
        except OSError:
            continue
        count += vendor.strip() == "0x10de" and kind.startswith("0x03")
    return Gpus(("NVIDIA",) * count, "", None) if count else None


def _numbers(version: str) -> tuple[int, ...]:
    """(580, 65, 6) for "580.65.06"; () for a text that is not a version."""
    parts = version.split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def main(argv: list[str]) -> int:
    """Prints the CUDA release to install; returns the exit code."""
    gpus = find()
    if argv:
        cuda = int(argv[0]) if argv[0].isdecimal() else 0
        if cuda not in NEEDS:
            return _refuse(f"--cuda={argv[0]}: unknown; 12 or 13 is needed")
        fault = objection(gpus, cuda) if gpus and gpus.driver else ""
        if fault:
            other = newest_cuda(gpus) if gpus else None
            return _refuse(f"--cuda={cuda}: {fault}" + (f"; --cuda={other} works" if other else ""))
        print(cuda)
        return 0
    if gpus is None:
        right = "run this on the machine that has one, or name its CUDA, as in --cuda=13"
        return _refuse(f"--cuda: no NVIDIA GPU is found; {right}")
    newest = newest_cuda(gpus)
    if newest is None:
        return _refuse(f"--cuda: {objection(gpus, min(NEEDS))}; {_way_out(gpus)}")
    print(newest)
    return 0


def _refuse(line: str) -> int:
    print(line, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
