"""Watchdogs in one process, each in its thread, with an end that ends nothing."""

import os
import queue
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from fednas_jax import signals
from fednas_jax.federated.watchdog import LOST, TERMINATED, Fault, Peer, Watchdog

LIMIT_SECONDS = 1.2
PATIENCE_SECONDS = 30


class Pack:
    """Rank 0 and two others; what ends is written down."""

    def __init__(self) -> None:
        self.ended: queue.Queue[tuple[int, int]] = queue.Queue()
        links = [socket.socketpair() for _ in range(2)]
        self.sockets = [end for link in links for end in link]
        others = [Peer(n + 1, f"host{n + 1}", link[0]) for n, link in enumerate(links)]
        self.dogs = [self.dog(0, others)]
        self.dogs += [self.dog(n + 1, [Peer(0, "host0", k[1])]) for n, k in enumerate(links)]

    def dog(self, rank: int, peers: list[Peer]) -> Watchdog:
        end: Callable[[int], None] = lambda code: self.ended.put((rank, code))  # noqa: E731
        return Watchdog(rank, peers, LIMIT_SECONDS, end)

    def ends(self, count: int) -> list[tuple[int, int]]:
        """The next so many, sorted by rank."""
        return sorted(self.ended.get(timeout=PATIENCE_SECONDS) for _ in range(count))


@pytest.fixture
def pack() -> Iterator[Pack]:
    pack = Pack()
    yield pack
    for dog in pack.dogs:
        if dog._thread.ident is not None:
            dog._closing = True
            dog._wake()
            dog._thread.join()
        dog._woken.close()
        dog._waker.close()
    for end in pack.sockets:
        end.close()


def start(dogs: list[Watchdog]) -> None:
    """Without the signals, which are the tests' own."""
    for dog in dogs:
        dog._thread.start()


def test_ranks_that_live_end_nothing(pack: Pack, capfd: pytest.CaptureFixture[str]) -> None:
    start(pack.dogs)
    time.sleep(2 * LIMIT_SECONDS)
    for dog in pack.dogs:
        dog._closing = True
        dog._wake()
    for dog in pack.dogs:
        dog._thread.join()
    assert pack.ended.empty()
    assert capfd.readouterr().err == ""


def test_one_that_dies_is_named_by_rank_0(pack: Pack, capfd: pytest.CaptureFixture[str]) -> None:
    start(pack.dogs[:2])
    pack.sockets[3].close()
    assert pack.ends(2) == [(0, LOST), (1, LOST)]
    error = capfd.readouterr().err
    assert error.startswith("fednas_jax: error: rank 2 on host2 died; the same command goes on")
    assert error.count("\n") == 1


def test_one_that_falls_silent_is_given_up(pack: Pack, capfd: pytest.CaptureFixture[str]) -> None:
    start([pack.dogs[0], pack.dogs[2]])
    begun = time.monotonic()
    assert pack.ends(2) == [(0, LOST), (2, LOST)]
    assert time.monotonic() - begun >= LIMIT_SECONDS
    error = capfd.readouterr().err
    assert error.startswith("fednas_jax: error: rank 1 on host1 has not been heard of for 1 s; ")
    assert error.count("\n") == 1


def test_rank_1_says_that_rank_0_is_gone(pack: Pack, capfd: pytest.CaptureFixture[str]) -> None:
    start(pack.dogs[1:])
    for end in pack.sockets[::2]:
        end.close()
    assert pack.ends(2) == [(1, LOST), (2, LOST)]
    error = capfd.readouterr().err
    assert error.startswith("fednas_jax: error: rank 0 on host0 died; ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("rank", "says"), [(0, "all is wrong"), (2, "rank 2 on host2: all is wrong")]
)
def test_who_gives_up_ends_all_with_its_code(
    pack: Pack, capfd: pytest.CaptureFixture[str], rank: int, says: str
) -> None:
    start(pack.dogs)
    pack.dogs[rank].give_up(Fault("all is wrong", 2))
    assert pack.ends(3) == [(0, 2), (1, 2), (2, 2)]
    assert capfd.readouterr().err == f"fednas_jax: error: {says}\n"


def test_who_is_late_for_a_barrier_is_known(pack: Pack) -> None:
    start(pack.dogs)
    for rank in (0, 0, 1, 1, 2):
        pack.dogs[rank].reach_barrier()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while [p.rank for p in pack.dogs[0].missing()] != [2] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [peer.rank for peer in pack.dogs[0].missing()] == [2]


@pytest.mark.parametrize("signalled", [0, 2])
def test_sigterm_interrupts_rank_0_and_ends_all_if_that_does_nothing(
    pack: Pack, capfd: pytest.CaptureFixture[str], signalled: int
) -> None:
    def wait() -> None:
        if signalled:  # which tells rank 0
            pack.dogs[signalled]._tell({"error": "interrupted", "code": TERMINATED})
        else:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE_SECONDS)

    try:
        with signals.raised():
            pack.dogs[0].start()
            start(pack.dogs[1:])
            with pytest.raises(signals.Terminated):
                wait()
            assert pack.ended.empty()
            assert pack.ends(3) == [(rank, TERMINATED) for rank in range(3)]
    finally:
        signal.set_wakeup_fd(-1)
    assert capfd.readouterr().err == "fednas_jax: error: terminated\n"
