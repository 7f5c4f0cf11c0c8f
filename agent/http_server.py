"""`/metrics`, `/healthz`, `/readyz`, `/api/moves` and the status page: the only module with a web server.

aiohttp's, because the Kubernetes client brings aiohttp along anyway (docs/design/0004-web-server.md).
`/healthz` proves that the watches move (the API server sends bookmarks about once a minute, so silence means
a stuck loop or a lost connection) and that looks at moves end. Everything is read-only; nothing here is
secret beyond names of volumes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import re
import socket
from importlib.resources import files
from typing import TYPE_CHECKING

from aiohttp import web

from agent.board import board

if TYPE_CHECKING:
    from agent.agent import Agent

_SILENCE_SECONDS_MAX = 300.0
_LOOK_SECONDS_MAX = 600.0
_UNAVAILABLE = 503
_PORT_MAX = 65535
_SHUTDOWN_SECONDS = 2.0
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class ListenError(OSError):
    """The address for metrics and page cannot be listened on."""


def build_app(agent: Agent) -> web.Application:
    """Build the application of one agent."""
    app = web.Application()
    page = files("agent").joinpath("page.html").read_text(encoding="utf-8")
    policy = content_security_policy(page)

    async def healthz(_request: web.Request) -> web.Response:
        text = trouble(agent.silent_seconds(), agent.world.queue.longest_look_seconds())
        return web.Response(text=text or "ok", status=_UNAVAILABLE if text else 200)

    async def readyz(_request: web.Request) -> web.Response:
        ready = agent.ready.is_set()
        text = "ok" if ready else "caches are being filled"
        return web.Response(text=text, status=200 if ready else _UNAVAILABLE)

    async def metrics(_request: web.Request) -> web.Response:
        agent.gauge()
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=agent.world.metrics.render(), headers=headers)

    async def moves(_request: web.Request) -> web.Response:
        document = board(agent.world) | {
            "ready": agent.ready.is_set(),
            "silentSeconds": int(agent.silent_seconds()),
        }
        text = json.dumps(document, separators=(",", ":"))
        return web.Response(text=text, content_type="application/json", headers=_HEADERS)

    async def index(_request: web.Request) -> web.Response:
        headers = _HEADERS | {"Content-Security-Policy": policy}
        return web.Response(text=page, content_type="text/html", headers=headers)

    routes = {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics, "/api/moves": moves, "/": index}
    app.add_routes([web.get(path, handler) for path, handler in routes.items()])
    return app


def trouble(silent_seconds: float, look_seconds: float) -> str:
    """Say what only a restart can mend: watches that hear nothing, or work that stands; else empty."""
    if silent_seconds >= _SILENCE_SECONDS_MAX:
        return f"no news from the API server for {silent_seconds:.0f} s"
    if look_seconds >= _LOOK_SECONDS_MAX:
        return f"a look at a move has taken {look_seconds:.0f} s"
    return ""


def content_security_policy(page: str) -> str:
    """Allow the page's own style and script, by their hashes, and requests to its own agent. Nothing else."""
    [style] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    [script] = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    rules = {
        "default-src": "'none'",
        "style-src": _hash(style),
        "script-src": _hash(script),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def listener(address: str) -> socket.socket:
    """Listen on `host:port`; an empty host is every interface, IPv6 too where the node has it.

    Raises:
        ListenError: the port is taken, or the address is not ours.
    """
    host, _, text = address.rpartition(":")
    host = host.strip("[]")
    if not text.isdigit() or int(text) > _PORT_MAX:
        raise ListenError(f"cannot listen on {address} (--metrics-address): {text!r} is not a port")
    port = int(text)
    try:
        if host:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, port), family=family)
        with contextlib.suppress(OSError, ValueError):  # a node without IPv6, or with it switched off
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        raise ListenError(f"cannot listen on {address} (--metrics-address): {error.strerror}") from error


async def serve_http(agent: Agent, address: str) -> None:
    """Serve until cancelled.

    Raises:
        ListenError: see `listener`.
    """
    runner = web.AppRunner(build_app(agent), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.SockSite(runner, listener(address)).start()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
