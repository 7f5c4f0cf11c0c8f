"""The simulated API server as HTTP sees it: method, path, query, headers and body in; status and bytes or a stream out.

Lists of the newest state come from the store; lists and watches that name a version may be behind (`lag_seconds`),
as a watch cache is. Nothing here waits and nothing here fails by itself: that is `network`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tests.simulation.store import (
    GONE,
    NOT_FOUND,
    Change,
    Json,
    Refused,
    Store,
    Table,
    selects,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_PATH = re.compile(
    r"^/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+/[^/]+))(?:/namespaces/(?P<namespace>[^/]+)(?=/))?/(?P<plural>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?$"
)
BOOKMARK_SECONDS = 60.0


@dataclass(slots=True)
class Request:
    """One HTTP request."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: Json | None = None

    @property
    def is_stream(self) -> bool:
        """Whether the answer has no end of its own."""
        return self.query.get("watch") in ("true", "1") or self.path.endswith("/log")

    @property
    def is_list(self) -> bool:
        """Whether it asks for many objects, at once."""
        match = _PATH.match(self.path)
        return self.method == "GET" and match is not None and not match["name"] and not self.is_stream

    @property
    def plural(self) -> str:
        """What it is about."""
        match = _PATH.match(self.path)
        return match["plural"] if match else ""


