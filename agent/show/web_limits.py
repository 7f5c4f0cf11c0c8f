"""What a peer of the agent's port can cost: uvicorn's HTTP/1.1 protocol with bounds, and names it answers to.

The port is open to the pod network without a password, so nobody may hold connections that stand in the way
of the kubelet's probes: a head that does not come ends its connection, and above `CONNECTIONS_MAX` the oldest
connection that is not being answered makes room.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

CONNECTIONS_MAX = 256
HEAD_SECONDS_MAX = 10.0
_CLUSTER_NAME = re.compile(r"[a-z0-9.-]+\.svc(\.[a-z0-9.-]+)?")


class BoundedProtocol(H11Protocol):
    """One connection. A request's head must have come whole within `HEAD_SECONDS_MAX` of its first wait."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_timer: asyncio.TimerHandle | None = None
        self._opened_at = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, in the place of the oldest idle one where there are too many."""
        super().connection_made(transport)
        self._opened_at = self.loop.time()
        self._await_head()
        if len(self.connections) > CONNECTIONS_MAX:
            _oldest_idle(self.connections, self).transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read; the time of a head runs from its first byte to its last."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._forget_head()
        elif self._head_timer is None:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._forget_head()
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being answered on it."""
        return self.cycle is None or self.cycle.response_complete

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS_MAX, self.transport.abort)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def _oldest_idle(connections: Iterable[Any], newest: BoundedProtocol) -> BoundedProtocol:
    """Choose who makes room: of those that are not being answered the oldest, else the newcomer itself."""
    idle = [one for one in connections if isinstance(one, BoundedProtocol) and one.is_idle]
    return min(idle, key=lambda one: one._opened_at, default=newest)  # noqa: SLF001 - of its own class


def is_our_name(host: str, allowed: Iterable[str] = ()) -> bool:
    """Whether a Host header can be meant for this agent.

    A page of a stranger that lets its own name point here (DNS rebinding) could otherwise read the names of
    volumes through a browser that has a port-forward open. Ours are addresses, names without a dot, names of
    Services, and what the operator allows.
    """
    name = _without_port(host).lower().rstrip(".")
    if not name or name in allowed:
        return bool(name)
    try:
        ipaddress.ip_address(name.strip("[]").partition("%")[0])
    except ValueError:
        return "." not in name or name == socket.gethostname().lower() or bool(_CLUSTER_NAME.fullmatch(name))
    return True


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0] if host.count(":") == 1 else host
