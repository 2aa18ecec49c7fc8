"""Ends all ranks of a run when one of them dies, hangs or gives up, with one line that names it.

A rank that waits inside an MPI collective cannot be interrupted, and would wait for ever for a rank
that died. Therefore each rank also has a TCP connection to rank 0, served by a separate thread. A
process that dies closes its connections at once; one that was stopped, or whose host is down, sends
no more messages. Rank 0 watches all other ranks, and they watch rank 0. A rank that detects a fault
informs the others and ends its own process by `os._exit`, since the main thread may be inside a
collective.

Messages are lines of JSON: {"beat": n} (alive; n barriers reached), {"error": line, "code": c}
(give up; to rank 0), {"end": c} (end with this code; from rank 0) and {"bye": true} (all is done).

SIGTERM or SIGUSR1 to any rank, or Ctrl-C, interrupts the main thread of rank 0, which writes a
checkpoint and then ends all ranks. If it is inside a collective it does not react, and its watchdog
ends all ranks after the time limit. SIGUSR1 is handled because Open MPI's mpirun only passes it on;
after SIGTERM it kills the ranks within a quarter of a second.
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
"""Number of heartbeats within the time after which a silent rank counts as lost."""

_LONGEST_LINE = 10_000
_GRACE_SECONDS = 0.5
"""Delay after SIGTERM: a launcher that finds a dead rank terminates the others, and the line that
names the dead rank must come first."""


class Peer:
    """Another rank, at the other end of a connection."""

    def __init__(self, rank: int, host: str, connection: socket.socket) -> None:
        """Args: rank and host, for messages; connection, which is open."""
        self.rank, self.host, self.connection = rank, host, connection
        self.heard = -math.inf  # the watchdog sets it when it starts
        self.barriers = 0
        self.done = False
        self.rest = b""

    def __str__(self) -> str:
        return f"rank {self.rank} on {self.host}"


class Fault(NamedTuple):
    """Why a run ends."""

    line: str
    """Message for the user; "" where another rank prints it."""
    code: int


class Watchdog:
    """A thread that sends heartbeats, receives messages, and ends the process at a fault."""

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
          rank: number of this process.
          peers: on rank 0 all other ranks, on other ranks rank 0.
          limit_seconds: time without a heartbeat after which a peer counts as lost.
          end: called with the exit code at a fault, from the thread, after the fault was printed
            and sent to the peers.
          clock: returns seconds since an arbitrary moment.
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
        """Starts the thread: faults end the process. In the main thread, SIGTERM ends it too.

        The previous handler of SIGTERM is called, in the main thread, when this rank should end.
        """
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGTERM)
            self._handles = callable(before)

            def handle(number: int, frame: Any) -> None:
                if self._interrupted and number == signal.SIGTERM and callable(before):
                    before(number, frame)

            # No handler runs while the main thread is inside a collective. Therefore the thread
            # reads the number of the signal, which Python writes to its socket.
            for number in _ASK_TO_END:
                signal.signal(number, handle)
            signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._thread.start()

    def reach_barrier(self) -> int:
        """Counts a barrier that this rank has reached, and reports it; returns their number."""
        self._barriers += 1
        self._wake()
        return self._barriers

    def missing(self) -> list[Peer]:
        """The peers that have not reached the barrier of this rank; for rank 0."""
        return [peer for peer in self._peers if peer.barriers < self._barriers]

    def give_up(self, fault: Fault) -> None:
        """Ends all ranks with a code; rank 0 prints the line. Returns only in tests."""
        self._given_up = fault
        self._wake()
        self._thread.join()

    def close(self) -> None:
        """Ends the thread after all ranks have finished and all peers have said goodbye.

        The system resets a connection that is closed with unread messages, and drops unsent data.
        Without waiting, the goodbye could be lost, and the peer would report this rank as dead.
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
                if now - ticked > self._limit / 2:  # this process itself was stopped
                    self._stood_still = now
                    for peer in self._peers:
                        peer.heard = now
                ticked = now
                # Peers first: in order of registration, own signals would come before a peer's end.
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
        """Sends a heartbeat; or, as the last message, that this rank is done."""
        if not self._closing:
            self._tell({"beat": self._barriers})
        elif not self._said_goodbye:
            self._said_goodbye = True
            self._tell({"bye": True})

    def _all_said_goodbye(self) -> bool:
        return self._said_goodbye and all(peer.done for peer in self._peers)

    def _wake_up(self, now: float) -> None:
        """Handles events of this process: a signal, another barrier, or that it gives up."""
        if set(_ASK_TO_END) & set(self._woken.recv(4096)):
            self._interrupt_at = min(self._interrupt_at, now + _GRACE_SECONDS)
        if self._given_up is not None:
            self._pass_on(self._given_up)

    def _hear(self, peer: Peer, selector: selectors.BaseSelector) -> None:
        """Receives messages from a peer."""
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
        """The time at which to react to SIGTERM next."""
        return self._terminate_at if self._interrupted else self._interrupt_at

    def _interrupt(self, now: float) -> None:
        """Interrupts the main thread of rank 0 if it handles signals, and sets a time limit."""
        self._interrupted = True
        self._terminate_at = now + (self._limit if self._rank or self._handles else 0)
        if self._rank:  # this rank continues: rank 0 may be inside a collective with it
            self._tell({"error": "", "code": TERMINATED})
        if self._rank or not self._handles:
            return
        # A real signal, since it wakes a sleeping thread.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def _look_around(self, now: float) -> None:
        if now >= self._terminate_at:
            self._finish(Fault(self._mine("terminated"), TERMINATED))
        elif now >= self._interrupt_at and not self._interrupted:
            self._interrupt(now)
        for peer in self._peers:
            if not peer.done and now - peer.heard > self._limit:
                self._lost(peer, f"has not responded for {now - peer.heard:.0f} s")
        if os.getppid() != self._parent:
            self._finish(Fault(self._mine("the launcher of the ranks has ended"), LOST))

    def _lost(self, peer: Peer, how: str) -> None:
        """Reports a lost peer: rank 0 prints the line, or rank 1 where rank 0 is lost.

        A rank that was itself stopped prints nothing: the others have reported it as lost. While
        this rank closes, all ranks are done, and none can be lost.
        """
        if self._closing:
            peer.done = True
            return
        says = self._rank == 0 or (peer.rank == 0 and self._rank == 1)
        says = says and self._clock() - self._stood_still > self._limit / 2
        again = "the same command resumes after the last checkpoint"
        self._finish(Fault(f"{peer} {how}; {again}" if says else "", LOST))

    def _mine(self, line: str) -> str:
        return line if self._rank == 0 else ""

    def _pass_on(self, fault: Fault) -> None:
        """Handles a fault of this rank: rank 0 ends all ranks, another rank informs rank 0."""
        if self._rank == 0:
            self._finish(fault)
            return
        self._tell({"error": fault.line[:_LONGEST_LINE], "code": fault.code})
        self._given_up = None  # if rank 0 does not react within `_limit`, it counts as lost

    def _finish(self, fault: Fault) -> None:
        if self._ended:
            return
        self._ended = True
        if fault.line:  # printed first, since the launcher ends all ranks when one has ended
            os.write(2, f"fednas_jax: error: {fault.line}\n".encode())
        if self._rank == 0:
            self._tell({"end": fault.code})
        self._end(fault.code)

    def _tell(self, message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        for peer in self._peers:
            # A full buffer means that the peer does not read, and it will count as lost.
            with contextlib.suppress(OSError):
                peer.connection.send(line)
