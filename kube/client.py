"""`KubeClient`: the one real `Kube`, over the transport of `kubernetes.aio` and the API's own JSON.

The library brings credentials, TLS, proxies and connections; its typed models are left aside, since they
cost a copy of each object. Watches carry bookmarks and are read chunk by chunk, so an object of any size is
fine; a watch on which nothing, not even a bookmark, was heard for `_SILENCE_SECONDS` counts as broken.
Retrying is the caller's affair: every error says whether it can help, and how long the server asked to wait
before. Only who we are is tried twice: after a 401 or a certificate that does not fit, the configuration is
read anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio.client.rest import RESTClientObject

from kube.api import (
    EVERYTHING,
    PAGE_SIZE,
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    Json,
    KubeError,
    LogLine,
    NotFoundError,
    Page,
    QuotaError,
    Resource,
    Selection,
    WatchEvent,
)
from kube.backoff import Backoff
from kube.connection import KubeConnectionError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from kubernetes.aio.client import Configuration

log = logging.getLogger(__name__)

_REQUEST_SECONDS = 30.0
_WATCH_SECONDS = 300
_SILENCE_SECONDS = 120.0
_RELOAD_SECONDS = 10.0
_UNAUTHORIZED = 401
_READ_AGAIN_COUNT = 2
_READ_BACKOFF_SECONDS = (0.2, 2.0)
# What the quota admission plug-in says (resourcequota/controller.go); no reason code tells it apart.
_QUOTA_SIGNS = ("exceeded quota:", "status unknown for quota:")
_ERROR_BY_STATUS: dict[int, type[KubeError]] = {
    400: InvalidError,
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
}


_SHORT = aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
_ENDLESS = aiohttp.ClientTimeout(total=None, sock_connect=_REQUEST_SECONDS, sock_read=_SILENCE_SECONDS)


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked, before anybody has signed it."""

    method: str
    path: str
    query: Mapping[str, str]
    timeout: aiohttp.ClientTimeout
    body: Json | None = None

    def target(self) -> str:
        return self.path + (f"?{urlencode(self.query)}" if self.query else "")

    def headers(self) -> dict[str, str]:
        kind = "application/merge-patch+json" if self.method == "PATCH" else "application/json"
        return {"Accept": "application/json", "User-Agent": "kopia-data-mover", "Content-Type": kind}


