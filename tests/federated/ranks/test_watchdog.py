"""Watchdogs in one process, each in its thread, with a clock that the tests set.

And with an end that ends nothing.
"""

import math
import os
import queue
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from fednas_jax.federated.ranks.watchdog import LOST, TERMINATED, Fault, Peer, Watchdog
from fednas_jax.runtime import signals

LIMIT_SECONDS = 8.0
"""By the tests' clock."""

STEP_SECONDS = LIMIT_SECONDS / 4
"""Less than half of the limit, after which a process takes itself for one that stood still."""

PATIENCE_SECONDS = 60
"""By the real clock, until a test fails that would wait for ever."""


class Pack:
    """Rank 0 and two others; what ends is written down."""

    def __init__(self) -> None:
        self.ended: queue.Queue[tuple[int, int]] = queue.Queue()
        self.seconds = 100.0
        links = [socket.socketpair() for _ in range(2)]
        self.sockets = [end for link in links for end in link]
        others = [Peer(n + 1, f"host{n + 1}", link[0]) for n, link in enumerate(links)]
        self.dogs = [self.dog(0, others)]
        self.dogs += [self.dog(n + 1, [Peer(0, "host0", k[1])]) for n, k in enumerate(links)]

    def dog(self, rank: int, peers: list[Peer]) -> Watchdog:
        end: Callable[[int], None] = lambda code: self.ended.put((rank, code))  # noqa: E731
        return Watchdog(rank, peers, LIMIT_SECONDS, end, lambda: self.seconds)

    def ends(self, count: int) -> list[tuple[int, int]]:
        """The next so many, sorted by rank."""
        return sorted(self.ended.get(timeout=PATIENCE_SECONDS) for _ in range(count))

    def heard(self, listener: int, speaker: int) -> float:
        """When a rank last heard of another, by the tests' clock."""
        peers = self.dogs[listener]._peers
        return next(peer.heard for peer in peers if peer.rank == speaker)

    def advance(self, seconds: float, links: list[tuple[int, int]]) -> None:
        """Sets the clock, and waits until these ranks have heard of each other at the new time."""
        self.seconds += seconds
        for rank in {rank for link in links for rank in link}:
            self.dogs[rank]._wake()
        both = [pair for one, two in links for pair in ((one, two), (two, one))]
        wait_until(lambda: all(self.heard(*pair) == self.seconds for pair in both))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("waited for in vain")
        time.sleep(0.001)


ALL = [(0, 1), (0, 2)]


@pytest.fixture
def pack() -> Iterator[Pack]:
    pack = Pack()
    yield pack
    for dog in pack.dogs:
        if dog._thread.ident is not None:
            dog._ended = True
            dog._wake()
            dog._thread.join()
        dog._woken.close()
        dog._waker.close()
    for end in pack.sockets:
        end.close()


def start(dogs: list[Watchdog]) -> None:
    """Without the signals, which are the tests' own; returns when all watch."""
    for dog in dogs:
        dog._thread.start()
    wait_until(lambda: all(peer.heard > -math.inf for dog in dogs for peer in dog._peers))


def test_ranks_that_live_end_nothing(pack: Pack, capfd: pytest.CaptureFixture[str]) -> None:
    start(pack.dogs)
    for _ in range(9):  # more than two limits
        pack.advance(STEP_SECONDS, ALL)
    for dog in pack.dogs:
        dog._closing = True
        dog._wake()
    for dog in pack.dogs:
        dog._thread.join()
    assert pack.ended.empty()
    assert capfd.readouterr().err == ""


def test_nobody_leaves_before_all_have_said_goodbye(pack: Pack) -> None:
    """Who closes a connection with unread messages takes back its own goodbye (see `close`)."""
    start(pack.dogs)
    for dog in pack.dogs[1:]:
        dog._closing = True
        dog._wake()
    wait_until(lambda: all(peer.done for peer in pack.dogs[0]._peers))
    assert all(dog._thread.is_alive() for dog in pack.dogs)
    pack.dogs[0]._closing = True
    pack.dogs[0]._wake()
    for dog in pack.dogs:
        dog._thread.join(PATIENCE_SECONDS)
    assert not any(dog._thread.is_alive() for dog in pack.dogs)
    assert pack.ended.empty()


