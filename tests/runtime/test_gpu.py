"""Which CUDA is installed for which driver, and what is said of a GPU that JAX does not use."""

import os
import types
from collections.abc import Mapping
from pathlib import Path

import pytest

from fednas_jax.runtime import gpu
from fednas_jax.runtime.gpu import Gpus

H100 = Gpus(("NVIDIA H100 80GB HBM3",), "580.65.06", 9.0)
INSTALLED = {"jaxlib": "0.11.2", "jax-cuda13-plugin": "0.11.2"}


def smi(printed: str, fields: str = "name,driver_version,compute_cap"):
    return lambda asked: printed if asked == fields else ""


def test_gpus_are_found_by_nvidia_smi(tmp_path: Path) -> None:
    printed = "NVIDIA H100 80GB HBM3, 580.65.06, 9.0\nTesla V100-SXM2, 580.65.06, 7.0\n"
    found = gpu.find(tmp_path, smi(printed))
    assert found == Gpus(("NVIDIA H100 80GB HBM3", "Tesla V100-SXM2"), "580.65.06", 7.0)


def test_an_old_nvidia_smi_does_not_tell_what_gpus_are_capable_of(tmp_path: Path) -> None:
    found = gpu.find(tmp_path, smi("Tesla T4, 470.57\n", "name,driver_version"))
    assert found == Gpus(("Tesla T4",), "470.57", None)


def test_gpus_are_found_by_the_driver_s_files(tmp_path: Path) -> None:
    folder = tmp_path / "proc/driver/nvidia"
    (folder / "gpus/0000:01:00.0").mkdir(parents=True)
    (folder / "gpus/0000:01:00.0/information").write_text("Model: \t\t NVIDIA L4\nIRQ: 1\n")
    (folder / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.14  Release Build\n"
        "GCC version:  gcc version 12.2.0\n"
    )
    assert gpu.find(tmp_path, lambda fields: "") == Gpus(("NVIDIA L4",), "550.54.14", None)


def test_a_gpu_without_a_driver_is_found_on_the_bus(tmp_path: Path) -> None:
    for name, vendor, kind in (
        ("0", "0x10de", "0x030200"),
        ("1", "0x10de", "0x040300"),  # its audio function
        ("2", "0x8086", "0x030000"),
    ):
        device = tmp_path / "sys/bus/pci/devices" / name
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
    assert gpu.find(tmp_path, lambda fields: "") == Gpus(("NVIDIA",), "", None)


def test_a_machine_without_gpus(tmp_path: Path) -> None:
    assert gpu.find(tmp_path, lambda fields: "") is None
    assert gpu.find(tmp_path, smi("No devices were found\n")) is None


@pytest.mark.parametrize(
    ("driver", "capability", "cuda"),
    [
        ("580.65.06", 9.0, 13),
        ("580.0", 7.5, 13),
        ("590.1", None, 13),
        ("580.65.06", 7.0, 12),  # CUDA 13 has dropped Volta
        ("575.57.08", 9.0, 12),
        ("525.60.13", 5.2, 12),
        ("525.60.12", 9.0, None),
        ("580.65.06", 5.0, None),
        ("", None, None),
    ],
)
def test_the_newest_cuda_that_serves(
    driver: str, capability: float | None, cuda: int | None
) -> None:
    assert gpu.newest_cuda(Gpus(("A",), driver, capability)) == cuda


