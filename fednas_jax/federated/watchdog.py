"""Ends all ranks of a run when one of them dies, hangs or gives up, with one line that says which.

A rank that waits inside an MPI collective cannot be interrupted, and would wait for a dead peer
for ever. So beside MPI each rank holds a TCP connection to rank 0 in a thread of its own. A process
that dies closes its connections at once; one that is stopped, or whose host is gone, falls silent.
Rank 0 watches all others, they watch rank 0, and who sees a fault tells the rest and ends the
process itself: `os._exit`, since the main thread may be where nothing reaches it.

Messages are lines of JSON: {"beat": n} (alive; n barriers reached), {"error": line, "code": c}
(give up; to rank 0), {"end": c} (end with this code; from rank 0) and {"bye": true} (all is done).

SIGTERM or SIGUSR1 to any rank, or Ctrl-C, interrupts rank 0's main thread, which has a checkpoint
to write and then gives up for all. Where it stands in a collective it does not react, and the
thread ends all after the time limit. SIGUSR1 since Open MPI's mpirun hands it on and no more; after
SIGTERM it kills the ranks within a quarter of a second.
"""

import contextlib
import json
import math
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

LOST = 3
"""Exit code of a rank that ends because another was lost."""

TERMINATED = 128 + signal.SIGTERM
_ASK_TO_END = signal.SIGTERM, signal.SIGUSR1
_INTERRUPTED = 128 + signal.SIGINT, TERMINATED

BEATS_PER_LIMIT = 6
"""Heartbeats within the time after which a silent rank is given up."""

_LONGEST_LINE = 10_000
_GRACE_SECONDS = 0.5
"""From SIGTERM to the end: a launcher that finds a dead rank terminates the others, and which rank
it was is to be read first."""


class Peer:
    """Another rank, at the other end of a connection."""

    def __init__(self, rank: int, host: str, connection: socket.socket) -> None:
        """Args: rank and host, for people; connection, open."""
        self.rank, self.host, self.connection = rank, host, connection
        self.heard = -math.inf  # the watchdog counts from its start
        self.barriers = 0
        self.done = False
        self.rest = b""

    def __str__(self) -> str:
        return f"rank {self.rank} on {self.host}"


class Fault(NamedTuple):
    """Why a run ends."""

    line: str
    """For people; "" where another rank says it."""
    code: int


