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
START = """
import ctypes, os, signal, subprocess, sys
from fednas_jax.runtime import environment, slow_compile_box
from fednas_jax.runtime.command_line import guarded
from fednas_jax.runtime.errors import UserError
libc = ctypes.CDLL(None)
write = lambda text: libc.write(2, text, len(text))
box = bytes.fromhex(sys.argv[1])
environment.missing = lambda _: {}
"""
PREPARED = START + 'environment.prepare("probe")\n'
PROBE = (
    PREPARED
    + """
print("python before", file=sys.stderr, flush=True)
for text in (b"one\\n", box, b"two\\n", box + b"three"):
    assert write(text) == len(text)
print("to stdout")
if sys.argv[2] == "abort":
    libc.abort()
if sys.argv[2] == "leave":
    os._exit(3)
if sys.argv[2] == "terminal":
    print(sys.stderr.isatty(), sys.stderr.fileno() != 2)
raise SystemExit(5)
"""
)
# A command that is interrupted while its C library writes.
WAITS = (
    PREPARED
    + """
def action():
    try:
        write(b"one\\n" + box)
        os.write(1, f"{slow_compile_box._running._process.pid}\\n".encode())
        signal.pause()
    finally:
        write(box + b"last\\n")
sys.exit(guarded(action, "go on"))
"""
)
# What a command of which the filter is killed does next.
KILLED = (
    PREPARED
    + """
write(b"one\\n")
slow_compile_box.drain()
filter = slow_compile_box._running._process
filter.kill()
filter.wait()
assert write(b"lost\\n") == -1
"""
)


def start(
    tmp_path: Path, program: str, *arguments: str, options: tuple[str, ...] = (), **variables: str
) -> subprocess.Popen[bytes]:
    (tmp_path / "probe.py").write_text(program)
    return subprocess.Popen(
        [sys.executable, *options, "-m", "probe", BOXES["last"].hex(), *arguments],
        cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables}, start_new_session=True,
    )  # fmt: skip