@pytest.mark.parametrize(
    ("gpus", "environment", "installed", "reason"),
    [
        (H100, {}, {"jaxlib": "0.11.2"}, "JAX is installed without CUDA; {13}"),
        (
            H100._replace(driver="550.54.14"), {}, {"jaxlib": "0.11.2"},
            "JAX is installed without CUDA; {12}",
        ),
        (
            H100._replace(driver="550.54.14"), {}, INSTALLED,
            "CUDA 13 needs NVIDIA driver 580 or newer, but 550.54.14 is installed; {12}",
        ),
        (
            H100._replace(driver="470.57"), {}, INSTALLED,
            "CUDA 12 needs NVIDIA driver 525.60.13 or newer, but 470.57 is installed; install a "
            "newer driver",
        ),
        (
            H100._replace(driver=""), {}, INSTALLED,
            "NVIDIA's driver is not loaded, and CUDA 12 needs 525.60.13 or newer; load or install "
            "it; docker run --gpus all lets a container have it",
        ),
        (
            H100, {}, INSTALLED | {"jaxlib": "0.10.1"},
            "jax-cuda13-plugin 0.11.2 does not fit jaxlib 0.10.1; {13}",
        ),
        (
            H100._replace(driver="550.54.14"), {}, INSTALLED | {"jax-cuda12-plugin": "0.11.2"},
            "CUDA 13 needs NVIDIA driver 580 or newer, but 550.54.14 is installed; pip uninstall "
            "jax-cuda13-plugin removes it",
        ),
        (
            H100._replace(capability=3.7), {}, INSTALLED,
            "CUDA 12 needs compute capability 5.2 or above, NVIDIA H100 80GB HBM3 has 3.7; JAX "
            "no longer supports such GPUs",
        ),
        (
            H100, {"JAX_PLATFORM_NAME": "cpu"}, INSTALLED,
            "JAX_PLATFORM_NAME=cpu excludes it; unset JAX_PLATFORM_NAME",
        ),
        (
            H100, {"JAX_PLATFORMS": "cpu"}, INSTALLED,
            "JAX_PLATFORMS=cpu excludes it; unset JAX_PLATFORMS",
        ),
        (
            H100, {"CUDA_VISIBLE_DEVICES": ""}, INSTALLED,
            "CUDA_VISIBLE_DEVICES='' hides it; unset CUDA_VISIBLE_DEVICES",
        ),
        (
            H100, {"JAX_PLATFORMS": "cuda,cpu", "CUDA_VISIBLE_DEVICES": "1"}, INSTALLED,
            "CUDA does not start; python -c \"import jax; jax.devices('cuda')\" says why",
        ),
    ],
)  # fmt: skip
def test_what_is_said_of_a_gpu_that_is_not_used(
    gpus: Gpus,
    environment: Mapping[str, str],
    installed: Mapping[str, str],
    reason: str,
) -> None:
    start = "this machine has a GPU (NVIDIA H100 80GB HBM3), but JAX computes on the CPU: "
    release = installed["jaxlib"]
    pip = {c: f'pip install "jax[cuda{c}]=={release}" installs it' for c in (12, 13)}
    for cuda, command in pip.items():
        reason = reason.replace(f"{{{cuda}}}", command)
    assert gpu.why_unused(gpus, environment, installed, "") == start + reason


def test_in_a_clone_s_own_environment_the_cure_is_its_script() -> None:
    line = gpu.why_unused(H100, {}, {"jaxlib": "0.11.2"}, "bash scripts/setup.sh")
    assert line.endswith("; bash scripts/setup.sh --cuda=13 installs it")


@pytest.mark.parametrize(
    ("prefix", "command"),
    [
        ("clone/.venv", "bash scripts/setup.sh"),
        ("clone/.venv-3.12", "VENV=.venv-3.12 bash scripts/setup.sh"),
        ("elsewhere", ""),  # with an editable install, say
        ("clone/within/.venv", ""),
    ],
)
def test_the_script_serves_environments_of_its_clone(
    tmp_path: Path, prefix: str, command: str
) -> None:
    root = tmp_path / "clone"
    (root / "scripts").mkdir(parents=True)
    assert gpu.setup_command(root, tmp_path / prefix) == ""
    (root / "scripts" / "setup.sh").touch()
    assert gpu.setup_command(root, tmp_path / prefix) == command


