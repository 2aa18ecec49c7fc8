"""Checkpoints: bit-equal, whole or not at all, and one line for what cannot be read."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fednas_jax.checkpoints import checkpoint_folder
from fednas_jax.checkpoints.checkpoint import Checkpoints
from fednas_jax.runtime.errors import UserError

ROOT = Path(checkpoint_folder.__file__).resolve().parents[2]


class State(NamedTuple):
    params: dict[str, Any]
    arch: dict[str, Any]
    key: Any
    round: Any


def make_state(seed: int = 0, channels: int = 3) -> State:
    rng = np.random.RandomState(seed)
    return State(
        params={
            "stem": {"kernel": jnp.asarray(rng.randn(3, 3, 1, channels), jnp.float32)},
            "half": jnp.asarray(rng.randn(5), jnp.bfloat16),
            "mask": jnp.asarray([True, False]),
            "empty": {},
            "none_left": jnp.zeros((0, 4), jnp.int8),
        },
        arch={"normal": jnp.asarray([np.nan, -0.0, np.inf, 1e-45], jnp.float32)},
        key=jax.random.key(seed),
        round=seed,
    )


def raw(leaf: Any) -> np.ndarray:
    is_key = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def assert_same_bits(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert raw(a).shape == raw(b).shape
        assert raw(a).tobytes() == raw(b).tobytes()


def saved(folder: Path, rounds: int, keep: int = 2) -> tuple[Checkpoints, list[str]]:
    lines: list[str] = []
    checkpoints = Checkpoints(folder, keep, lines.append)
    for number in range(1, rounds + 1):
        state, extra, model = make_state(number), {"rows": [number]}, {"name": "toy"}
        checkpoints.save(number, state, extra, is_best=number == 1, model=model)
    return checkpoints, lines


def damage(path: Path) -> None:
    """Changes one bit of the largest file of the arrays."""
    victim = max((p for p in (path / "state").rglob("*") if p.is_file()), key=os.path.getsize)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)


@pytest.mark.parametrize("abstract", [False, True])
def test_restores_the_same_bits_and_types(tmp_path: Path, abstract: bool) -> None:
    state = make_state(7)
    like = jax.eval_shape(lambda: make_state(7)) if abstract else make_state(3)
    checkpoints = Checkpoints(tmp_path / "a" / "b")
    checkpoints.save(7, state, {"metrics": [{"loss": 1 / 3}]}, is_best=True)
    restored = Checkpoints(tmp_path / "a" / "b").restore_latest(like)
    assert restored is not None
    assert restored.round == 7
    assert restored.extra == {"metrics": [{"loss": 1 / 3}]}
    assert_same_bits(restored.state, state._replace(round=jnp.asarray(7)))
    for ours, theirs in zip(jax.tree.leaves(restored.state), jax.tree.leaves(state), strict=True):
        assert isinstance(ours, jax.Array)
        assert ours.dtype == getattr(theirs, "dtype", jnp.int32)
    assert jax.random.bits(restored.state.key) == jax.random.bits(state.key)


def test_numbers_of_64_bits_stay_as_they_are(tmp_path: Path) -> None:
    state = {"examples": np.arange(3) + 2**40, "share": np.float64(1 / 3), "rate": 0.1}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, None, is_best=True)
    restored = checkpoints.restore(1, state).state
    assert restored["examples"].tolist() == state["examples"].tolist()
    assert restored["share"] == state["share"]
    assert restored["rate"] == np.float32(0.1)


def test_another_generators_key_is_refused_and_its_own_restored(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    keys = {"key": jax.random.split(jax.random.key(1, impl="rbg"), 3)}
    checkpoints.save(1, keys, None, is_best=True)
    assert_same_bits(checkpoints.restore(1, keys).state, keys)
    with pytest.raises(UserError, match=r"key is key<rbg>\[3\] there and key<fry>\[3\] here"):
        checkpoints.restore(1, {"key": jax.random.split(jax.random.key(1), 3)})


def test_a_restored_state_can_be_donated(tmp_path: Path) -> None:
    state = {"w": jnp.arange(4096.0)}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, None, is_best=True)
    restored = checkpoints.restore(1, state).state
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    assert float(step(restored)["w"][0]) == 1.0


def test_nothing_there(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "none")
    assert checkpoints.restore_latest(make_state()) is None
    assert checkpoints.rounds() == []
    assert checkpoints.best_round() is None
    with pytest.raises(UserError, match="no checkpoint of round best; there are: none"):
        checkpoints.restore("best", make_state())


def test_keeps_the_last_n_and_the_best(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    best = 2
    for number in range(1, 6):
        checkpoints.save(number, make_state(number), None, is_best=number <= best)
    assert checkpoints.rounds() == [2, 4, 5]
    assert checkpoints.best_round() == best
    assert checkpoints.restore("best", make_state()).round == best
    assert_same_bits(checkpoints.restore("best", make_state()).state.arch, make_state(2).arch)
    assert checkpoints.restore(4, make_state()).round == 4
    with pytest.raises(UserError, match="no checkpoint of round 3; there are: 2, 4, 5"):
        checkpoints.restore(3, make_state())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000002", "000004", "000005"]


def test_the_best_of_a_kept_round_is_kept_with_it(tmp_path: Path) -> None:
    checkpoints, lines = saved(tmp_path, 3)
    checkpoints.save(4, make_state(4), None, is_best=True)
    assert checkpoints.rounds() == [1, 3, 4], "1 is the best as of 3"
    damage(tmp_path / "000004")
    restored = checkpoints.restore_latest(make_state())
    assert restored is not None
    assert restored.round == 3
    checkpoints.save(4, make_state(4), None, is_best=False)
    assert checkpoints.best_round() == 1
    assert len(lines) == 1


@pytest.mark.parametrize("harm", ["edit", "cut", "remove", "facts", "sums", "no sums", "empty"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, harm: str) -> None:
    checkpoints, lines = saved(tmp_path, 3)
    path = tmp_path / "000003"
    arrays = max((p for p in (path / "state").rglob("*") if p.is_file()), key=os.path.getsize)
    facts = path / "checkpoint.json"
    if harm == "edit":
        damage(path)
    elif harm == "cut":
        arrays.write_bytes(arrays.read_bytes()[:-1])
    elif harm == "remove":
        arrays.unlink()
    elif harm == "facts":
        facts.write_text(facts.read_text().replace('"round": 3', '"round": 9'))
    elif harm == "sums":
        (path / "checksums.json").write_text("[1]")
    elif harm == "no sums":
        (path / "checksums.json").unlink()
    else:
        shutil.rmtree(path)
        path.mkdir()
    restored = checkpoints.restore_latest(make_state())
    assert restored is not None
    assert restored.round == 2
    assert_same_bits(restored.state.params, make_state(2).params)
    assert len(lines) == 1
    assert lines[0].startswith(f"{path}: ")
    assert lines[0].endswith("; it is skipped")
    with pytest.raises(UserError, match=r"000003: .*; another round is needed"):
        checkpoints.restore(3, make_state())
    checkpoints.save(3, make_state(3), None, is_best=False)
    restored = checkpoints.restore_latest(make_state())
    assert restored is not None
    assert restored.round == 3
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("round", "2"),
        ("leaves", None),
        ("leaves", [{"path": "w"}]),
        ("leaves", [{"path": "w", "shape": [-1], "dtype": "float32"}]),
        ("keys", []),
        ("keys", {"key": 3}),
    ],
)
def test_foreign_facts_with_the_right_checksum_are_passed_over(
    tmp_path: Path, name: str, value: Any
) -> None:
    checkpoints, said = saved(tmp_path, 2)
    path = tmp_path / "000002"
    facts = json.loads((path / "checkpoint.json").read_text())
    (path / "checkpoint.json").write_text(json.dumps(facts | {name: value}))
    checksums = json.loads((path / "checksums.json").read_text())
    right = hashlib.sha256((path / "checkpoint.json").read_bytes()).hexdigest()
    (path / "checksums.json").write_text(json.dumps(checksums | {"checkpoint.json": right}))
    restored = checkpoints.restore_latest(make_state())
    assert restored is not None
    assert restored.round == 1
    assert said == [
        f"{path}: '{name}' in checkpoint.json does not have the expected content; it is skipped"
    ]


def test_a_later_round_does_not_outlive_the_fall_back(tmp_path: Path) -> None:
    checkpoints, _ = saved(tmp_path, 6, keep=3)
    damage(tmp_path / "000006")
    checkpoints.save(5, make_state(5), None, is_best=False)
    assert checkpoints.rounds() == [1, 4, 5]


def test_none_whole(tmp_path: Path) -> None:
    checkpoints, lines = saved(tmp_path, 2)
    damage(tmp_path / "000001")
    damage(tmp_path / "000002")
    with pytest.raises(UserError, match="all 2 checkpoints are damaged"):
        checkpoints.restore_latest(make_state())
    assert len(lines) == 2


def test_another_architecture_names_the_first_leaf(tmp_path: Path) -> None:
    checkpoints, lines = saved(tmp_path, 1)
    with pytest.raises(UserError) as raised:
        checkpoints.restore_latest(make_state(channels=4))
    message = str(raised.value)
    assert "params/stem/kernel is float32[3,3,1,3] there and float32[3,3,1,4] here" in message
    assert "\n" not in message

    without = make_state()
    del without.params["half"]
    with pytest.raises(UserError, match=r"params/half bfloat16\[5\] is only there"):
        checkpoints.restore_latest(without)
    more = make_state()
    more.params["cell"] = jnp.zeros(2)
    with pytest.raises(UserError, match=r"params/cell float32\[2\] is missing there"):
        checkpoints.restore_latest(more)
    other_type = make_state()
    other_type.arch["normal"] = jnp.zeros(4, jnp.float16)
    with pytest.raises(UserError, match=r"float32\[4\] there and float16\[4\] here"):
        checkpoints.restore_latest(other_type)
    assert not lines


def test_two_leaves_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the same path"):
        Checkpoints(tmp_path).save(1, {"a/b": 1, "a": {"b": 2}}, None, is_best=True)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"cannot be written \(Not a directory; there is no earlier one"
    ):
        Checkpoints(tmp_path / "file" / "in").save(1, make_state(), None, is_best=True)


def test_what_json_cannot_hold_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Checkpoints(tmp_path).save(1, make_state(), {"loss": float("nan")}, is_best=True)
    assert not list(tmp_path.iterdir())


def test_left_overs_of_the_dead_are_removed_and_of_the_living_not(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as living:
        names = [f".tmp-3-{living.pid}", f".tmp-4-{os.getpid()}", ".tmp-5-999999999999", ".tmp-x"]
        for name in names:
            (tmp_path / name).mkdir()
        Checkpoints(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == names[:1]
        living.communicate(b"\n")
    Checkpoints(tmp_path)
    assert not list(tmp_path.iterdir())


# --- other processes --------------------------------------------------------------------------


def start(program: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, str(folder)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip


SAVES_FOR_EVER = """
import itertools, sys, numpy as np
from fednas_jax.checkpoints.checkpoint import Checkpoints
checkpoints = Checkpoints(sys.argv[1], keep=1)
like = {"w": np.zeros((64, 1024), np.float32)}
first = checkpoints.restore_latest(like)
for number in itertools.count(first.round + 1 if first else 1):
    checkpoints.save(number, {"w": np.full((64, 1024), number, np.float32)}, None, is_best=True)
    print(number, flush=True)
