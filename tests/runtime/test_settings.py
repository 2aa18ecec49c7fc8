"""Settings of JAX and Flax are fixed while the package computes, and as the user had them after."""

import os
import subprocess
import sys
import threading

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.checkpoints import model
from fednas_jax.experiment import shared_workdir
from fednas_jax.federated.ranks import communicator
from fednas_jax.runtime import compilation, errors, settings
from fednas_jax.runtime.errors import UserError
from tests.tiny import ROOT, any_checkpoint, fedavg_config

OTHER = {
    "jax_enable_x64": True,
    "jax_default_matmul_precision": "highest",
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_disable_jit": True,
    "jax_debug_nans": True,
    "jax_debug_infs": True,
    "jax_explicit_x64_dtypes": "allow",
    "jax_random_seed_offset": 7,
    "jax_high_dynamic_range_gumbel": True,
    "flax_fix_rng_separator": True,
    "flax_preserve_adopted_names": True,
    "flax_return_frozendict": True,
}
FIXED = {**settings.OF_THREAD, **settings.OF_PROCESS}


@pytest.fixture(autouse=True)
def as_before():
    """Settings as they were, and nothing has been said."""
    errors.warn_once.cache_clear()
    before = {name: settings._value(name) for name in FIXED}
    yield
    settings._update(before)
    jax.config.update("jax_transfer_guard", None)


def drawn():
    """Numbers that depend on most of the settings."""
    values = jax.jit(lambda key: jax.random.normal(key, (3,)))(jax.random.key(1))
    return np.asarray(values) + np.ones(3), values.dtype


def test_every_setting_that_is_fixed_is_tested():
    assert OTHER.keys() == FIXED.keys()


@pytest.mark.parametrize("name", OTHER)
def test_set_otherwise_by_python_or_environment(name, capsys):
    settings._update({name: OTHER[name]})
    assert settings._value(name) == OTHER[name]
    assert settings.set_aside() == {name: OTHER[name]}
    with settings.fixed():
        assert settings._value(name) == FIXED[name]
        with settings.fixed():
            assert settings._value(name) == FIXED[name]
        assert settings._value(name) == FIXED[name]
        assert settings.set_aside() == {}
    assert settings._value(name) == OTHER[name]
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"{name}={OTHER[name]}" in told


def test_set_otherwise_by_a_context_manager_around():
    expected, dtype = drawn()
    with jax.enable_x64(True), jax.default_prng_impl("rbg"), jax.disable_jit(True):
        assert drawn()[1] == jnp.float64
        with settings.fixed(say=False):
            found, of = drawn()
    np.testing.assert_array_equal(found, expected)
    assert of == dtype == jnp.float32


def test_numbers_are_those_of_the_default_values():
    expected, _ = drawn()
    settings._update(OTHER | {"jax_disable_jit": False})
    with settings.fixed(say=False):
        found, _ = drawn()
    np.testing.assert_array_equal(found, expected)


def test_is_said_once(capsys):
    settings._update({"jax_enable_x64": True})
    for _ in range(3):
        with settings.fixed():
            pass
    assert capsys.readouterr().err.count("jax_enable_x64=True") == 1
    with settings.fixed(say=False):
        pass
    assert capsys.readouterr().err == ""


def test_another_thread_keeps_its_own_double_precision():
    settings._update({"jax_enable_x64": True})
    found = []
    with settings.fixed(say=False):
        thread = threading.Thread(target=lambda: found.append(jnp.zeros(1).dtype))
        thread.start()
        thread.join()
        assert jnp.zeros(1).dtype == jnp.float32
    assert found == [jnp.float64]


def test_the_first_thread_to_leave_does_not_unfix_the_process_for_the_other():
    settings._update({"flax_fix_rng_separator": True})
    entered, leave = threading.Event(), threading.Event()

    def first():
        with settings.fixed(say=False):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait()
    with settings.fixed(say=False):
        leave.set()
        thread.join()
        assert not flax.config.flax_fix_rng_separator
    assert flax.config.flax_fix_rng_separator


def test_an_error_inside_leaves_the_user_s_values():
    settings._update({"jax_enable_x64": True, "jax_random_seed_offset": 7})
    with pytest.raises(KeyError), settings.fixed(say=False):
        raise KeyError
    assert settings._value("jax_enable_x64") is True
    assert settings._value("jax_random_seed_offset") == 7