def test_why_a_gpu_that_is_asked_for_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_find_once", lambda: None)
    assert gpu.why_not() == "no NVIDIA GPU is found"
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(gpu, "_find_once", lambda: H100)
    monkeypatch.setattr(gpu, "packages", lambda: {"jaxlib": "0.11.2"})
    monkeypatch.setattr(gpu, "setup_command", lambda: "")
    assert gpu.why_not() == (
        'JAX is installed without CUDA; pip install "jax[cuda13]==0.11.2" installs it'
    )


def test_nothing_is_said_where_the_gpu_is_used_or_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import jax

    monkeypatch.setattr(gpu, "_find_once", lambda: H100)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert gpu.unused() == ""
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert gpu.unused().startswith("this machine has a GPU (NVIDIA H100 80GB HBM3), but ")
    before = jax.config.values["jax_platforms"]
    jax.config.update("jax_platforms", "cpu")  # by Python, not by the environment
    assert gpu.unused().endswith("JAX_PLATFORMS=cpu excludes it; unset JAX_PLATFORMS")
    jax.config.update("jax_platforms", before)
    monkeypatch.setattr(gpu, "_find_once", lambda: None)
    assert gpu.unused() == ""


def test_a_line_says_where_jax_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    import jax

    cores = len(os.sched_getaffinity(0))
    start = f"No GPU is used: JAX computes on the CPU ({cores} cores). "
    monkeypatch.setattr(gpu, "_find_once", lambda: None)
    assert gpu.in_use() == start + "This machine has no NVIDIA GPU."
    monkeypatch.setattr(gpu, "_find_once", lambda: H100)
    monkeypatch.setattr(gpu, "packages", lambda: {"jaxlib": "0.11.2"})
    monkeypatch.setattr(gpu, "setup_command", lambda: "")
    monkeypatch.setitem(jax.config.values, "jax_platforms", None)
    assert gpu.in_use() == start + (
        "This machine has a GPU (NVIDIA H100 80GB HBM3), but JAX computes on the CPU: JAX is "
        'installed without CUDA; pip install "jax[cuda13]==0.11.2" installs it.'
    )
    devices = [types.SimpleNamespace(platform="gpu", device_kind="NVIDIA H100 80GB HBM3")] * 2
    monkeypatch.setattr(jax, "devices", lambda: devices)
    assert gpu.in_use() == "JAX computes on 2 x NVIDIA H100 80GB HBM3."


@pytest.mark.parametrize(
    ("gpus", "argument", "out", "error"),
    [
        (H100, [], "13\n", ""),
        (H100, ["12"], "12\n", ""),
        (None, ["13"], "13\n", ""),  # for a machine that is not this one
        (
            None, [], "",
            "--cuda: no NVIDIA GPU is found; run this on the machine that has one, or name its "
            "CUDA, as in --cuda=13\n",
        ),
        (H100, ["11"], "", "--cuda=11: unknown; 12 or 13 is needed\n"),
        (
            H100._replace(driver="550.54.14"), ["13"], "",
            "--cuda=13: CUDA 13 needs NVIDIA driver 580 or newer, but 550.54.14 is installed; "
            "--cuda=12 works\n",
        ),
        (
            H100._replace(driver="470.57"), [], "",
            "--cuda: CUDA 12 needs NVIDIA driver 525.60.13 or newer, but 470.57 is installed; "
            "install a newer driver\n",
        ),
        (
            Gpus(("Tesla V100",), "580.65.06", 7.0), ["13"], "",
            "--cuda=13: CUDA 13 needs compute capability 7.5 or above, Tesla V100 has 7.0; "
            "--cuda=12 works\n",
        ),
    ],
)  # fmt: skip
def test_the_cuda_to_install_for(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    gpus: Gpus | None,
    argument: list[str],
    out: str,
    error: str,
) -> None:
    monkeypatch.setattr(gpu, "find", lambda: gpus)
    assert gpu.main(argument) == (2 if error else 0)
    assert capsys.readouterr() == (out, error)
