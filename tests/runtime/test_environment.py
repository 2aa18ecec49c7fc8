"""The environment is completed once, in processes of their own: a user's choice stays, all else
too."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fednas_jax
from fednas_jax.runtime import environment

ROOT = Path(fednas_jax.__file__).resolve().parents[1]
# A program that says what it found; on any machine, huge pages are taken to be of use.
PROBE = """
import json, os, signal, sys, time
from fednas_jax.runtime import environment
environment._objection_to_huge_pages = lambda _: ""
print("start", os.getpid(), flush=True)
if __name__ == "__main__":
    environment.prepare("probe")
names = ("GLIBC_TUNABLES", "FEDNAS_JAX_ENVIRONMENT", "XLA_FLAGS")
found = {"argv": sys.argv[1:], "flags": list(sys.warnoptions), "read": sys.stdin.read(),
         "folder": os.getcwd(), **{name: os.environ.get(name) for name in names}}
# Whoever runs the tests in the background has children ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    print(json.dumps(found), flush=True)
    if "wait" in sys.argv:
        time.sleep(60)
except KeyboardInterrupt:
    sys.exit(130)
sys.exit(7 if "seven" in sys.argv else 0)
"""
HUGE = "glibc.malloc.hugetlb=1"


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """This process's environment without what the tests are about."""
    for name in ("GLIBC_TUNABLES", "FEDNAS_JAX_ENVIRONMENT", "XLA_FLAGS", "JAX_PLATFORMS"):
        monkeypatch.delenv(name, raising=False)
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def probe(
    folder: Path, variables: dict[str, str], *arguments: str, options: tuple[str, ...] = ()
) -> tuple[dict[str, Any], list[str], int]:
    """What the program found; the process id at each of its starts; its exit code."""
    (folder / "probe.py").write_text(PROBE)
    done = subprocess.run(
        [sys.executable, *options, "-m", "probe", *arguments],
        cwd=folder, env=variables, input="typed", capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    *starts, found = done.stdout.splitlines()
    return json.loads(found), starts, done.returncode


def test_sets_what_is_missing_by_starting_once_more(clean, tmp_path):
    found, starts, code = probe(tmp_path, clean)
    assert found["GLIBC_TUNABLES"] == HUGE
    assert found["XLA_FLAGS"] is None
    assert len(starts) == 2
    assert starts[0] == starts[1], "the same process"
    assert code == 0


def test_arguments_options_folder_and_input_survive(clean, tmp_path):
    arguments = ("--workdir=my runs/x", "a  b", "", "--config.x='$HOME'", "*", "ü")
    options = ("-W", "error", "-X", "utf8")
    found, starts, _ = probe(tmp_path, clean, *arguments, options=options)
    assert found["argv"] == list(arguments)
    assert found["flags"] == ["error"]
    assert found["read"] == "typed"
    assert found["folder"] == str(tmp_path.resolve())
    assert len(starts) == 2


def test_exit_code_passes_through(clean, tmp_path):
    assert probe(tmp_path, clean, "seven")[2] == 7


def test_interrupt_passes_through(clean, tmp_path):
    (tmp_path / "probe.py").write_text(PROBE)
    process = subprocess.Popen(
        [sys.executable, "-m", "probe", "wait"],
        cwd=tmp_path, env=clean, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    while "GLIBC" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    process.stdout.close()


@pytest.mark.parametrize("tunables", ["glibc.malloc.hugetlb=0", f"x=1:{HUGE}", "a:" + HUGE])
def test_what_a_user_has_chosen_stays(clean, tmp_path, tunables):
    found, starts, _ = probe(tmp_path, {**clean, "GLIBC_TUNABLES": tunables})
    assert found["GLIBC_TUNABLES"] == tunables
    assert len(starts) == 1


def test_other_tunables_are_added_to(clean, tmp_path):
    variables = {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2", "XLA_FLAGS": "--xla_of_mine=1"}
    found, _, _ = probe(tmp_path, clean | variables)
    assert found["GLIBC_TUNABLES"] == f"glibc.malloc.arena_max=2:{HUGE}"
    assert found["XLA_FLAGS"] == "--xla_of_mine=1"


def test_can_be_switched_off(clean, tmp_path):
    found, starts, _ = probe(tmp_path, {**clean, "FEDNAS_JAX_ENVIRONMENT": "off"})
    assert found["GLIBC_TUNABLES"] is None
    assert len(starts) == 1


def test_never_starts_a_third_time(clean, tmp_path):
    # Even where something takes the variable away again.
    taker = "import os; os.environ.pop('GLIBC_TUNABLES', None)"
    (tmp_path / "sitecustomize.py").write_text(taker)
    variables = {**clean, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    found, starts, _ = probe(tmp_path, variables)
    assert found["GLIBC_TUNABLES"] is None
    assert len(starts) == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["python", "-m", "probe", "-m", "other"], True),
        (["python", "-W", "error", "-Xutf8", "-u", "-m", "probe"], True),
        (["python", "-m", "cProfile", "-m", "probe"], False),  # whose output would be lost
        (["python", "-m", "mpi4py", "-m", "probe"], False),  # MPI has begun
        (["python", "script.py", "-m", "probe"], False),
        (["python", "-c", "import runpy", "-m", "probe"], False),
        (["python", "/venv/bin/probe-it", "search", "-m", "other"], True),
        (["python", "-X", "utf8", "probe-it"], True),
        (["python", "-m", "pdb", "/venv/bin/probe-it"], False),
        (["python", "/venv/bin/probe-it-again"], False),
        (["python"], False),
    ],
)
def test_only_a_start_that_can_be_repeated_is(arguments, expected):
    assert environment._runs_as(arguments, "probe", "probe-it") == expected


def test_a_module_without_a_script_is_not_run_by_one():
    assert not environment._runs_as(["python", "probe"], "probe", "")


def test_nothing_is_executed_from_python(monkeypatch):
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("executed"))
    environment.prepare("fednas_jax.main")


