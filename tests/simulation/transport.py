"""The one place where the product's Kubernetes client meets the simulation: an HTTP session as aiohttp's.

`SimulatedSession` answers what `aiohttp.ClientSession` answers, from the simulated network. When the client moves,
or changes its library, `connect_client` is all that changes.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import parse_qsl

from kubernetes.aio.client import Configuration

from kube.client import KubeClient
from tests.simulation.api import Answer, Request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping

_SERVER = "http://simulated"
_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

Send = "Callable[[Request], Awaitable[Answer]]"


async def connect_client(send: Callable[[Request], Awaitable[Answer]]) -> KubeClient:
    """The product's client, on the simulated network."""

    async def load() -> Configuration:
        return Configuration(host=_SERVER)

    client = KubeClient(load)
    with mock.patch(
        "ssl.create_default_context", return_value=_TLS
    ):  # reading all CAs takes longer than a run
        rest, _ = await client._connected()
    rest.pool_manager = SimulatedSession(send)  # type: ignore[assignment]
    return client


class SimulatedSession:
    """As much of `aiohttp.ClientSession` as a Kubernetes client uses."""

    def __init__(self, send: Callable[[Request], Awaitable[Answer]]) -> None:
        self._send = send

    def request(self, method: str, url: str, **arguments: Any) -> _Call:
        return _Call(self._send, method, str(url), arguments)

    async def close(self) -> None:
        """Nothing is open."""


class _Call:
    """A request that has not been sent yet: awaited, or entered."""

    def __init__(
        self,
        send: Callable[[Request], Awaitable[Answer]],
        method: str,
        url: str,
        arguments: Mapping[str, Any],
    ) -> None:
        self._send, self._timeout = send, arguments.get("timeout")
        path, _, asked = url.removeprefix(_SERVER).partition("?")
        data = arguments.get("data")
        query = dict(parse_qsl(asked, keep_blank_values=True))
        headers = {str(key): str(value) for key, value in dict(arguments.get("headers") or {}).items()}
        self._request = Request(method, path, query, headers, json.loads(data) if data else None)

    async def _run(self) -> _Response:
        seconds = getattr(self._timeout, "total", None)
        if seconds is None:
            seconds = getattr(self._timeout, "sock_connect", None)
        async with asyncio.timeout(seconds):
            answer = await self._send(self._request)
        return _Response(answer, getattr(self._timeout, "sock_read", None))

    def __await__(self) -> Generator[Any, None, _Response]:
        return self._run().__await__()

    async def __aenter__(self) -> _Response:
        return await self._run()

    async def __aexit__(self, *_: object) -> None:
        return None


class _Response:
    """As much of `aiohttp.ClientResponse` as a Kubernetes client uses."""

    def __init__(self, answer: Answer, silence_seconds: float | None) -> None:
        self.status, self.headers = answer.status, answer.headers
        self.reason = ""
        self._body = answer.body
        self.content = _Content(answer, silence_seconds)

    async def read(self) -> bytes:
        return self._body

    def release(self) -> None:
        """Nothing is held."""

    close = release


class _Content:
    """The body of an answer that has no end, piece by piece."""

    def __init__(self, answer: Answer, silence_seconds: float | None) -> None:
        self._answer, self._silence = answer, silence_seconds

    async def iter_any(self) -> AsyncIterator[bytes]:
        while line := await self.readline():
            yield line

    async def readline(self) -> bytes:
        if self._answer.stream is None:
            body, self._answer.body = self._answer.body, b""
            return body
        async with asyncio.timeout(self._silence):
            return await self._answer.stream.read() or b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while line := await self.readline():
            yield line
