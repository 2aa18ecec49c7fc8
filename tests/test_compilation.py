"""What XLA is told: barriers survive on a CPU, unknown options are left out, the cache's place."""

import jax
import jax.numpy as jnp
import pytest

from fednas_jax import compilation
from fednas_jax.nn.depthwise import depthwise
from fednas_jax.nn.window import Window


@pytest.fixture
def fresh_options():
    compilation.compiler_options.cache_clear()
    yield
    compilation.compiler_options.cache_clear()


def compiled_text(jit):
    window = Window(3, 1, 1, 4, 4, 1)
    program = jit(lambda x, kernel: depthwise(x, kernel, window))
    return program.lower(jnp.ones((1, 1, 4, 4)), jnp.ones((1, 1, 3, 3))).compile().as_text()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="options are for XLA's CPU compiler")
def test_optimization_barriers_are_kept():
    # One round the padded input and one round the sum; without the options XLA drops both.
    assert compiled_text(compilation.jit).count("opt-barrier(") == 2
    assert "opt-barrier" not in compiled_text(jax.jit)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="options are for XLA's CPU compiler")
def test_options_that_xla_knows_are_used(fresh_options):
    assert compilation.compiler_options() == compilation.CPU_OPTIONS


def test_options_that_xla_does_not_know_are_left_out(fresh_options, monkeypatch):
    monkeypatch.setattr(compilation, "CPU_OPTIONS", {"xla_of_another_version": True})
    assert compilation.compiler_options() is None
    assert compilation.jit(lambda x: x + 1)(1) == 2


def test_no_options_beside_a_cpu(fresh_options, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compilation.compiler_options() is None


def test_cache_is_left_where_jax_was_told():
    before = jax.config.jax_compilation_cache_dir
    assert before  # tests/conftest.py
    compilation.use_cache()
    assert jax.config.jax_compilation_cache_dir == before


def test_cache_lies_in_the_users_cache_folder(monkeypatch, tmp_path):
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        compilation.use_cache()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "fednas_jax" / "xla")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