@pytest.mark.parametrize("name", ["jax_transfer_guard", "jax_transfer_guard_host_to_device"])
def test_transfers_are_allowed_inside(name):
    jax.config.update(name, "disallow_explicit")
    assert settings.set_aside() == {name: "disallow_explicit"}
    with settings.fixed(say=False):
        assert jnp.add(np.float32(1), 1) == 2
    assert settings._value(name) == "disallow_explicit"


def test_the_thread_that_compiles_has_the_same_settings():
    program = compilation.Program("sum", jax.jit(lambda x: jnp.ones(2) * x))
    settings._update({"jax_enable_x64": True, "jax_numpy_rank_promotion": "raise"})
    traced = []

    def arguments():
        traced.append((settings._value("jax_enable_x64"), jnp.ones(2).dtype))
        return (jnp.ones((3, 2)),)

    with settings.fixed(say=False):
        program.prepare_meanwhile(arguments)
        assert program(jnp.ones((3, 2))).dtype == jnp.float32
    assert traced == [(False, jnp.float32)]


def test_a_model_predicts_the_same_numbers(tmp_path):
    path = any_checkpoint(fedavg_config(), tmp_path)
    images = np.random.RandomState(0).randint(0, 256, (5, 8, 8, 1)).astype(np.uint8)
    restored = model.restore(path)
    expected = restored.logits(images), restored.probabilities(images)
    settings._update(OTHER)
    again = model.restore(path)
    for one in (restored, again):
        np.testing.assert_array_equal(one.logits(images), expected[0])
        np.testing.assert_array_equal(one.probabilities(images), expected[1])
        assert one.probabilities(images).dtype == np.float32


# Devices -----------------------------------------------------------------------------------------


def test_backend_that_does_not_start():
    code = (
        "from fednas_jax.runtime import settings\n"
        "from fednas_jax.runtime.errors import UserError\n"
        "try:\n    settings.check_devices()\nexcept UserError as error:\n    print(error)"
    )
    for platform in ("cuda", "nonsense"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT, env={**os.environ, "JAX_PLATFORMS": platform},
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        (line,) = done.stdout.splitlines()
        assert line.startswith(f"JAX_PLATFORMS: '{platform}' cannot be used here (")
        assert line.endswith("; JAX_PLATFORMS=cpu computes on the CPU")


# What is recorded --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        ("", ""),
        ("--xla_b=1 --xla_a=2", "--xla_a=2 --xla_b=1"),
        ("--xla_a=2  --xla_a=3", "--xla_a=3"),
        ("--xla_dump_to=/x --xla_dump_hlo_as_text", ""),
        ("--xla_force_host_platform_device_count=8 --xla_cpu_enable_fast_math", None),
    ],
)
def test_flags_of_xla(given, recorded):
    expected = "--xla_cpu_enable_fast_math" if recorded is None else recorded
    assert settings.recorded({"XLA_FLAGS": given})["XLA_FLAGS"] == expected


def test_flags_of_xla_in_a_file(tmp_path):
    (tmp_path / "flags").write_text("--xla_b=1\n--xla_a=2\n")
    found = settings.recorded({"XLA_FLAGS": str(tmp_path / "flags")})["XLA_FLAGS"]
    assert found == "--xla_a=2 --xla_b=1"


def test_variables_and_switches_are_recorded():
    assert settings.recorded({"NVIDIA_TF32_OVERRIDE": "0"})["NVIDIA_TF32_OVERRIDE"] == "0"
    assert settings.recorded({})["NVIDIA_TF32_OVERRIDE"] == ""
    before = settings.recorded({})["jax_softmax_custom_jvp"]
    with jax.softmax_custom_jvp(not before):
        assert settings.recorded({})["jax_softmax_custom_jvp"] is not before


def test_cores_are_those_that_xla_takes():
    assert settings.cores({"NPROC": "3"}) == 3
    assert settings.cores({}) == settings.cores({"NPROC": "many"}) >= 1


def test_ranks_that_differ_are_told_in_what():
    class Second(communicator.Local):
        def decide(self, value):
            return {**value(), "XLA_FLAGS": "--xla_a=1"}

    shared_workdir.check_same(
        communicator.LOCAL, "the settings of JAX and XLA", settings.recorded()
    )
    with pytest.raises(UserError, match=r"^the settings of JAX and XLA \(XLA_FLAGS\) here and on"):
        shared_workdir.check_same(Second(), "the settings of JAX and XLA", settings.recorded())
