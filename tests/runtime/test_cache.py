"""Compiled programs on disk: where they lie, two processes at once, damaged entries."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from fednas_jax.runtime import cache
from fednas_jax.runtime.errors import UserError

ROOT = Path(cache.__file__).resolve().parents[2]
# Compiles a program of its own, and says what it computed.
PROGRAM = """
import jax, jax.numpy as jnp
from fednas_jax.runtime import cache
def twice(x):
    return jnp.sin(x @ x.T) * 2
with cache.configured("auto"):
    print(float(jax.jit(twice)(jnp.ones((8, 8))).sum()))
"""


def folder_in_use() -> str | None:
    values = jax.config.values
    return values["jax_compilation_cache_dir"] if values["jax_enable_compilation_cache"] else None


def test_auto_leaves_it_where_jax_was_told():
    before = folder_in_use()
    assert before  # tests/conftest.py
    with cache.configured("auto"):
        assert folder_in_use() == before


def test_auto_is_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = folder_in_use()
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        with cache.configured("auto"):
            assert folder_in_use() == str(tmp_path / "fednas_jax" / "xla")
        assert folder_in_use() is None, "a notebook's JAX is as it was"
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_off():
    with cache.configured("off"):
        assert folder_in_use() is None
        assert cache.seconds_file() is None
        cache.record_seconds("x", 1.0)
        assert cache.seconds_of("x") is None
    assert folder_in_use()


@pytest.mark.parametrize(
    ("typed", "right"),
    [("none", "off"), ("None", "off"), ("false", "off"), ("Off", "off"), ("true", "auto")],
)
def test_words_that_are_no_folder(monkeypatch, tmp_path, typed, right):
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(UserError, match=rf"'{typed}' is not usable .*; did you mean '{right}'\?"),
        cache.configured(typed),
    ):
        pass
    assert not list(tmp_path.iterdir())
    with cache.configured(f"./{typed}"):
        assert folder_in_use() == str(Path(typed))


def test_a_folder_of_ones_own_is_used(tmp_path):
    with cache.configured(str(tmp_path / "a" / "b")):
        jax.jit(lambda x: jnp.cos(x) + 4)(jnp.ones(3))
        assert list((tmp_path / "a" / "b").glob("jit_*-cache"))
    assert folder_in_use() != str(tmp_path / "a" / "b")


def test_a_folder_that_cannot_be_written(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").touch()
    inside = str(tmp_path / "file" / "x")
    with pytest.raises(UserError, match=r"config.compilation_cache: .* cannot be written"):
        cache.configured(inside).__enter__()
    # The user's cache folder was not asked for by name: a run goes on without.
    monkeypatch.setenv("XDG_CACHE_HOME", inside)
    before = folder_in_use()
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        with cache.configured("auto"):
            assert folder_in_use() is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert "cannot be written" in capsys.readouterr().err


def start(folder: Path) -> subprocess.Popen:
    variables = {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=os.environ | variables,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_two_processes_with_one_empty_folder_agree_and_damaged_entries_are_replaced(tmp_path):
    processes = [start(tmp_path), start(tmp_path)]
    ends = [process.communicate(timeout=120) for process in processes]
    assert ends[0][0] == ends[1][0]
    assert [process.returncode for process in processes] == [0, 0]
    entries = list(tmp_path.glob("jit_twice-*-cache"))
    assert len(entries) == 1
    whole = entries[0].read_bytes()
    entries[0].write_bytes(whole[: len(whole) // 2])  # as a killed writer leaves it
    damaged = start(tmp_path)
    said = damaged.communicate(timeout=120)
    assert damaged.returncode == 0
    assert said[0] == ends[0][0]
    assert said[1] == (
        "fednas_jax: warning: error reading the compiled program jit_twice in the cache; "
        "continuing without it\n"
    )
    assert len(entries[0].read_bytes()) > len(whole) // 2, "written anew"
    again = start(tmp_path)
    assert again.communicate(timeout=120) == (ends[0][0], "")


def test_other_warnings_pass():
    with cache.configured("auto"), pytest.warns(UserWarning, match="of another kind"):
        warnings.warn("of another kind", stacklevel=1)


def test_seconds_are_remembered_and_a_damaged_file_is_none(tmp_path):
    with cache.configured(str(tmp_path)):
        assert cache.seconds_of("search") is None
        cache.record_seconds("search", 31.26)
        cache.record_seconds("evaluation", 4.0)
        assert cache.seconds_of("search") == 31.3
        assert cache.seconds_file() == tmp_path / "compile_seconds.json"
        for damaged in ("{", "[]", '{"search": "long"}'):
            (tmp_path / "compile_seconds.json").write_text(damaged)
            assert cache.seconds_of("search") is None
        cache.record_seconds("search", 2.0)
        assert cache.seconds_of("search") == 2.0