class KubeClient:
    """A connection to an API server. Use as `async with`; `load` (`connection.configured`) says where it is.

    Raises:
        KubeConnectionError: at the first request, or as it is entered, where `load` does.
    """

    def __init__(self, load: Callable[[], Awaitable[Configuration]]) -> None:
        self._load = load
        self._transport: tuple[RESTClientObject, Configuration] | None = None
        self._loading = asyncio.Lock()
        self._loaded_at = 0.0

    async def __aenter__(self) -> Self:
        await self._connected()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End all connections."""
        if self._transport is not None:
            await self._transport[0].close()
        self._transport = None

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """Read one object."""
        return await self._read(_path_of_one(resource, namespace, name), {})

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        selection: Selection = EVERYTHING,
        *,
        token: str = "",
        limit: int = PAGE_SIZE,
    ) -> Page:
        """Read one page."""
        query = _query(selection) | {"limit": str(limit)} | ({"continue": token} if token else {})
        body = await self._read(_path(resource, namespace), query)
        meta = body.get("metadata") or {}
        return Page(body.get("items") or [], meta.get("resourceVersion", ""), meta.get("continue", ""))

    async def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        """Make an object."""
        typed = {"apiVersion": resource.group_version, "kind": resource.kind} | body
        return await self._call("POST", _path(resource, namespace), {}, typed)

    async def patch(self, resource: Resource, namespace: str, name: str, patch: Json) -> Json:
        """Merge a patch in."""
        return await self._call("PATCH", _path_of_one(resource, namespace, name), {}, patch)

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        grace_seconds: int | None = None,
    ) -> bool:
        """Ask for deletion."""
        options: Json = {} if grace_seconds is None else {"gracePeriodSeconds": grace_seconds}
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            await self._call("DELETE", _path_of_one(resource, namespace, name), body=options or None)
        except NotFoundError:
            return False
        except ConflictError:
            if not uid:
                raise
            return False
        return True

    async def watch(
        self, resource: Resource, namespace: str, selection: Selection, resource_version: str
    ) -> AsyncIterator[WatchEvent]:
        """Yield changes as they come."""
        query = _query(selection) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS),
            "resourceVersion": resource_version,
        }
        async for line in self._lines(_path(resource, namespace), query):
            event = _json(line, f"watch of {resource.plural}")
            if event["type"] == "ERROR":
                raise _error_from_status(event["object"])
            yield WatchEvent(event["type"], event["object"])

    async def log_lines(
        self, namespace: str, pod: str, container: str, *, since: str = ""
    ) -> AsyncIterator[LogLine]:
        """Follow a container's log."""
        query = {"container": container, "follow": "true", "timestamps": "true"}
        if since:
            query["sinceTime"] = since
        async for line in self._lines(f"/api/v1/namespaces/{namespace}/pods/{pod}/log", query):
            yield log_line(line.decode(errors="replace"))

    async def _read(self, path: str, query: Mapping[str, str]) -> Json:
        """Read, and read again after a short pause where that can help: nothing is changed by it."""
        backoff = Backoff(*_READ_BACKOFF_SECONDS)
        for _ in range(_READ_AGAIN_COUNT):
            try:
                return await self._call("GET", path, query)
            except GoneError:
                raise
            except KubeError as error:
                if not error.temporary:
                    raise
                await backoff.pause(error)
        return await self._call("GET", path, query)

    async def _call(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Json | None = None
    ) -> Json:
        async with self._answered(_Request(method, path, query or {}, _SHORT, body)) as answer:
            text = await answer.read()
            _raise_for(answer.status, method, path, text, answer.headers.get("Retry-After", ""))
        return _json(text, f"{method} {path}")

    async def _lines(self, path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        async with self._answered(_Request("GET", path, query, _ENDLESS)) as answer:
            if answer.status >= 400:  # noqa: PLR2004 - HTTP's own border
                asked = answer.headers.get("Retry-After", "")
                _raise_for(answer.status, "GET", path, await answer.read(), asked)
            async for line in split_lines(answer.content.iter_any()):
                yield line

    @contextlib.asynccontextmanager
    async def _answered(self, request: _Request) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send, and hold the answer's connection as long as the caller reads. No answer is a `KubeError`."""
        try:
            response = await self._signed(request)
            try:
                yield response
            finally:
                response.release() if request.timeout is _SHORT else response.close()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _no_answer(request.method, request.path, error) from error

    async def _signed(self, request: _Request) -> aiohttp.ClientResponse:
        """Send as who we are; once more, with the configuration read anew, where that does not fit."""
        try:
            response = await self._send(request)
            if response.status != _UNAUTHORIZED or not await self._reload():
                return response
            response.release()
        except aiohttp.ClientSSLError:
            if not await self._reload():
                raise
        return await self._send(request)

    async def _send(self, request: _Request) -> aiohttp.ClientResponse:
        rest, configuration = await self._connected()
        headers = request.headers()
        signs: Json = dict(await configuration.auth_settings())
        headers |= {sign["key"]: sign["value"] for sign in signs.values()}
        answer = await rest.request(  # type: ignore[no-untyped-call]
            request.method,
            configuration.host + request.target(),
            headers=headers,
            body=request.body,
            _request_timeout=request.timeout,
        )
        response: aiohttp.ClientResponse = answer.response
        return response

    async def _connected(self) -> tuple[RESTClientObject, Configuration]:
        async with self._loading:
            return self._transport or await self._take(await self._load())

    async def _reload(self) -> bool:
        """Read the configuration anew, if it was not just now; False: there is nothing else to try."""
        async with self._loading:
            if time.monotonic() - self._loaded_at < _RELOAD_SECONDS:
                return False
            try:
                await self._take(await self._load())
            except KubeConnectionError as error:
                log.warning("the connection's configuration cannot be read anew", extra={"error": str(error)})
                return False
            return True

    async def _take(self, configuration: Configuration) -> tuple[RESTClientObject, Configuration]:
        """Use a configuration; connections end, so that all sign in and verify as it says."""
        configuration.connection_pool_maxsize = 0  # no limit: each watch holds one
        # CAs of clusters lack what Python 3.13 asks of public ones; kubectl does not ask for it either
        configuration.disable_strict_ssl_verification = True
        before, self._transport = self._transport, (RESTClientObject(configuration), configuration)
        self._loaded_at = time.monotonic()
        if before is not None:
            await before[0].close()
        return self._transport


async def split_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Cut a stream at its line ends; lines of any length, the last one also without an end."""
    pending = bytearray()
    async for chunk in chunks:
        pending += chunk
        *lines, rest = bytes(pending).split(b"\n") if b"\n" in chunk else (pending,)
        for line in lines:
            if line:
                yield line
        if lines:
            pending = bytearray(rest)
        await asyncio.sleep(0)
    if pending:
        yield bytes(pending)


def _json(text: bytes, what: str) -> Json:
    """Read an answer; what a broken proxy made of it is a failure that can heal."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise KubeError(f"{what}: answer is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise KubeError(f"{what}: answer is not a JSON object")
    return document


def _path(resource: Resource, namespace: str, name: str = "") -> str:
    root = "/api/v1" if resource.group_version == "v1" else f"/apis/{resource.group_version}"
    within = f"/namespaces/{_segment(resource, namespace)}" if resource.namespaced and namespace else ""
    return f"{root}{within}/{resource.plural}" + (f"/{_segment(resource, name)}" if name else "")


def _path_of_one(resource: Resource, namespace: str, name: str) -> str:
    """Name one object; without a name the path would be that of all of them."""
    return f"{_path(resource, namespace)}/{_segment(resource, name)}"


def _segment(resource: Resource, name: str) -> str:
    """Quote a name that somebody wrote into a resource; what can be none names nothing that exists."""
    if name in ("", ".", "..") or "/" in name or "%" in name:
        raise NotFoundError(f"{name!r} is no name of a {resource.kind}", status=404)
    return quote(name, safe="")


def _query(selection: Selection) -> dict[str, str]:
    named = {"labelSelector": selection.labels, "fieldSelector": selection.fields}
    return {key: value for key, value in named.items() if value}


def log_line(text: str) -> LogLine:
    """Part the stamp from a line of a log; a line without one has an empty `at`."""
    at, _, rest = text.partition(" ")
    return LogLine(at, rest) if at[:4].isdigit() and "T" in at else LogLine("", text)


def _raise_for(status: int, method: str, path: str, text: bytes, asked: str = "") -> None:
    if status < 400:  # noqa: PLR2004 - HTTP's own border
        return
    try:
        document = json.loads(text)
    except ValueError:
        document = {}
    detail = document.get("message") if isinstance(document, dict) else ""
    reason = document.get("reason") if isinstance(document, dict) else ""
    kind = AlreadyExistsError if reason == "AlreadyExists" else _ERROR_BY_STATUS.get(status, KubeError)
    if kind is ForbiddenError and any(sign in str(detail) for sign in _QUOTA_SIGNS):
        kind = QuotaError
    message = detail or f"{method} {path}: HTTP {status} {text[:200]!r}"
    # the header may also be a date; Kubernetes sends seconds
    seconds = float(asked) if asked.isascii() and asked.isdigit() else 0.0
    raise kind(message, status=status, retry_after_seconds=seconds)


def _error_from_status(status: Json) -> KubeError:
    code = int(status.get("code") or 0)
    message: Any = status.get("message") or status.get("reason") or "watch failed"
    asked = (status.get("details") or {}).get("retryAfterSeconds") or 0
    kind = _ERROR_BY_STATUS.get(code, KubeError)
    return kind(str(message), status=code, retry_after_seconds=float(asked))


def _no_answer(method: str, path: str, error: Exception) -> KubeError:
    return KubeError(f"no answer from the API server to {method} {path}: {error or type(error).__name__}")
