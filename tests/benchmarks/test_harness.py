"""The benchmarks' harness: bars, turns, peers, and what is written."""

import argparse
import json
import sys

import pytest

from benchmarks import harness
from benchmarks.harness import Peer, Row, at_least, at_most
from fednas_jax.runtime.errors import UserError


@pytest.mark.parametrize(
    ("row", "met", "bar"),
    [
        (Row("a", 3.0, "x"), None, None),
        (Row("a", 3.0, "x", at_least(3)), True, ">= 3"),
        (Row("a", 2.9, "x", at_least(3)), False, ">= 3"),
        (Row("a", 0.03, "", at_most(0.03)), True, "<= 0.03"),
        (Row("a", 0.031, "", at_most(0.03)), False, "<= 0.03"),
        (Row("a", float("nan"), "", at_most(0.03)), False, "<= 0.03"),
    ],
)
def test_bars(row, met, bar):
    assert row.met is met
    assert bar is None or str(row.bar) == bar


def test_candidates_take_turns_after_a_call_each():
    calls = []

    def candidate(name):
        return lambda: calls.append(name)

    seconds = harness.interleaved({"a": candidate("a"), "b": candidate("b")}, 3)
    assert "".join(calls) == "ab" + 3 * "ab"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}
    assert all(0 <= s < 1 for values in seconds.values() for s in values)


def test_a_candidate_may_time_itself():
    own = iter([9.0, 1.5, 2.5])
    assert harness.interleaved({"peer": lambda: next(own)}, 2) == {"peer": [1.5, 2.5]}


def test_median():
    assert harness.median([3.0, 1.0, 2.0]) == 2.0
    assert harness.median([4.0, 1.0, 2.0, 3.0]) == 2.5


def test_publish(tmp_path, capsys, monkeypatch):
    places = ["--torch-python", "/some/where", "--torch-python=y", "--json", "z", "--json=z"]
    monkeypatch.setattr(sys, "argv", ["x", "--quick", *places, "--a"])
    path = tmp_path / "new" / "result.json"
    rows = [Row("step", 0.0123456, "s"), Row("ratio", 19.0, "x", at_least(20))]
    harness.publish("local_step", rows, argparse.Namespace(json=path), {"torch": "2.0"})
    printed = capsys.readouterr().out
    assert "| step | 0.01235 | s |  |  |" in printed
    assert "| ratio | 19 | x | >= 20 | **no** |" in printed
    found = json.loads(path.read_text())
    assert found["command"] == "python -m benchmarks.local_step --quick --a"
    assert found["benchmark"] == "local_step"
    assert found["device"]
    assert found["cores"] >= 1
    assert found["date"][:2] == "20"
    assert found["versions"]["torch"] == "2.0"
    assert found["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["rows"] == [
        {"name": "step", "value": 0.0123456, "unit": "s", "bar": None, "met": None},
        {"name": "ratio", "value": 19.0, "unit": "x", "bar": ">= 20", "met": False},
    ]


# Peers ------------------------------------------------------------------------------------------

ECHO = """
import json, sys
print("a library says hello")
print(json.dumps({"ready": True, "arguments": sys.argv[1:]}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request.get("die"):
        sys.exit(3)
    if request.get("fail"):
        print(json.dumps({"error": "no such case"}), flush=True)
    else:
        print(json.dumps({"seconds": 2 * request["steps"]}), flush=True)
"""


@pytest.fixture
def echo(tmp_path, monkeypatch):
    """A module that a peer can run."""
    (tmp_path / "echo_peer.py").write_text(ECHO)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "echo_peer"


def test_a_peer_answers(echo):
    with Peer(sys.executable, echo, ["--case", "tiny"]) as peer:
        assert peer.facts == {"ready": True, "arguments": ["--case", "tiny"]}
        assert [peer.ask({"steps": n})["seconds"] for n in (1, 5)] == [2, 10]
        with pytest.raises(UserError, match="echo_peer: no such case"):
            peer.ask({"fail": True})
        assert peer.ask({"steps": 2})["seconds"] == 4  # it is still there


def test_a_peer_that_ends(echo):
    with Peer(sys.executable, echo) as peer:
        for _ in range(2):
            with pytest.raises(UserError, match="echo_peer: ended with status 3"):
                peer.ask({"die": True})


def test_a_peer_that_does_not_start(tmp_path):
    with pytest.raises(UserError, match="does not run"):
        Peer(tmp_path / "python", "echo_peer")
    with pytest.raises(UserError, match="no_such_module: ended with status 1"):
        Peer(sys.executable, "no_such_module")


def test_which_interpreter(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(harness, "PEERS", tmp_path / "peers")
    monkeypatch.delenv("FEDNAS_TORCH_PYTHON", raising=False)
    parser = harness.parser("Doc.\n\nMore.", peers=("torch",))
    nothing = parser.parse_args([])
    assert harness.find_python(nothing, "torch") is None
    assert "Without torch" in capsys.readouterr().out
    default = tmp_path / "peers" / ".venv-torch" / "bin" / "python"
    default.parent.mkdir(parents=True)
    default.touch()
    assert harness.find_python(nothing, "torch") == default
    monkeypatch.setenv("FEDNAS_TORCH_PYTHON", sys.executable)
    assert str(harness.find_python(nothing, "torch")) == sys.executable
    assert harness.find_python(parser.parse_args(["--torch-python", "none"]), "torch") is None
    named = parser.parse_args(["--torch-python", str(tmp_path / "missing")])
    with pytest.raises(UserError, match=r"--torch-python: .*missing does not exist"):
        harness.find_python(named, "torch")