def run(
    tmp_path: Path, program: str, *arguments: str, options: tuple[str, ...] = (), **variables: str
) -> subprocess.CompletedProcess[bytes]:
    with start(tmp_path, program, *arguments, options=options, **variables) as process:
        stdout, stderr = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def probe(tmp_path: Path, ends: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    return run(tmp_path, PROBE, ends, **variables)


@pytest.mark.parametrize(
    ("ends", "code"), [("exit", 5), ("leave", 3), ("abort", -signal.SIGABRT), ("terminal", 5)]
)
def test_a_command_writes_all_else_however_it_ends(tmp_path: Path, ends: str, code: int) -> None:
    done = probe(tmp_path, ends)
    assert done.returncode == code
    assert done.stderr == b"python before\none\ntwo\nthree"
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


@pytest.mark.parametrize(
    ("ends", "code", "last"),
    [
        ("sys.exit(guarded(action, ''))", 2, b"fednas_jax: error: boom\n"),
        ("action()", 1, b"UserError: boom\n"),
    ],
)
def test_an_error_comes_after_what_the_library_wrote_before(
    tmp_path: Path, ends: str, code: int, last: bytes
) -> None:
    program = """
print("first", file=sys.stderr)
def action():
    write(box + b"E1128 OOM\\n2026-")
    raise UserError("boom")
"""
    done = run(tmp_path, PREPARED + program + ends)
    assert done.returncode == code
    assert done.stderr.startswith(b"first\nE1128 OOM\n2026-")
    assert done.stderr.endswith(last)


@pytest.mark.parametrize("to", ["command", "group", "group and filter"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_ends_with_its_own_line(
    tmp_path: Path, number: int, code: int, to: str
) -> None:
    with start(tmp_path, WAITS) as process:
        assert process.stdout is not None
        filters = int(process.stdout.readline())
        if to == "group and filter":  # as batch systems do
            os.kill(filters, number)
        if to == "command":
            process.send_signal(number)
        else:
            os.killpg(process.pid, number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert stderr == b"one\nlast\n\nfednas_jax: interrupted; go on\n"


@pytest.mark.parametrize("says", ["a line", ""])
def test_a_killed_filter_is_replaced_by_stderr_itself(tmp_path: Path, says: str) -> None:
    program = f"print({says!r}, file=sys.stderr)\nwrite(b'three\\n')\n" if says else ""
    done = run(tmp_path, KILLED + program + "raise SystemExit(5)")
    assert done.returncode == 5
    first, warning, *rest = done.stderr.splitlines()
    assert first == b"one"
    assert warning.startswith(b"fednas_jax: warning: the process that leaves XLA's box")
    assert warning.endswith(b"has ended; the box may be shown from now on, and lines of XLA "
                            b"before this one may be missing")  # fmt: skip
    assert rest == ([b"a line", b"three"] if says else [])


@pytest.mark.parametrize("ends", ["guarded(lambda: write(b'two\\n'), '')", "write(b'two\\n')"])
def test_a_filter_that_does_not_start_costs_no_line(tmp_path: Path, ends: str) -> None:
    """/bin/false, in place of Python, ends at once."""
    program = """
before, sys.executable = sys.executable, "/bin/false"
assert slow_compile_box.install()
sys.executable = before
write(b"one\\n" + box)
"""
    done = run(tmp_path, START + program + ends)
    assert done.returncode == 0
    warning = (
        b'fednas_jax: warning: the process that leaves XLA\'s box "Very slow compile?" out of '
        b"stderr has ended; the box may be shown from now on\n"
    )
    lines = [b"one\n", warning, b"two\n"] if "guarded" in ends else [b"one\n", b"two\n", warning]
    assert done.stderr == b"".join(lines)


@pytest.mark.parametrize("executable", ["", "/nowhere/python", "archive"])
def test_stderr_stays_as_it_is_where_no_process_can_be_started(
    tmp_path: Path, executable: str
) -> None:
    program = (
        "slow_compile_box.__file__ = '/package.zip/slow_compile_box.py'"
        if executable == "archive"
        else f"sys.executable = {executable!r}"
    )
    opened = "\nopened = os.listdir('/dev/fd')\n"
    ends = "\nassert not slow_compile_box.install()\nwrite(box)\n"
    done = run(tmp_path, START + program + opened + ends + "assert os.listdir('/dev/fd') == opened")
    assert (done.returncode, done.stderr) == (0, BOXES["last"])


def test_a_process_that_outlives_the_command_does_not_hold_it_up(tmp_path: Path) -> None:
    """What it writes is still passed on; Python warns of nothing."""
    program = """
late = ["/bin/sh", "-c", "cat; printf 'late\\\\n' >&2"]
os.posix_spawn(late[0], late, os.environ)
os.close(0)
write(b"one\\n")
subprocess.Popen.wait = lambda *_: os._exit(99)
raise SystemExit(5)
"""
    with start(tmp_path, PREPARED + program, options=("-X", "dev")) as process:
        assert process.wait(timeout=60) == 5
        assert process.stdin is not None
        process.stdin.close()
        assert process.stderr is not None
        assert process.stderr.read() == b"one\nlate\n"
        assert process.stdout is not None
        assert process.stdout.read() == b""


def test_ending_twice_or_without_a_start_does_nothing(tmp_path: Path) -> None:
    program = """
slow_compile_box.drain()
slow_compile_box.end()
environment.prepare("probe")
write(box + b"one\\n")
slow_compile_box.end()
write(b"two\\n" + box)
slow_compile_box.end()
slow_compile_box.drain()
"""
    done = run(tmp_path, START + program)
    assert (done.returncode, done.stderr) == (0, b"one\ntwo\n" + BOXES["last"])


def test_a_forked_process_leaves_the_filter_to_its_parent(tmp_path: Path) -> None:
    program = """
if not os.fork():
    slow_compile_box._Running._lost = lambda _: os._exit(9)
    write(box + b"one\\n")
    print("two", file=sys.stderr)
    sys.exit()
assert os.wait()[1] == 0
write(box + b"three\\n")
"""
    done = run(tmp_path, PREPARED + program)
    assert done.returncode == 0
    assert sorted(done.stderr.splitlines()) == [b"one", b"three", b"two"]