"""


def test_killed_at_any_moment_the_last_one_is_whole(tmp_path: Path) -> None:
    like = {"w": np.zeros((64, 1024), np.float32)}
    for pause_seconds in (0.0, 0.013, 0.041):
        with start(SAVES_FOR_EVER, tmp_path) as process:
            assert process.stdout is not None
            promised = int(process.stdout.readline())
            time.sleep(pause_seconds)
            process.send_signal(signal.SIGKILL)
        lines: list[str] = []
        restored = Checkpoints(tmp_path, say=lines.append).restore_latest(like)
        assert restored is not None
        assert restored.round >= promised
        assert not lines
        assert np.all(restored.state["w"] == restored.round)
        assert not list(tmp_path.glob(".tmp-*"))


KILLED_BEFORE_THE_RENAME = """
import os, signal, sys, numpy as np
from fednas_jax.checkpoints import checkpoint
checkpoints = checkpoint.Checkpoints(sys.argv[1])
checkpoints.save(1, {"w": np.ones(3)}, None, is_best=True)
checkpoints._put_in_place = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
checkpoints.save(2, {"w": np.zeros(3)}, None, is_best=True)
"""


def test_killed_just_before_the_rename(tmp_path: Path) -> None:
    with start(KILLED_BEFORE_THE_RENAME, tmp_path) as process:
        assert process.wait(60) == -signal.SIGKILL
    assert len(list(tmp_path.glob(".tmp-2-*"))) == 1
    checkpoints = Checkpoints(tmp_path)
    assert not list(tmp_path.glob(".tmp-*"))
    restored = checkpoints.restore_latest({"w": np.ones(3)})
    assert restored is not None
    assert (restored.round, checkpoints.best_round()) == (1, 1)


# A limit on the size of a file stands for a full disk: the system refuses the write alike.
FULL_DISK = """
import resource, sys, numpy as np
from fednas_jax.checkpoints.checkpoint import Checkpoints
from fednas_jax.runtime.errors import UserError
checkpoints = Checkpoints(sys.argv[1])
state = {"w": np.random.RandomState(0).randn(4096)}
checkpoints.save(1, state, None, is_best=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    checkpoints.save(2, state, None, is_best=True)
except UserError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_last_one_whole_and_is_told_in_one_line(tmp_path: Path) -> None:
    with start(FULL_DISK, tmp_path) as process:
        out, err = process.communicate(timeout=60)
    assert "the checkpoint of round 2 cannot be written (File too large; that of round 1 is" in out
    assert out.count("\n") == 1
    assert err == ""
    assert [path.name for path in tmp_path.iterdir()] == ["000001"]
    restored = Checkpoints(tmp_path).restore_latest({"w": np.zeros(4096)})
    assert restored is not None
    assert restored.state["w"].tolist() == np.random.RandomState(0).randn(4096).tolist()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """4 MB, where a tmpfs can be mounted, which takes root on Linux."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("left_bytes", [0, 100_000, 900_000])
def test_a_disk_that_is_really_full(left_bytes: int, small_disk: Path) -> None:
    folder, like = small_disk / "run", {"w": np.zeros(4096)}
    checkpoints = Checkpoints(folder)
    checkpoints.save(1, {"w": np.ones(4096)}, None, is_best=True)
    free = shutil.disk_usage(small_disk).free
    (small_disk / "ballast").write_bytes(bytes(free - left_bytes))
    told = r"\(No space left on device; free at least \d\.\d MB on the disk of .*; that of round 1"
    with pytest.raises(UserError, match=f"the checkpoint of round 2 cannot be written {told}"):
        checkpoints.save(2, {"w": np.full(4096, 2.0)}, None, is_best=True)
    assert [path.name for path in folder.iterdir()] == ["000001"]
    restored = Checkpoints(folder).restore_latest(like)
    assert restored is not None
    assert restored.state["w"].tolist() == [1.0] * 4096
    (small_disk / "ballast").unlink()
    checkpoints.save(2, {"w": np.full(4096, 2.0)}, None, is_best=True)
    assert checkpoints.rounds() == [1, 2]


SAVED_FROM_TWO_DEVICES = """
import sys, jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from fednas_jax.checkpoints.checkpoint import Checkpoints
assert jax.device_count() == 2
sharding = NamedSharding(Mesh(np.array(jax.devices()), "k"), PartitionSpec("k"))
state = {"w": jax.device_put(np.arange(8, dtype=np.float32), sharding)}
checkpoints = Checkpoints(sys.argv[1])
checkpoints.save(1, state, None, is_best=True)
assert checkpoints.restore(1, state).state["w"].tolist() == list(range(8))
"""


def test_what_two_devices_saved_one_restores(tmp_path: Path) -> None:
    flags = "--xla_force_host_platform_device_count=2"
    with start(SAVED_FROM_TWO_DEVICES, tmp_path, XLA_FLAGS=flags, JAX_PLATFORMS="cpu") as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert err == ""
    like = {"w": jax.ShapeDtypeStruct((8,), jnp.float32)}
    restored = Checkpoints(tmp_path).restore_latest(like)
    assert restored is not None
    assert restored.state["w"].tolist() == list(range(8))
    assert len(restored.state["w"].devices()) == 1
