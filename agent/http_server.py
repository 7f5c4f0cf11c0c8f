"""`/metrics`, `/healthz`, `/readyz`, `/api/moves`: the only module with FastAPI and uvicorn.

`/healthz` proves that the watches move: the API server sends bookmarks about once a minute, so silence means
a stuck loop or a lost connection. `build_app` gives the application to which the status page adds its routes.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from agent.board import board

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.agent import Agent

_SILENCE_SECONDS_MAX = 300.0
_UNAVAILABLE = 503


def build_app(agent: Agent) -> FastAPI:
    """Build the application of one agent."""
    app = FastAPI(title="node-agent", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/healthz")
    async def healthz() -> Response:
        silent = agent.silent_seconds()
        healthy = silent < _SILENCE_SECONDS_MAX
        text = "ok" if healthy else f"no news from the API server for {silent:.0f} s"
        return PlainTextResponse(text, 200 if healthy else _UNAVAILABLE)

    @app.get("/readyz")
    async def readyz() -> Response:
        ready = agent.ready.is_set()
        return PlainTextResponse("ok" if ready else "caches are being filled", 200 if ready else _UNAVAILABLE)

    @app.get("/metrics")
    async def metrics() -> Response:
        agent.gauge()
        text = agent.world.metrics.render()
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/api/moves")
    async def moves() -> Response:
        return JSONResponse(board(agent.world))

    return app


class _Server(uvicorn.Server):
    """uvicorn inside our loop: signals are ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_http(agent: Agent, address: str) -> None:
    """Serve until cancelled. `address` is `host:port`; an empty host is every interface."""
    host, _, port = address.rpartition(":")
    options: dict[str, Any] = {"log_config": None, "access_log": False, "lifespan": "off", "workers": 1}
    every_interface = "0.0.0.0"  # noqa: S104 - the port of a DaemonSet is asked by the cluster's Prometheus
    config = uvicorn.Config(
        build_app(agent), host=host.strip("[]") or every_interface, port=int(port), **options
    )
    await _Server(config).serve()
