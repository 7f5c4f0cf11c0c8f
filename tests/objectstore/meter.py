"""A wire with a meter: passes connections on to a server and notes when how many bytes went either way."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_PIECE_BYTES = 16 << 10
_BUFFER_BYTES = 32 << 10
"""Of the socket towards the client: what waits in it has not arrived."""


@dataclass
class Flow:
    """One direction: when how many bytes passed."""

    passed: list[tuple[float, int]] = field(default_factory=list)

    def total(self) -> int:
        """Bytes so far."""
        return sum(count for _, count in self.passed)

    def most_in(self, seconds: float) -> int:
        """The most bytes that passed within any stretch of time of this length."""
        most = current = begin = 0
        passed = sorted(self.passed)
        for at, count in passed:
            current += count
            while passed[begin][0] <= at - seconds:
                current -= passed[begin][1]
                begin += 1
            most = max(most, current)
        return most


@dataclass
class Meter:
    """What a wire has seen; clients connect to `port`."""

    port: int
    up: Flow = field(default_factory=Flow)
    down: Flow = field(default_factory=Flow)

    def reset(self) -> None:
        """Counts from here."""
        self.up.passed.clear()
        self.down.passed.clear()


def _pass_on(source: socket.socket, target: socket.socket, flow: Flow) -> None:
    with suppress(OSError):
        while piece := source.recv(_PIECE_BYTES):
            target.sendall(piece)
            flow.passed.append((time.monotonic(), len(piece)))
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _serve(client: socket.socket, server_port: int, meter: Meter) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    with client, socket.create_connection(("127.0.0.1", server_port)) as server:
        up = threading.Thread(target=_pass_on, args=(client, server, meter.up), daemon=True)
        up.start()
        _pass_on(server, client, meter.down)
        up.join()


def _accept(listener: socket.socket, server_port: int, meter: Meter) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_serve, args=(client, server_port, meter), daemon=True).start()


@contextmanager
def metered(server_port: int) -> Iterator[Meter]:
    """A wire to a server on loopback while the block runs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        meter = Meter(listener.getsockname()[1])
        threading.Thread(target=_accept, args=(listener, server_port, meter), daemon=True).start()
        try:
            yield meter
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