def test_where_huge_pages_are_of_no_use_nothing_is_set(clean, monkeypatch, tmp_path):
    pages = tmp_path / "enabled"
    pages.write_text("always [madvise] never\n")
    monkeypatch.setattr(environment, "HUGE_PAGES", pages)
    monkeypatch.setattr(environment.platform, "libc_ver", lambda: ("glibc", "2.36"))
    assert environment.missing({}) == {"GLIBC_TUNABLES": HUGE}
    assert environment.missing({"JAX_PLATFORMS": "cpu"}) == {"GLIBC_TUNABLES": HUGE}
    assert environment.missing({"JAX_PLATFORMS": "cuda"}) == {}
    pages.write_text("[always] madvise never\n")
    assert environment.missing({}) == {}
    pages.unlink()
    assert environment.missing({}) == {}
    for library in (("glibc", "2.31"), ("", "")):
        monkeypatch.setattr(environment.platform, "libc_ver", lambda library=library: library)
        assert environment.missing({}) == {}


def test_table_says_what_is_in_effect(monkeypatch):
    monkeypatch.setattr(environment, "_objection_to_huge_pages", lambda _: "")
    for variables, effect in (
        ({}, "in runs by the command line"),
        ({"GLIBC_TUNABLES": HUGE}, "yes"),
        ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, "no: you have set another value"),
        ({"FEDNAS_JAX_ENVIRONMENT": "off"}, "no: FEDNAS_JAX_ENVIRONMENT=off"),
    ):
        assert f"| {effect} |" in environment.table(variables)


def test_command_lists_the_settings(clean):
    done = subprocess.run(
        [sys.executable, "-m", "fednas_jax.runtime.environment"],
        cwd=ROOT, env=clean, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "| GLIBC_TUNABLES | glibc.malloc.hugetlb=1 |" in done.stdout
    assert "FEDNAS_JAX_ENVIRONMENT=off" in done.stdout


SCRIPT = """
import sys
from fednas_jax.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("way", ["main", "package", "script"])
def test_command_line_starts_once_more_before_it_imports_anything(clean, tmp_path, way):
    script = tmp_path / "fednas-jax"  # as pip writes it
    script.write_text(SCRIPT)
    start = {
        "main": ("-m", "fednas_jax.main"),
        "package": ("-m", "fednas_jax", "search"),
        "script": (str(script), "search"),
    }[way]
    program = "-X", "importtime", *start, "--config.x=1"
    done = subprocess.run(
        [sys.executable, *program],
        cwd=ROOT, env=clean, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("fednas_jax: error:") == 1
    imported = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines()]
    starts = 2 if environment.missing(clean) else 1
    assert imported.count("fednas_jax.runtime.environment") == starts
    assert imported.count("fednas_jax.config") == 1
