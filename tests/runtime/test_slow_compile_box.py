"""XLA's box is left out, and nothing else: of bytes in pieces, and of whole processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import fednas_jax
from fednas_jax.runtime import slow_compile_box
from fednas_jax.runtime.slow_compile_box import Filter

ROOT = Path(fednas_jax.__file__).resolve().parents[1]
STARS = b"*" * 32 + b"\n"
ASKS = (
    b"[Compiling module jit_step] Very slow compile? If you want to file a bug, run with envvar "
    b"XLA_FLAGS=--xla_dump_to=/tmp/foo and attach the results.\n"
)
TF = b"2026-11-28 09:40:02.931165: E external/xla/xla/service/slow_operation_alarm.cc:73]"
ABSL = b"E0000 00:00:1764321602.931165   12345 slow_operation_alarm.cc:73]"
BOXES = {
    "first": TF + b" \n" + STARS + ASKS + STARS,
    "first, absl": ABSL + b" \n" + STARS + ASKS + STARS,
    "last": TF + b" The operation took 2m29.0445135s\n\n" + STARS + ASKS + STARS,
    "last, absl": ABSL + b" [jit] The operation took 12m2s\n" + STARS + ASKS + STARS,
}
KEPT = {
    "an error of XLA": b"2026-11-28 09:40:02.9: E external/xla/xla/stream.cc:1] out of memory\n",
    "another alarm": TF
    + b" Constant folding an instruction is taking > 1s:\n\n  %pad.2\n\nThis is\n",
    "a box cut short": TF + b" \n" + STARS + ASKS,
    "another box": TF + b" \n" + STARS + b"[x] Slow compile?  XLA was built without\n" + STARS,
    "stars alone": STARS + ASKS + STARS,
    "without an end": b"2026-11-28 09:4",
    "bytes": bytes(range(256)),
    "E": b"E12",
}


def through(*pieces: bytes) -> bytes:
    boxes = Filter()
    return b"".join(map(boxes.feed, pieces)) + boxes.flush()


@pytest.mark.parametrize("kind", BOXES)
def test_a_box_is_left_out_wherever_it_is_cut(kind: str) -> None:
    assert through(b"half a line " + BOXES[kind] + b"\nx") == b"half a line \nx"
    before, after = b"a line\n", b"\nFatal: 2026\n"
    data = before + BOXES[kind] + after
    for cut in range(len(data)):
        assert through(data[:cut], data[cut:]) == before + after, cut
    assert through(*(bytes([byte]) for byte in data)) == before + after


@pytest.mark.parametrize("kind", KEPT)
def test_all_else_is_kept(kind: str) -> None:
    for data in (KEPT[kind], KEPT[kind] * 2, b"x\n" + KEPT[kind] + b"\ny"):
        assert through(data) == data
        for cut in range(len(data)):
            assert through(data[:cut], data[cut:]) == data, cut


def test_boxes_between_what_is_kept() -> None:
    kept = list(KEPT.values())
    data = b"".join(one + box for one, box in zip(kept, [*BOXES.values()] * 2, strict=True))
    assert through(data) == b"".join(kept)


def test_what_may_be_a_box_is_held_and_nothing_else() -> None:
    boxes = Filter()
    assert boxes.feed(b"a line\nhalf a line") == b"a line\nhalf a line"
    assert not boxes.holds
    assert boxes.feed(b"\n2026-11-28 09:") == b"\n"
    assert boxes.holds
    assert boxes.feed(b"40 something else\n") == b"2026-11-28 09:40 something else\n"
    assert not boxes.holds


# A command whose C library writes to descriptor 2, as XLA does.
PROBE = """
import ctypes, os, sys, time
from fednas_jax.runtime import environment
environment.missing = lambda _: {}
environment.prepare("probe")
print("python before", file=sys.stderr, flush=True)
libc = ctypes.CDLL(None)
box = bytes.fromhex(sys.argv[1])
for text in (b"one\\n", box, b"two\\n", box + b"three"):
    assert libc.write(2, text, len(text)) == len(text)
print("to stdout")
if sys.argv[2] == "abort":
    libc.abort()
if sys.argv[2] == "leave":
    os._exit(3)
if sys.argv[2] == "terminal":
    print(sys.stderr.isatty(), sys.stderr.fileno() != 2)
raise SystemExit(5)
"""


def probe(tmp_path: Path, ends: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    (tmp_path / "probe.py").write_text(PROBE)
    return subprocess.run(
        [sys.executable, "-m", "probe", BOXES["last"].hex(), ends],
        cwd=tmp_path, capture_output=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ends", "code"), [("exit", 5), ("leave", 3), ("abort", -signal.SIGABRT), ("terminal", 5)]
)
def test_a_command_writes_all_else_however_it_ends(tmp_path: Path, ends: str, code: int) -> None:
    done = probe(tmp_path, ends)
    assert done.returncode == code
    written = done.stderr.replace(b"python before\n", b"", 1)
    assert len(written) == len(done.stderr) - len(b"python before\n")
    assert written == b"one\ntwo\nthree"
    if ends == "terminal":
        assert done.stdout == b"to stdout\nFalse True\n"


def test_off_leaves_stderr_as_it_is(tmp_path: Path) -> None:
    box = BOXES["last"]
    done = probe(tmp_path, "exit", FEDNAS_JAX_ENVIRONMENT="off")
    assert done.stderr == b"python before\none\n" + box + b"two\n" + box + b"three"


def test_a_process_that_is_no_command_is_left_alone() -> None:
    """Such as this one, or a notebook that imports the package."""
    program = (
        "import os, fednas_jax\nfrom fednas_jax import experiment\n"
        "from fednas_jax.runtime import environment\nenvironment.prepare('fednas_jax.main')\n"
        "os.write(2, bytes.fromhex('" + BOXES["first"].hex() + "'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stderr.endswith(BOXES["first"])


def test_without_a_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_: int) -> int:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(slow_compile_box.os, "dup", closed)
    assert not slow_compile_box.install()
