"""The quick start's own logic, with a stand-in for .venv: nothing is installed or searched."""

import functools
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

import fednas_jax

ROOT = Path(fednas_jax.__file__).resolve().parents[1]
# Answers setup's questions for its version and for a GPU, and takes what is to be installed; else
# writes down the arguments of a search, one a line.
PYTHON = """#!/usr/bin/env bash
if [[ "$1" == -c ]]; then echo 3.12; exit; fi
if [[ "$1" == fednas_jax/runtime/gpu.py ]]; then echo "--cuda: no NVIDIA GPU found" >&2; exit 2; fi
if [[ "$1 $2" == "-m pip" ]]; then printf '%s\\n' "${@:3}" > pip-arguments; exit; fi
printf '%s\\n' "$@" > arguments
exit "${SEARCH_ENDS_WITH:-0}"
"""
SEARCH = ["-m", "fednas_jax.main", "--config=configs/digits_quick.py"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the scripts and a .venv that has all requirements, as setup sees it."""
    for name in ("PYTHON", "VENV"):  # of the environment that runs the tests
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    names = ("pyproject.toml", "requirements-lock.txt")
    for name in names:
        shutil.copy(ROOT / name, tmp_path / name)
    content = "".join((ROOT / name).read_text() for name in names)
    (tmp_path / ".venv" / "installed-report").write_text(content)
    return tmp_path


def quickstart(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs it from another folder, as a user may."""
    return subprocess.run(
        ["bash", str(project / "scripts" / "quickstart.sh"), *arguments],
        cwd="/", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def searched(project: Path) -> list[str]:
    return (project / "arguments").read_text().splitlines()


def test_searches_with_the_config_of_the_quick_start(project: Path) -> None:
    done = quickstart(project)
    assert (done.returncode, done.stderr) == (0, "")
    assert searched(project) == [*SEARCH, "--workdir=runs/quickstart"]
    assert "source .venv/bin/activate" in done.stdout
    assert "setup:" not in done.stdout, "nothing was to be set up"


def test_passes_arguments_on_and_a_later_workdir_counts(project: Path) -> None:
    quickstart(project, "--config.rounds=2", "--workdir=my runs/x")
    workdirs = ["--workdir=runs/quickstart", "--config.rounds=2", "--workdir=my runs/x"]
    assert searched(project) == [*SEARCH, *workdirs]


@pytest.mark.parametrize("code", [2, 130])
def test_ends_as_the_search_ends(project: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setenv("SEARCH_ENDS_WITH", str(code))
    done = quickstart(project)
    assert done.returncode == code
    assert "activate" not in done.stdout


@pytest.mark.parametrize(("arguments", "says"), [((), True), (("--workdir=x",), False)])
def test_says_that_a_search_is_finished(
    project: Path, arguments: tuple[str, ...], says: bool
) -> None:
    (project / "runs" / "quickstart").mkdir(parents=True)
    (project / "runs" / "quickstart" / "summary.json").touch()
    assert ("holds a finished search" in quickstart(project, *arguments).stdout) == says


def test_without_a_python_that_will_do_nothing_is_searched(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(project / ".venv")
    monkeypatch.setenv("PYTHON", "no-such-python")
    done = quickstart(project)
    assert done.returncode == 2
    assert done.stderr.startswith("setup: error: no-such-python: not found; ")
    assert not (project / "arguments").exists()


@pytest.fixture
def launcher(project: Path) -> Path:
    """The project, with a stand-in for Open MPI in its .venv."""
    mpirun = project / ".venv" / "bin" / "mpirun"
    mpirun.write_text(
        "#!/usr/bin/env bash\n"
        'if [[ "$1" == --version ]]; then echo "mpirun (Open MPI) 5"; exit; fi\n'
        'printf \'%s\\n\' "$@" > "$(dirname "$0")/../../arguments"; exit 3\n'
    )
    mpirun.chmod(0o755)
    return project


def launch(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(project / "scripts" / "launch_mpi.sh"), *arguments],
        cwd="/", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_launches_so_many_ranks_and_ends_as_they_do(launcher: Path) -> None:
    done = launch(launcher, "--config=x y.py", "-n", "4", "--config.rounds=2")
    assert (done.returncode, done.stderr) == (3, "")
    given = searched(launcher)
    assert given[:4] == ["-n", "4", "--bind-to", "none"]
    assert "--oversubscribe" in given
    python = str(launcher / ".venv" / "bin" / "python")
    main = [python, "-m", "fednas_jax.main", "--config=x y.py", "--config.rounds=2"]
    assert given[-5:] == main


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_handed_on_as_one_that_mpirun_hands_on(
    launcher: Path, number: int, request: pytest.FixtureRequest
) -> None:
    # Under nohup it would be ignored, by all that this process starts as well.
    request.addfinalizer(functools.partial(signal.signal, number, signal.getsignal(number)))
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
    started = launcher / "started"
    (launcher / ".venv" / "bin" / "mpirun").write_text(
        "#!/usr/bin/env bash\n"
        'if [[ "$1" == --version ]]; then echo "mpirun (Open MPI) 5"; exit; fi\n'
        "trap 'echo last words; exit 143' USR1\n"
        f"touch '{started}'\n"
        "for _ in {1..300}; do sleep 0.1; done\n"
    )
    script = str(launcher / "scripts" / "launch_mpi.sh")
    with subprocess.Popen(
        ["bash", script, "-n", "2"], stdout=subprocess.PIPE, text=True
    ) as process:
        while not started.exists():
            time.sleep(0.05)
        time.sleep(0.2)
        process.send_signal(number)
        said, _ = process.communicate(timeout=30)
    assert (process.returncode, said) == (143, "last words\n")


def test_on_several_machines_their_slots_count(
    launcher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDNAS_JAX_MPI_SECONDS", "9")
    (launcher / "hosts").write_text("a slots=2\n")
    launch(launcher, "-n", "2", f"--hostfile={launcher / 'hosts'}", "--config=x.py")
    given = searched(launcher)
    assert "--oversubscribe" not in given
    assert given[given.index("--hostfile") + 1] == str(launcher / "hosts")
    assert given[given.index("--prefix") + 1] == str(launcher / ".venv")
    assert given[given.index("-x") + 1] == "FEDNAS_JAX_MPI_SECONDS"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "-n: missing; the number of ranks is needed"),
        (("-n", "0"), "-n: 0; the number of ranks is needed"),
        (("--config=x", "-n"), "the last argument has no value"),
        (("-n", "2", "--hostfile=nowhere"), "--hostfile: nowhere cannot be read"),
    ],
)
def test_what_cannot_be_launched_is_refused(
    launcher: Path, arguments: tuple[str, ...], says: str
) -> None:
    done = launch(launcher, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"launch_mpi: error: {says}")
    assert done.stderr.count("\n") == 1


def setup(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(project / "scripts" / "setup.sh"), *arguments],
        cwd="/", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def installed(project: Path) -> list[str]:
    """What pip was told."""
    return (project / "pip-arguments").read_text().splitlines()


def test_setup_installs_with_the_lock_what_has_changed(project: Path) -> None:
    assert setup(project).stdout == ""
    assert not (project / "pip-arguments").exists()
    with (project / "requirements-lock.txt").open("a") as lock:
        lock.write("other==1.0\n")
    done = setup(project)
    assert (done.returncode, done.stderr) == (0, "")
    assert installed(project)[-4:] == ["-c", "requirements-lock.txt", "-e", ".[report]"]
    assert setup(project).stdout == ""


def test_setup_for_a_gpu(project: Path) -> None:
    done = setup(project, "--cuda")
    assert (done.returncode, done.stderr) == (2, "setup: error: --cuda: no NVIDIA GPU found\n")
    python = project / ".venv" / "bin" / "python"
    python.write_text(PYTHON.replace('echo "--cuda: no NVIDIA GPU found" >&2; exit 2', "echo 12"))
    hint = "setup: this machine has an NVIDIA GPU; bash scripts/setup.sh --cuda lets JAX use it\n"
    assert setup(project).stdout == hint
    done = setup(project, "--cuda")
    assert (done.returncode, done.stderr) == (0, "")
    assert installed(project)[-4:] == ["-c", "requirements-lock.txt", "-e", ".[cuda12]"]
    assert setup(project).stdout == ""
    stamps = [project / ".venv" / f"installed-cuda{number}" for number in (12, 13)]
    assert [stamp.exists() for stamp in stamps] == [True, False]
    stamps[0].write_text("of another lock")
    assert setup(project).returncode == 0
    assert installed(project)[-1] == ".[cuda12]"
    python.write_text(PYTHON.replace('echo "--cuda: no NVIDIA GPU found" >&2; exit 2', "echo 13"))
    assert setup(project, "--cuda").returncode == 0
    assert [stamp.exists() for stamp in stamps] == [False, True]


def test_setup_refuses_what_it_does_not_know(project: Path) -> None:
    done = setup(project, "--gpu")
    assert done.returncode == 2
    assert done.stderr.startswith("setup: error: --gpu: unknown; usage: bash scripts/setup.sh ")


def test_other_pythons_are_asked_for(project: Path) -> None:
    script = ["bash", str(project / "scripts" / "test_pythons.sh")]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.split(";")[0]) == (2, "test_pythons: error: no version")
    done = subprocess.run([*script, "3.99"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "test_pythons: error: python3.99: not found; install Python 3.99\n"
