"""The benchmark of ranks: its rows from known answers, and a real turn of two small groups."""

import socket
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import one_rank, ranks
from benchmarks.harness import Peer
from benchmarks.ranks import ALONE, Group
from fednas_jax.federated.ranks.communicator import LOCAL
from tests.ranks import needs_mpi


def answer(seconds, sent=0.0):
    """Of a round of which 10 % are waiting, 5 % the server's, and 20 ms an all-reduce."""
    return {
        "seconds": seconds,
        "waiting": 0.1 * seconds,
        "server": 0.05 * seconds,
        "sum_seconds": 0.02,
        "sum_bytes": sent,
    }


class FakePeer:
    """Answers as so many ranks would: the first turn is slow, two ranks take 0.5 s for 1 s."""

    def __init__(self, python, module, arguments, launcher):
        count = int(launcher[-1]) if launcher else 1
        self.facts = {"payload_bytes": {"tiny": 4_000_000}}
        others = iter([0, 100_000, 0, 50_000])  # bytes of another process, in some turns
        seconds = iter([9.0, 1 / count, 1 / count, 2 / count])
        self.ask = lambda request: answer(next(seconds), count * 4_200_000 + next(others))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Nothing to end."""


def test_rows_of_groups_that_take_turns(monkeypatch):
    monkeypatch.setattr(ranks, "Peer", FakePeer)
    monkeypatch.setattr(ranks, "launcher", lambda group: ["-n", "2"] if group.ranks > 1 else [])
    monkeypatch.setattr(ranks.harness, "SETTLE_SECONDS", 0)
    pair = Group(2)
    answers, payloads = ranks.measure((ALONE, pair), ["tiny"], 3)
    assert payloads == {"tiny": 4_000_000}
    alone, given = answers["tiny", ALONE], answers["tiny", pair]
    assert [a["seconds"] for a in alone] == [1.0, 1.0, 2.0]  # without the first turn
    rows = ranks.rows_of("tiny", pair, given, alone, 4_000_000)
    values = {(row.name.split(": ")[1], row.unit): row.value for row in rows}
    assert values["a round", "s"] == 0.5
    assert values["rounds, against 1 rank", "x"] == 2
    assert values["all-reduce", "ms"] == 20
    np.testing.assert_allclose(values["all-reduce", "of the round"], 0.04)
    np.testing.assert_allclose(values["at the barrier", "of the round"], 0.1)
    np.testing.assert_allclose(values["after the barrier", "of the round"], 0.05)
    # 4.2 MB of each of two, and of the other process nothing, as in the least of the turns.
    assert values["moved by the all-reduce, a rank", "MB"] == 4.2
    np.testing.assert_allclose(values["against the least possible", "x"], 1.05)


@pytest.mark.parametrize(("count", "least"), [(1, 0), (2, 100), (4, 150), (100, 198)])
def test_least_bytes(count, least):
    assert ranks.least_bytes(count, 100) == least


def test_a_launcher_names_the_transport(monkeypatch):
    monkeypatch.setattr(ranks.doctor, "mpirun", lambda: "mpirun")
    monkeypatch.setattr(ranks, "_version", lambda path: "mpirun (Open MPI) 5.0")
    assert ranks.launcher(ALONE) == []
    command = " ".join(ranks.launcher(Group(4)))
    assert "--mca pml ob1 --mca btl tcp,self" in command
    assert command.endswith("-n 4")
    assert "--mca btl sm,self" in " ".join(ranks.launcher(Group(2, "shared memory")))
    monkeypatch.setattr(ranks, "_version", lambda path: "HYDRA build details")
    with pytest.raises(ranks.UserError, match="Open MPI's is needed"):
        ranks.launcher(Group(2))


def test_both_federations_are_of_the_sizes_that_are_named():
    config = one_rank.cnn_config()
    clients = one_rank.cnn_population(config).clients
    assert clients.local_steps.tolist() == [60] * one_rank.CLIENTS
    config = one_rank.supernet_config("tiny")
    clients = one_rank.supernet_population("tiny", config).clients
    assert clients.local_steps.tolist() == [one_rank.STEPS] * one_rank.CLIENTS


def test_watched_notes_when_a_barrier_was_passed():
    watched = one_rank.Watched(LOCAL)
    watched.barrier()
    assert 0 < watched.came <= watched.left
    assert (watched.rank, watched.size) == (0, 1)


def test_loopback_counts_what_is_sent():
    """At least: other processes may send too."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = socket.create_connection(server.getsockname())
        receiver, _ = server.accept()
        with sender, receiver:
            before = one_rank.loopback_bytes()
            thread = threading.Thread(target=sender.sendall, args=(bytes(1_000_000),))
            thread.start()
            got = receiver.recv(1_000_000, socket.MSG_WAITALL)
            thread.join()
            assert len(got) == 1_000_000
            assert one_rank.loopback_bytes() - before >= 1_000_000


def test_turns_end_with_the_input(monkeypatch, tmp_path):
    monkeypatch.setattr(one_rank.sys, "stdin", ['{"case": "a"}\n', '{"case": "b"}\n'])
    told = list(one_rank.turns(LOCAL, tmp_path / "turns"))
    assert told == [{"case": "a"}, {"case": "b"}]


def test_parts_sum_up_to_a_round(monkeypatch):
    """A rank of a federation that takes no time but at the barrier."""
    federation = object.__new__(one_rank.Federation)
    watched = one_rank.Watched(LOCAL)
    ours = SimpleNamespace(rounds=lambda count: watched.barrier())
    vars(federation).update(_communicator=LOCAL, _watched=watched, _ours=ours)
    vars(federation).update(_add_up=lambda tree: tree, _sums=(np.zeros(3),))
    monkeypatch.setattr(one_rank, "loopback_bytes", iter([5, 7, 20, 52]).__next__)
    given = federation.turn(10)
    assert given["seconds"] == given["local"] + given["waiting"] + given["server"]
    assert given["sum_bytes"] == (32 - 2) / 10  # less what two barriers sent


@pytest.mark.alone
@needs_mpi
def test_two_ranks_take_a_turn(tmp_path):
    with Peer(ranks.sys.executable, "benchmarks.one_rank", [str(tmp_path), "cnn"],
              ranks.launcher(Group(2))) as peer:  # fmt: skip
        assert peer.facts["payload_bytes"] == {"cnn": 4 * 1_663_371}
        given = peer.ask({"case": "cnn", "sums": 2})
    assert given["sum_bytes"] > 2 * 0.99 * ranks.least_bytes(2, 4 * 1_663_371)
    assert given["seconds"] > given["local"] > 0
