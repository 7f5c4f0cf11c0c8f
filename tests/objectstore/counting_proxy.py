"""A TCP proxy that notes when how many bytes passed it, by its own clock.

On a busy machine the proxy itself may stand still, and what came meanwhile passes at once. Its stretches of standing
still are noted too, so that a limit can be judged by time in which the proxy was awake.
"""

from __future__ import annotations

import bisect
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

PIECE_BYTES = 64 << 10
BEAT_SECONDS = 0.01


@dataclass
class Passed:
    """What passed in one direction: times and bytes, in order."""

    times: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    _noting: threading.Lock = field(default_factory=threading.Lock)

    def note(self, length: int) -> None:
        """So many bytes pass now."""
        with self._noting:
            self.times.append(time.monotonic())
            self.lengths.append(length)

    def total(self) -> int:
        """All bytes."""
        return sum(self.lengths)


@dataclass
class CountingProxy:
    """A running proxy."""

    port: int
    is_tunnel: bool = False
    upward: Passed = field(default_factory=Passed)
    downward: Passed = field(default_factory=Passed)
    beats: list[float] = field(default_factory=list)

    def excess(self, passed: Passed, bytes_per_second: float, window_seconds: float) -> float:
        """The largest part of what a limit allows that passed in any window; 1.0 is the limit exactly.

        A window counts as longer by what the proxy stood still in it, or right before it.
        """
        sums = [0, *itertools.accumulate(passed.lengths)]
        worst = 0.0
        for first, begin in enumerate(passed.times):
            after = bisect.bisect_right(passed.times, begin + window_seconds)
            seconds = window_seconds + self._stood_still(begin, begin + window_seconds)
            worst = max(worst, (sums[after] - sums[first]) / (bytes_per_second * seconds))
        return worst

    def _stood_still(self, begin: float, end: float) -> float:
        """Seconds between beats beyond their length, in all that touches the window."""
        low = max(bisect.bisect_left(self.beats, begin) - 2, 0)
        seen = self.beats[low : bisect.bisect_right(self.beats, end) + 1]
        return sum(
            max(later - earlier - 2 * BEAT_SECONDS, 0.0) for earlier, later in itertools.pairwise(seen)
        )


@contextmanager
def counting_proxy(upstream_port: int, *, is_tunnel: bool = False) -> Iterator[CountingProxy]:
    """A proxy before `upstream_port` while the block runs; as a tunnel one that clients ask for by `CONNECT`."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = CountingProxy(listener.getsockname()[1], is_tunnel=is_tunnel)
        threads = [
            threading.Thread(target=_beat, args=(proxy.beats, over), daemon=True),
            threading.Thread(target=_serve, args=(proxy, listener, upstream_port), daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            yield proxy
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)


def _beat(beats: list[float], over: threading.Event) -> None:
    while not over.wait(BEAT_SECONDS):
        beats.append(time.monotonic())


def _serve(proxy: CountingProxy, listener: socket.socket, upstream_port: int) -> None:
    with suppress(OSError):  # the end of the block
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", upstream_port))
            threading.Thread(target=_carry, args=(proxy, client, server), daemon=True).start()


def _carry(proxy: CountingProxy, client: socket.socket, server: socket.socket) -> None:
    with client, server:
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if proxy.is_tunnel:
            _agree(client)
        down = threading.Thread(target=_pump, args=(server, client, proxy.downward), daemon=True)
        down.start()
        _pump(client, server, proxy.upward)
        down.join()


def _agree(client: socket.socket) -> None:
    """Answers `CONNECT`; what follows is the client's."""
    asked = b""
    while not asked.endswith(b"\r\n\r\n"):
        asked += client.recv(1)
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")


def _pump(source: socket.socket, target: socket.socket, passed: Passed) -> None:
    with suppress(OSError):
        while piece := source.recv(PIECE_BYTES):
            passed.note(len(piece))
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
