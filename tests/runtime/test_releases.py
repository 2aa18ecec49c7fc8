"""The programs that releases of jaxlib computed wrongly, or crashed in, and what prevents it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fednas_jax.runtime import releases

# Each with its result as numpy computes it. Made after the reports in github.com/jax-ml/jax.
PROGRAMS = {
    # 39103: silently wrong from row 32,768 on.
    "vmapped_product": """
rows = np.zeros((32_769, 3), np.float32)
rows[:, 0] = np.arange(32_769)
arguments, wanted = (rows,), rows[:, 0] ** 2
def function(rows):
    return jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2))(rows)
""",
    # 40412: crashed; rank 7 with an axis of one that is not summed over.
    "rank_7": """
arguments = tuple(np.random.RandomState(n).randn(3, 1, 2, 2, 8, 8, 8).astype("f") for n in (0, 1))
wanted = np.sum(arguments[0] * arguments[1], axis=3)
def function(a, b):
    return jnp.sum(a * b, axis=3)
""",
    # 39257: crashed or hung; rank 8.
    "rank_8": """
arguments = np.ones((10, 4, 6), np.float32), np.ones((10, 4, 6, 9, 9, 9, 9, 9), np.float32)
wanted = np.full((10, 4, 9, 9, 9, 9, 9), np.log(6.0))
def function(a, b):
    return jnp.log(jnp.sum(a[..., None, None, None, None, None] * b, axis=2))
""",
}

CHECK = """
import fednas_jax, jax, jax.numpy as jnp, numpy as np
from fednas_jax.runtime import compilation
{program}
quick = lambda function: compilation.jit(function, quick=True)
for jit in (compilation.jit, quick, compilation.jit_once, jax.jit):
    np.testing.assert_allclose(jit(function)(*arguments), wanted, rtol=1e-5, atol=1e-5)
print("right")
"""


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_reported_programs_are_right(name: str) -> None:
    """Under the package's options, and under none; in a process of its own, which may crash."""
    command = [sys.executable, "-c", CHECK.format(program=PROGRAMS[name])]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "right\n"), done.stderr


@pytest.mark.parametrize(
    ("release", "before", "after"),
    [
        ("0.10.2", "", f"--{releases.OPTION}={releases.CURE}"),
        ("0.11.0", "--xla_a=1", f"--xla_a=1 --{releases.OPTION}={releases.CURE}"),
        ("0.10.2", f"--{releases.OPTION}=", f"--{releases.OPTION}="),
        ("0.11.1", "", ""),
        ("0.11.2", "", ""),
        ("", "", ""),
        ("0.10.2", "/etc/xla_flags", "/etc/xla_flags"),  # a file that holds them
    ],
)
def test_a_process_is_cured_of_a_release_that_miscompiles(
    release: str, before: str, after: str
) -> None:
    environment = {"XLA_FLAGS": before}
    releases.cure_process(environment, release)
    assert environment == {"XLA_FLAGS": after}


def test_what_is_set_is_told_and_may_be_left_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        releases.settings_listed("0.10.2")
        .splitlines()[1]
        .startswith(f"- XLA_FLAGS=--{releases.OPTION}=")
    )
    assert "TF_CPP_MIN_LOG_LEVEL=3: jaxlib 0.10.1 prints an error" in releases.settings_listed(
        "0.10.1"
    )
    assert releases.settings_listed("0.11.2") == ""
    monkeypatch.setattr(releases, "installed", lambda: "0.10.1")
    monkeypatch.setenv("FEDNAS_JAX_ENVIRONMENT", "off")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    releases.cure()
    assert "TF_CPP_MIN_LOG_LEVEL" not in os.environ
    monkeypatch.setenv("FEDNAS_JAX_ENVIRONMENT", "done")
    releases.cure()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"


def test_a_noisy_release_is_silenced() -> None:
    for release, before, after in (
        ("0.10.1", {}, {"TF_CPP_MIN_LOG_LEVEL": "3"}),
        ("0.10.1", {"TF_CPP_MIN_LOG_LEVEL": "0"}, {"TF_CPP_MIN_LOG_LEVEL": "0"}),
        ("0.11.2", {}, {}),
    ):
        environment: dict[str, str] = dict(before)
        releases.cure_process(environment, release)
        assert environment == after


def test_programs_from_the_cache_are_read_without_a_word(tmp_path: Path) -> None:
    code = (
        "import fednas_jax, jax\n"
        f"jax.config.update('jax_compilation_cache_dir', {str(tmp_path)!r})\n"
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)\n"
        "print(jax.jit(lambda x: x @ x)(jax.numpy.ones((4, 4)))[0, 0])"
    )
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            cwd=Path(__file__).resolve().parents[2],
        )  # fmt: skip
        assert (done.stdout, done.stderr) == ("4.0\n", "")
    assert list(tmp_path.iterdir())


def test_the_import_cures_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own programs are compiled with the cure, too."""
    code = (
        "from importlib import metadata; import os\n"
        "metadata.version = lambda name: '0.10.2'\n"
        "import fednas_jax; print(os.environ['XLA_FLAGS'])"
    )
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert done.stdout == f"--{releases.OPTION}={releases.CURE}\n"


def test_an_objection_names_the_fault_and_what_to_do() -> None:
    assert releases.objection("0.10.2", (3, 11)) == (
        "jaxlib 0.10.2 computes wrong sums of products on a CPU (jax-ml/jax#39103), or crashes "
        '(#39257); pip install "jax==0.10.1" installs one without this fault'
    )
    slow = releases.objection("0.11.1", (3, 12))
    assert "quadratic time" in slow
    assert 'pip install "jax>=0.11.2"' in slow
    assert releases.objection("0.11.2") == releases.objection("") == ""


def test_the_release_at_hand_is_a_good_one() -> None:
    assert releases.installed()
    assert releases.objection(releases.installed()) == ""