@dataclass(slots=True)
class Answer:
    """Status and body; `stream` instead of a body for what has no end."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    stream: Stream | None = None


class Stream:
    """Lines on their way to one client. What is sent comes in order, each `delay` after it was sent."""

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._last = 0.0
        self._ready: deque[bytes | BaseException | None] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def send(self, item: bytes | BaseException | None, *, at_once: bool = False) -> None:
        """Send a line, the end (`None`) or a failure."""
        at = self._loop.time() + (0.0 if at_once else self.delay)
        if not at_once:
            at = self._last = max(at, self._last)
        self._loop.call_at(at, self._arrive, item)

    def _arrive(self, item: bytes | BaseException | None) -> None:
        if self.closed:
            return
        self._ready.append(item)
        self.closed = not isinstance(item, bytes)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read(self) -> bytes | None:
        """The next line; `None` at the end."""
        while not self._ready:
            self._waiter = self._loop.create_future()
            await self._waiter
        item = self._ready.popleft()
        if isinstance(item, BaseException):
            raise item
        return item


@dataclass(slots=True)
class Watch:
    """A client that wants to hear of changes."""

    stream: Stream
    plural: str
    namespace: str
    labels: str
    fields: str
    partial: bool
    owner: Any = None

    def hear(self, change: Change) -> None:
        """Tell of a change, as it looks through the selectors."""
        if self.namespace and change.key[0] != self.namespace:
            return
        after = change.type != "DELETED" and selects(change.after, self.labels, self.fields)
        before = change.before is not None and selects(change.before, self.labels, self.fields)
        if not after and not before:
            return
        kind = ("MODIFIED" if before else "ADDED") if after else "DELETED"
        text = json.dumps(_partial(change.after)) if self.partial else change.text()
        self.stream.send(f'{{"type":"{kind}","object":{text}}}\n'.encode())


class ApiServer:
    """Answers requests from a store. `logs` gives the stream of a container's log."""

    def __init__(self) -> None:
        self.store = Store(self._changed)
        self.watches: list[Watch] = []
        self.on_change: list[Callable[[Table, Change], None]] = []
        self.logs: Callable[[str, str, str, str], Stream] | None = None
        self.page_max = 500
        self.lag_seconds = 0.0
        self._loop = asyncio.get_running_loop()

    def _changed(self, table: Table, change: Change) -> None:
        plural = table.kind.plural
        for watch in self.watches:
            if watch.plural == plural and not watch.stream.closed:
                watch.hear(change)
        for heard in self.on_change:
            heard(table, change)

    def answer(self, request: Request, owner: Any = None) -> Answer:
        """Do what is asked."""
        try:
            return self._answer(request, owner)
        except Refused as refused:
            return error(refused.status, refused.reason, str(refused))

    def _answer(self, request: Request, owner: Any) -> Answer:
        match = _PATH.match(request.path)
        if match is None or match["plural"] not in self.store.tables:
            raise Refused(NOT_FOUND, f"the server could not find the requested resource: {request.path}")
        plural, namespace = match["plural"], unquote(match["namespace"] or "")
        name = unquote(match["name"] or "")
        if match["sub"] == "log":
            assert self.logs is not None
            since = request.query.get("sinceTime", "")
            stream = self.logs(namespace, name, request.query.get("container", ""), since)
            return Answer(200, stream=stream)
        if not name and request.method == "GET":
            return (
                self._watch(request, plural, namespace, owner)
                if request.is_stream
                else self._list(request, plural, namespace)
            )
        return self._one(request, plural, namespace, name)

    def _one(self, request: Request, plural: str, namespace: str, name: str) -> Answer:
        body = request.body or {}
        if request.method == "GET":
            return _ok(self._read(request, plural, namespace, name))
        if request.method == "POST":
            return Answer(201, json.dumps(self.store.create(plural, namespace, body)).encode())
        if request.method == "PATCH":
            return _ok(self.store.patch(plural, namespace, name, body))
        grace = body.get("gracePeriodSeconds", request.query.get("gracePeriodSeconds"))
        wanted = body.get("preconditions") or {}
        gone = self.store.delete(
            plural,
            namespace,
            name,
            grace=None if grace is None else int(grace),
            uid=wanted.get("uid") or "",
            version=wanted.get("resourceVersion") or "",
        )
        return _ok(gone)

    def _read(self, request: Request, plural: str, namespace: str, name: str) -> Json:
        if "resourceVersion" in request.query:
            past = self._past(self.store.tables[plural])[1].get((namespace, name))
            if past is None:
                raise Refused(NOT_FOUND, f'{plural} "{name}" not found')
            return past
        return self.store.get(plural, namespace, name)

    def _past(self, table: Table) -> tuple[int, dict[tuple[str, str], Json]]:
        """The state as the watch cache knows it, and its version."""
        if not self.lag_seconds:
            return self.store.version, table.objects
        version = max(table.version_at(self._loop.time() - self.lag_seconds), table.compacted, 1)
        return version, table.as_of(version)

    def _list(self, request: Request, plural: str, namespace: str) -> Answer:
        table, query = self.store.tables[plural], request.query
        version, objects = self.store.version, table.objects
        offset = 0
        if query.get("continue"):
            version, offset = map(int, query["continue"].split(":"))
            if version < table.compacted:
                raise Refused(GONE, "The provided continue parameter is too old")
            objects = table.as_of(version)
        elif "resourceVersion" in query:
            version, objects = self._past(table)
        labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
        found = [
            body
            for (where, _), body in sorted(objects.items())
            if (not namespace or where == namespace) and selects(body, labels, fields)
        ]
        limit = min(int(query.get("limit") or 0) or self.page_max, self.page_max)
        page = found[offset : offset + limit]
        meta = {"resourceVersion": str(version)}
        if offset + limit < len(found):
            meta |= {
                "continue": f"{version}:{offset + limit}",
                "remainingItemCount": str(len(found) - offset - limit),
            }
        items = [_partial(body) for body in page] if _wants_partial(request) else page
        kind = f"{table.kind.name}List"
        return _ok({"kind": kind, "apiVersion": table.kind.api, "metadata": meta, "items": items})

    def _watch(self, request: Request, plural: str, namespace: str, owner: Any) -> Answer:
        table, query = self.store.tables[plural], request.query
        asked = query.get("resourceVersion") or "0"
        version = int(asked)
        labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
        stream = Stream(self.lag_seconds)
        watch = Watch(stream, plural, namespace, labels, fields, _wants_partial(request), owner)
        if version and version < table.compacted:
            stream.send(gone_line())
            stream.send(None)
            return Answer(200, stream=stream)
        if not version:
            for key, body in table.objects.items():
                watch.hear(Change(0, 0.0, "ADDED", key, None, body))
        for change in table.history if version else ():
            if change.version > version:
                watch.hear(change)
        self.watches = [one for one in self.watches if not one.stream.closed]
        self.watches.append(watch)
        self._loop.call_later(float(query.get("timeoutSeconds") or 1800), stream.send, None)
        if query.get("allowWatchBookmarks") == "true":
            self._loop.call_later(BOOKMARK_SECONDS, self._bookmark, watch)
        return Answer(200, stream=stream)

    def _bookmark(self, watch: Watch) -> None:
        if watch.stream.closed:
            return
        kind = self.store.tables[watch.plural].kind
        meta = {"resourceVersion": str(self.store.version), "creationTimestamp": None}
        line = {"type": "BOOKMARK", "object": {"kind": kind.name, "apiVersion": kind.api, "metadata": meta}}
        watch.stream.send(json.dumps(line).encode() + b"\n")
        self._loop.call_later(BOOKMARK_SECONDS, self._bookmark, watch)


def gone_line() -> bytes:
    """What a watch says that cannot go on."""
    status = {
        "kind": "Status",
        "status": "Failure",
        "message": "too old resource version",
        "reason": "Expired",
        "code": 410,
    }
    return json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"


def error(status: int, reason: str, message: str, *, retry_after: int = 0) -> Answer:
    """An answer of the API's kind `Status`."""
    body: Json = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
    }
    headers = {"Retry-After": str(retry_after)} if retry_after else {}
    if retry_after:
        body["details"] = {"retryAfterSeconds": retry_after}
    return Answer(status, json.dumps(body | {"code": status}).encode(), headers)


def _ok(body: Json) -> Answer:
    return Answer(200, json.dumps(body).encode())


def _wants_partial(request: Request) -> bool:
    return "as=PartialObjectMetadata" in request.headers.get("Accept", "")


def _partial(body: Json) -> Json:
    return {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": body["metadata"]}