class Watchdog:
    """A thread that beats, listens, and ends the process at a fault."""

    def __init__(
        self,
        rank: int,
        peers: list[Peer],
        limit_seconds: float,
        end: Callable[[int], None] = os._exit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepares; `start` starts.

        Args:
          rank: of this process.
          peers: of rank 0 all others, of the others rank 0 alone.
          limit_seconds: after so long without a heartbeat a peer is given up.
          end: takes the exit code at a fault, after it was said and the peers were told; called
            from the thread.
          clock: seconds since any one moment.
        """
        self._rank, self._peers, self._limit, self._end = rank, peers, limit_seconds, end
        self._clock = clock
        self._barriers = 0
        self._given_up: Fault | None = None
        self._ended = self._closing = self._said_goodbye = False
        self._interrupt_at = self._terminate_at = math.inf
        self._stood_still = -math.inf
        self._interrupted = self._handles = False
        self._parent = os.getppid()
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """From here on faults end the process. In the main thread SIGTERM does so too.

        What handled SIGTERM before is called, in the main thread, when it is this rank's to end.
        """
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGTERM)
            self._handles = callable(before)

            def handle(number: int, frame: Any) -> None:
                if self._interrupted and number == signal.SIGTERM and callable(before):
                    before(number, frame)

            # The main thread may be in a collective, where no handler runs: the number of the
            # signal is written to the thread's socket, and that is what is heeded.
            for number in _ASK_TO_END:
                signal.signal(number, handle)
            signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._thread.start()

    def reach_barrier(self) -> int:
        """Counts a barrier that this rank stands at, and tells; returns how many there were."""
        self._barriers += 1
        self._wake()
        return self._barriers

    def missing(self) -> list[Peer]:
        """Of rank 0: who has not come to the barrier that this rank stands at."""
        return [peer for peer in self._peers if peer.barriers < self._barriers]

    def give_up(self, fault: Fault) -> None:
        """Ends all ranks with a code; rank 0 prints the line. Does not return, but in tests."""
        self._given_up = fault
        self._wake()
        self._thread.join()

    def close(self) -> None:
        """Ends watching, once all peers have said goodbye. All ranks are done, and know it.

        The system resets a connection that is closed with unread messages, and drops what it has
        not sent yet. The goodbye would be lost, and the peer would report this rank as dead.
        """
        self._closing = True
        self._wake()
        self._thread.join()
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(-1)
            for number in _ASK_TO_END:
                signal.signal(number, signal.SIG_DFL)
        for peer in self._peers:
            peer.connection.close()
        self._woken.close()
        self._waker.close()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._waker.send(b"\0")

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            pause, ticked, due = self._limit / BEATS_PER_LIMIT, self._clock(), 0.0
            for peer in self._peers:
                peer.heard = ticked
                peer.connection.setblocking(False)
                selector.register(peer.connection, selectors.EVENT_READ, peer)
            while not self._ended and not self._all_said_goodbye():
                until = min(due, self._next())
                events = selector.select(max(0.0, until - self._clock()))
                now = self._clock()
                if now - ticked > self._limit / 2:  # it was this process that stood still
                    self._stood_still = now
                    for peer in self._peers:
                        peer.heard = now
                ticked = now
                # In the order of their registration, own signals would come before a peer's end.
                heard = [key.data for key, _ in events if key.data]
                for peer in heard:
                    self._hear(peer, selector)
                if len(heard) < len(events):
                    self._wake_up(now)
                    due = now
                if now >= due:
                    self._speak()
                    due = now + pause
                self._look_around(now)

    def _speak(self) -> None:
        """Says that this rank lives; or, as the last word, that it is done."""
        if not self._closing:
            self._tell({"beat": self._barriers})
        elif not self._said_goodbye:
            self._said_goodbye = True
            self._tell({"bye": True})

    def _all_said_goodbye(self) -> bool:
        return self._said_goodbye and all(peer.done for peer in self._peers)

    def _wake_up(self, now: float) -> None:
        """Sees to what comes from this process: a signal, another barrier, that it gives up."""
        if set(_ASK_TO_END) & set(self._woken.recv(4096)):
            self._interrupt_at = min(self._interrupt_at, now + _GRACE_SECONDS)
        if self._given_up is not None:
            self._pass_on(self._given_up)

    def _hear(self, peer: Peer, selector: selectors.BaseSelector) -> None:
        """Takes what has come from a peer."""
        try:
            received = peer.connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            selector.unregister(peer.connection)
            if not peer.done:
                self._lost(peer, "died")
            return
        peer.heard = self._clock()
        *lines, peer.rest = (peer.rest + received).split(b"\n")
        for line in lines:
            self._heed(peer, json.loads(line))

    def _heed(self, peer: Peer, message: dict[str, Any]) -> None:
        if "beat" in message:
            peer.barriers = message["beat"]
        elif "error" in message:
            self._heed_error(peer, message["error"], message["code"])
        elif "end" in message:
            self._finish(Fault("", message["end"]))
        elif "bye" in message:
            peer.done = True

    def _heed_error(self, peer: Peer, line: str, code: int) -> None:
        if code in _INTERRUPTED:
            self._interrupt_at = min(self._interrupt_at, self._clock())
        else:
            self._finish(Fault(f"{peer}: {line}" if line else "", code))

    def _next(self) -> float:
        """When SIGTERM is to be heeded next."""
        return self._terminate_at if self._interrupted else self._interrupt_at

    def _interrupt(self, now: float) -> None:
        """Has rank 0's main thread end, if it would, and sees to it that all do."""
        self._interrupted = True
        self._terminate_at = now + (self._limit if self._rank or self._handles else 0)
        if self._rank:  # it stays in the round: rank 0 may be in a collective with it
            self._tell({"error": "", "code": TERMINATED})
        if self._rank or not self._handles:
            return
        # A real one, since it wakes a thread that sleeps.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def _look_around(self, now: float) -> None:
        if now >= self._terminate_at:
            self._finish(Fault(self._mine("terminated"), TERMINATED))
        elif now >= self._interrupt_at and not self._interrupted:
            self._interrupt(now)
        for peer in self._peers:
            if not peer.done and now - peer.heard > self._limit:
                self._lost(peer, f"has not been heard of for {now - peer.heard:.0f} s")
        if os.getppid() != self._parent:
            self._finish(Fault(self._mine("what started the ranks is gone"), LOST))

    def _lost(self, peer: Peer, how: str) -> None:
        """Rank 0 says so; where it is rank 0 itself, the next one does.

        Who has just stood still says nothing: the others have given it up, and have said so.
        While this rank closes all are done, and none can be lost.
        """
        if self._closing:
            peer.done = True
            return
        says = self._rank == 0 or (peer.rank == 0 and self._rank == 1)
        says = says and self._clock() - self._stood_still > self._limit / 2
        again = "the same command goes on after the last checkpoint"
        self._finish(Fault(f"{peer} {how}; {again}" if says else "", LOST))

    def _mine(self, line: str) -> str:
        return line if self._rank == 0 else ""

    def _pass_on(self, fault: Fault) -> None:
        """What this rank gives up for: rank 0 ends all, another leaves it to rank 0."""
        if self._rank == 0:
            self._finish(fault)
            return
        self._tell({"error": fault.line[:_LONGEST_LINE], "code": fault.code})
        self._given_up = None  # and `_limit` later rank 0 is given up

    def _finish(self, fault: Fault) -> None:
        if self._ended:
            return
        self._ended = True
        if fault.line:  # first of all: what started the ranks ends all when one has ended
            os.write(2, f"fednas_jax: error: {fault.line}\n".encode())
        if self._rank == 0:
            self._tell({"end": fault.code})
        self._end(fault.code)

    def _tell(self, message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        for peer in self._peers:
            # A full buffer is that of a peer which hears nothing, and will be given up.
            with contextlib.suppress(OSError):
                peer.connection.send(line)
