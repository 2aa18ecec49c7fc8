"""Output that cannot be shown, or that nobody reads, ends no command."""

import io
import os
import subprocess
import sys

import pytest

from fednas_jax.runtime import console
from tests.tiny import ROOT


def stream(encoding, errors="strict"):
    return io.TextIOWrapper(io.BytesIO(), encoding, errors)


def written(text_stream):
    text_stream.flush()
    return text_stream.buffer.getvalue()


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", rb"caf\xe9 \u540d"),
        ("cp1252", b"caf\xe9 " + rb"\u540d"),
        ("utf-8", "café 名".encode()),
    ],
)
def test_what_an_encoding_lacks_is_escaped(encoding, expected):
    inner = stream(encoding)
    print("café 名", end="", file=console.Tolerant(inner))
    assert written(inner) == expected


def test_everything_else_is_the_stream_s_own():
    inner = stream("ascii")
    assert console.Tolerant(inner).encoding == "ascii"
    assert console.Tolerant(inner).isatty() is False
    assert console.Tolerant(inner).write("four") == 4


def test_a_reader_that_has_gone_is_not_missed():
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8") as inner:
        tolerant = console.Tolerant(inner)
        for _ in range(3):
            print("a line", file=tolerant, flush=True)
    # Closing has flushed what was held back, without an error.


def test_streams_are_put_back(monkeypatch):
    out, err = stream("ascii"), stream("ascii")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)

    @console.tolerant()
    def command():
        print("é")
        print("名", file=sys.stderr)
        raise KeyError

    with pytest.raises(KeyError):
        command()
    assert sys.stdout is out
    assert sys.stderr is err
    assert out.buffer.getvalue() == rb"\xe9" + b"\n"
    assert err.buffer.getvalue() == rb"\u540d" + b"\n"


def test_nothing_is_shown_where_there_is_no_stdout(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    console.show("a line")
    with console.tolerant():
        print("a line")


def run(code, **options):
    # Written out, as a process without standard streams can say nothing but its exit code.
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, **options).returncode


def test_a_process_without_standard_streams_gives_none_of_their_numbers_to_a_file(tmp_path):
    code = f"""
import os
for number in (0, 1, 2):
    os.close(number)
from fednas_jax.runtime import console
with console.tolerant():
    with open({str(tmp_path / "file")!r}, "w") as file:
        os._exit(7 if file.fileno() > 2 else 1)
"""
    assert run(code) == 7