def test_who_dies_after_all_is_done_is_no_fault(
    pack: Pack, capfd: pytest.CaptureFixture[str]
) -> None:
    start(pack.dogs[:1])
    pack.dogs[0]._closing = True
    for end in pack.sockets[1::2]:
        end.close()
    pack.dogs[0]._wake()
    pack.dogs[0]._thread.join(PATIENCE_SECONDS)
    assert not pack.dogs[0]._thread.is_alive()
    assert pack.ended.empty()
    assert capfd.readouterr().err == ""


def test_one_that_dies_is_named_by_rank_0(pack: Pack, capfd: pytest.CaptureFixture[str]) -> None:
    start(pack.dogs[:2])
    pack.sockets[3].close()
    assert pack.ends(2) == [(0, LOST), (1, LOST)]
    error = capfd.readouterr().err
    assert error.startswith("fednas_jax: error: rank 2 on host2 died; the same command resumes")
    assert error.count("\n") == 1


def test_one_that_falls_silent_is_given_up(pack: Pack, capfd: pytest.CaptureFixture[str]) -> None:
    start([pack.dogs[0], pack.dogs[2]])
    for _ in range(4):  # just the limit
        pack.advance(STEP_SECONDS, [(0, 2)])
    assert pack.ended.empty()
    pack.seconds += STEP_SECONDS
    pack.dogs[0]._wake()
    assert pack.ends(2) == [(0, LOST), (2, LOST)]
    error = capfd.readouterr().err
    assert error.startswith("fednas_jax: error: rank 1 on host1 has not responded for 10 s; ")
    assert error.count("\n") == 1


def test_who_stood_still_gives_nobody_up_and_blames_nobody(
    pack: Pack, capfd: pytest.CaptureFixture[str]
) -> None:
    start([pack.dogs[0], pack.dogs[2]])
    # As after a stop of the machine: everybody's clock is far on. Rank 1 has said nothing at all.
    pack.advance(5 * LIMIT_SECONDS, [(0, 2)])
    assert pack.heard(0, 1) == pack.seconds
    assert pack.ended.empty()
    pack.sockets[3].shutdown(socket.SHUT_RDWR)
    assert pack.ends(2) == [(0, LOST), (2, LOST)]
    assert capfd.readouterr().err == "", "the others have given it up, and have said so"


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
    wait_until(lambda: [peer.rank for peer in pack.dogs[0].missing()] == [2])
    assert pack.dogs[2].reach_barrier() == 2
    wait_until(lambda: pack.dogs[0].missing() == [])


@pytest.mark.parametrize("signalled", [0, 2])
def test_sigterm_interrupts_rank_0_and_ends_all_if_that_does_nothing(
    pack: Pack, capfd: pytest.CaptureFixture[str], signalled: int
) -> None:
    def wait() -> None:
        if signalled:  # which tells rank 0
            pack.dogs[signalled]._tell({"error": "interrupted", "code": TERMINATED})
        else:
            os.kill(os.getpid(), signal.SIGTERM)
            wait_until(lambda: pack.dogs[0]._interrupt_at < math.inf)
            assert not pack.dogs[0]._interrupted, "which rank died is to be read first"
            pack.advance(STEP_SECONDS, ALL)
        time.sleep(PATIENCE_SECONDS)

    try:
        with signals.raised():
            pack.dogs[0].start()
            start(pack.dogs[1:])
            with pytest.raises(signals.Terminated):
                wait()
            for _ in range(3):
                pack.advance(STEP_SECONDS, ALL)
            assert pack.ended.empty(), "there is a checkpoint to write"
            pack.seconds += STEP_SECONDS
            pack.dogs[0]._wake()
            assert pack.ends(3) == [(rank, TERMINATED) for rank in range(3)]
    finally:
        signal.set_wakeup_fd(-1)
    assert capfd.readouterr().err == "fednas_jax: error: terminated\n"
