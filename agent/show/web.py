"""`/metrics`, `/healthz`, `/readyz`, `/api/moves`, its live stream and the status page: FastAPI on uvicorn.

`/healthz` proves that the watches move (the API server sends bookmarks about once a minute, so silence means
a stuck loop or a lost connection) and that looks at moves end. Everything is read-only; nothing here is
secret beyond names of volumes. What a peer can cost is bounded (`http_limits`).
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

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse

from agent.show.board import board, last_day
from agent.show.web_limits import BoundedProtocol, is_our_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from agent.control.node_agent import Agent

_SILENCE_SECONDS_MAX = 300.0
_LOOK_SECONDS_MAX = 600.0
_UNAVAILABLE = 503
_MISDIRECTED = 421
_PORT_MAX = 65535
_SHUTDOWN_SECONDS = 2
_KEEP_ALIVE_SECONDS = 30
_STREAMS_MAX = 32
_STREAM_SECONDS = 1.0
_HEARTBEAT_SECONDS = 15.0
_PROBES = frozenset({"/healthz", "/readyz"})
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class ListenError(OSError):
    """The address for metrics and page cannot be listened on."""


class Routes:
    """The answers of one agent. `stopping` ends the live streams."""

    def __init__(self, agent: Agent) -> None:
        self.stopping = asyncio.Event()
        self._agent = agent
        self._page = files("agent.show").joinpath("page.html").read_text(encoding="utf-8")
        self._policy = content_security_policy(self._page)
        self._streams = 0

    async def healthz(self) -> Response:
        """Say whether a restart could mend something."""
        text = trouble(self._agent.silent_seconds(), self._agent.world.queue.longest_look_seconds())
        return PlainTextResponse(text or "ok", _UNAVAILABLE if text else 200)

    async def readyz(self) -> Response:
        """Say whether the caches are filled."""
        ready = self._agent.ready.is_set()
        return PlainTextResponse("ok" if ready else "caches are being filled", 200 if ready else _UNAVAILABLE)

    async def metrics(self) -> Response:
        """Prometheus' text format."""
        self._agent.gauge()
        return Response(
            self._agent.world.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    async def moves(self) -> Response:
        """The board as it stands."""
        return Response(self._document(), media_type="application/json", headers=_HEADERS)

    async def day(self) -> Response:
        """What ended within 24 hours, of all nodes, as far as this agent has seen or read it."""
        document = json.dumps(last_day(self._agent.world), separators=(",", ":"))
        return Response(document, media_type="application/json", headers=_HEADERS)

    async def events(self, request: Request) -> Response:
        """The board, whenever it has changed, as server-sent events; refused where too many listen."""
        if self._streams >= _STREAMS_MAX:
            return PlainTextResponse("too many listen; ask /api/moves", _UNAVAILABLE, _HEADERS)
        return StreamingResponse(self._stream(request), media_type="text/event-stream", headers=_HEADERS)

    async def index(self) -> Response:
        """The status page."""
        return HTMLResponse(self._page, headers=_HEADERS | {"Content-Security-Policy": self._policy})

    def _document(self) -> str:
        agent = self._agent
        facts = {"ready": agent.ready.is_set(), "silentSeconds": int(agent.silent_seconds())}
        return json.dumps(board(agent.world) | facts, separators=(",", ":"))

    async def _stream(self, request: Request) -> AsyncIterator[str]:
        with self._listening():
            told, quiet = "", 0.0
            while not self.stopping.is_set() and not await request.is_disconnected():
                document = self._document()
                seen = _without_clock(document)
                if seen != told or quiet >= _HEARTBEAT_SECONDS:
                    yield f"data: {document}\n\n"
                    told, quiet = seen, 0.0
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.stopping.wait(), _STREAM_SECONDS)
                quiet += _STREAM_SECONDS

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1


def _without_clock(document: str) -> str:
    """What of a board is news: all but the time that passes by itself."""
    return re.sub(r'"(?:now|silentSeconds)":(?:"[^"]*"|\d+)', "", document)


def build_app(routes: Routes, allowed_hosts: frozenset[str] = frozenset()) -> FastAPI:
    """Build the application of one agent; it publishes no schema and no documentation of itself."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.middleware("http")
    async def named(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        host = request.headers.get("host", "")
        if request.url.path in _PROBES or is_our_name(host, allowed_hosts):
            return await call(request)
        text = f"{host[:200]} is no name of this agent; allow it with KOPIA_DATA_MOVER_PAGE_HOSTS"
        return PlainTextResponse(text, _MISDIRECTED, _HEADERS)

    answers: dict[str, Callable[..., Awaitable[Response]]] = {
        "/healthz": routes.healthz,
        "/readyz": routes.readyz,
        "/metrics": routes.metrics,
        "/api/moves": routes.moves,
        "/api/events": routes.events,
        "/api/day": routes.day,
        "/": routes.index,
    }
    for path, answer in answers.items():
        app.add_api_route(path, answer, methods=["GET", "HEAD"], response_model=None)
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
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(_PORT_MAX)) or int(text) > _PORT_MAX:
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


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: the agent's own end it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


async def serve_http(agent: Agent, address: str, allowed_hosts: frozenset[str] = frozenset()) -> None:
    """Serve until cancelled.

    Raises:
        ListenError: see `listener`.
    """
    routes = Routes(agent)
    config = uvicorn.Config(
        build_app(routes, allowed_hosts),
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        loop="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve([listener(address)]))
    try:
        await asyncio.shield(serving)
    finally:
        routes.stopping.set()
        server.should_exit = True
        await serving
