"""What XLA is told: barriers survive on a CPU, unknown options are left out; programs."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.nn.kernels.depthwise import stencil
from fednas_jax.nn.kernels.window import Window
from fednas_jax.runtime import cache, compilation, releases


@pytest.fixture
def fresh_options():
    compilation.compiler_options.cache_clear()
    yield
    compilation.compiler_options.cache_clear()


def compiled_text(jit):
    window = Window(3, 1, 1, 4, 4, 1)
    program = jit(lambda x, kernel: stencil(window.planes(x, 0.0), kernel, window))
    return program.lower(jnp.ones((1, 1, 4, 4)), jnp.ones((1, 1, 3, 3))).compile().as_text()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="options are for XLA's CPU compiler")
def test_optimization_barriers_are_kept():
    # One round the padded input and one round the sum; without the options XLA drops both.
    assert compiled_text(compilation.jit).count("opt-barrier(") == 2
    assert "opt-barrier" not in compiled_text(jax.jit)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="options are for XLA's CPU compiler")
def test_options_that_xla_knows_are_used(fresh_options):
    assert compilation.compiler_options() == compilation.CPU_OPTIONS
    quick_options = dict(compilation.QUICK_OPTIONS)
    if jax.__version_info__ >= (0, 11):  # whose XLA has no older emitters
        del quick_options["xla_cpu_use_fusion_emitters"]
    assert compilation.compiler_options(quick=True) == quick_options
    for quick in (False, True):  # XLA still knows what keeps sums of products right
        assert compilation.compiler_options(quick=quick)[releases.OPTION] == releases.CURE


def test_options_that_xla_does_not_know_are_left_out(fresh_options, monkeypatch):
    monkeypatch.setattr(compilation, "CPU_OPTIONS", {"xla_of_another_version": True})
    assert compilation.compiler_options() is None
    assert compilation.jit(lambda x: x + 1)(1) == 2
    level = {"xla_backend_optimization_level": 1}
    monkeypatch.setattr(compilation, "QUICK_OPTIONS", {"xla_of_another_version": True, **level})
    assert compilation.compiler_options(quick=True) == level


def test_no_options_beside_a_cpu(fresh_options, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compilation.compiler_options() is None


# Programs that say what they do


@pytest.fixture
def lines(monkeypatch, tmp_path):
    """What is said about compiling; programs are kept in a folder of the test."""
    said: list[str] = []
    monkeypatch.setattr(compilation, "_WORTH_A_LINE", 0)
    with cache.configured(str(tmp_path)), compilation.reported(said.append):
        yield said


def test_a_program_compiles_once_and_says_how_long_it_took_last_time(lines):
    traces = []

    def double(x):
        traces.append(x)
        return 2 * x

    program = compilation.Program("doubling", compilation.jit(double))
    assert (program(jnp.float32(3)), program(jnp.float32(4))) == (6, 8)
    assert len(traces) == 1
    assert lines == ["compiling doubling", "compiled doubling in 0 s"]
    cache.record_seconds(next(iter(cache._read(cache.seconds_file()))), 31.0)
    compilation.Program("doubling", compilation.jit(double))(jnp.float32(3))
    assert lines[2] == "compiling doubling (31 s last time)"
    # Of another shape: nothing is known.
    compilation.Program("doubling", compilation.jit(double))(jnp.ones(3))
    assert lines[4] == "compiling doubling"


def test_a_program_prepared_meanwhile_is_waited_for_and_traced_once():
    traces, order = [], []

    def count(x):
        traces.append(x)
        return x + 1

    first = compilation.Program("first", compilation.jit(lambda x: x * 3))
    second = compilation.Program("second", compilation.jit(count))
    one = jnp.float32(1)

    def later():
        order.append("traced")
        second.prepare_meanwhile(lambda: (one,))

    assert first.prepare(one, meanwhile=later).memory_analysis() is not None
    assert order == ["traced"]
    assert (first(one), second(one), second(one)) == (3, 2, 2)
    assert len(traces) == 1


def test_what_fails_in_the_thread_is_raised_by_the_call():
    def fails(x):
        raise ValueError("at tracing")

    program = compilation.Program("failing", compilation.jit(fails))
    program.prepare_meanwhile(lambda: (jnp.float32(1),))
    with pytest.raises(ValueError, match="at tracing"):
        program(jnp.float32(1))


def test_programs_that_compile_beside_each_other_take_their_time_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(compilation, "_spans", [])
    monkeypatch.setattr(compilation.time, "monotonic", lambda: now[0])
    # (end, seconds): 1 to 3; 2 to 5 beside it; 7 to 8, inside of 6 to 9; what is no compiling.
    for end, duration in ((3.0, 2.0), (5.0, 3.0), (8.0, 1.0), (9.0, 3.0)):
        now[0] = end
        compilation._add("/jax/core/compile/backend_compile_duration", duration)
    compilation._add("/jax/checkpoint/write", 9.0)
    assert compilation.seconds() == (5.0 - 1.0) + (9.0 - 6.0)


def test_a_compilation_that_goes_on_is_said_again_and_again(lines, monkeypatch):
    monkeypatch.setattr(compilation, "_SLOW_SECONDS", 0.001)
    thrice = threading.Event()

    def say(line: str) -> None:
        lines.append(line)
        if len(lines) == 3:
            thrice.set()

    with compilation.reported(say), compilation._said_while_slow("it", "; it took 9 s last time"):
        assert thrice.wait(60)
    said = "still compiling it, for 0 min so far; it took 9 s last time"
    assert lines[:3] == [said] * 3


def test_a_quick_compilation_is_not_said_to_be_slow(lines):
    compilation.Program("it", compilation.jit(lambda x: x + 1)).prepare(np.float32(0))
    assert not [line for line in lines if line.startswith("still")]
