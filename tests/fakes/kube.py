"""FakeKube: the API server as a dictionary with watch queues, optimistic locking, finalizers, and chosen faults."""

from __future__ import annotations

import asyncio
import copy
import itertools
from typing import TYPE_CHECKING, Any

from kube.api import (
    EVERYTHING,
    PAGE_SIZE,
    POD,
    AlreadyExistsError,
    ConflictError,
    GoneError,
    InvalidError,
    Json,
    KubeError,
    LogLine,
    NotFoundError,
    Page,
    Resource,
    Selection,
    WatchEvent,
)
from tests.fakes.merge_patch import merge_patch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

Key = tuple[str, str, str]

_ANNOTATION_BYTES_MAX = 256 << 10


class CrashError(BaseException):
    """The agent process dies here; nothing may catch it."""


class FakeKube:
    """Implements `kube.api.Kube`."""

    def __init__(self) -> None:
        self.objects: dict[Key, Json] = {}
        self.kinds: dict[str, Resource] = {}
        self.writes: list[tuple[str, Key]] = []
        self.log: dict[str, list[str]] = {}
        self.crash_after_writes: int | None = None
        self.fail: Callable[[str, Resource, str], KubeError | None] = lambda *_: None
        self.admit: Callable[[Resource, Json], None] = lambda *_: None  # mutating webhooks
        self._versions = itertools.count(1)
        self._uids = itertools.count(1)
        self._watchers: list[tuple[str, str, Selection, asyncio.Queue[WatchEvent | Exception | None]]] = []

    # the protocol

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        self._enter("get", resource, name)
        return copy.deepcopy(self._must(resource, namespace, name))

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        selection: Selection = EVERYTHING,
        *,
        token: str = "",
        limit: int = PAGE_SIZE,
    ) -> Page:
        self._enter("list", resource, "")
        items = [
            copy.deepcopy(body)
            for (plural, where, _), body in sorted(self.objects.items())
            if plural == resource.plural
            and (not namespace or where == namespace)
            and selects(selection, body)
        ]
        return Page(items, str(next(self._versions)))

    async def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        name = body["metadata"]["name"]
        self._enter("create", resource, name)
        key = (resource.plural, namespace if resource.namespaced else "", name)
        if key in self.objects:
            raise AlreadyExistsError(f"{resource.plural} {name} already exists", status=409)
        made = copy.deepcopy(body)
        self.admit(resource, made)
        meta = made["metadata"]
        meta.setdefault("uid", f"made-{next(self._uids)}")
        meta.setdefault("creationTimestamp", "2026-11-21T12:00:00Z")
        if resource.namespaced:
            meta["namespace"] = namespace
        _validate(made)
        self._store(resource, key, made, "ADDED")
        self._written("create", key)
        return copy.deepcopy(made)

    async def patch(self, resource: Resource, namespace: str, name: str, patch: Json) -> Json:
        self._enter("patch", resource, name)
        current = self._must(resource, namespace, name)
        version = patch.get("metadata", {}).get("resourceVersion")
        if version is not None and version != current["metadata"]["resourceVersion"]:
            raise ConflictError(f"{resource.plural} {name} has changed", status=409)
        key = (resource.plural, namespace if resource.namespaced else "", name)
        merged = merge_patch(current, copy.deepcopy(patch))
        _validate(merged)
        self._store(resource, key, merged, "MODIFIED")
        self._written("patch", key)
        self._collect(key)
        return copy.deepcopy(merged)

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        grace_seconds: int | None = None,
    ) -> bool:
        self._enter("delete", resource, name)
        key = (resource.plural, namespace if resource.namespaced else "", name)
        if key not in self.objects or uid not in ("", self.objects[key]["metadata"]["uid"]):
            return False
        body = copy.deepcopy(self.objects[key])
        body["metadata"]["deletionTimestamp"] = "2026-11-21T12:00:00Z"
        self._store(resource, key, body, "MODIFIED")
        self._written("delete", key)
        self._collect(key)
        return True

    async def watch(
        self, resource: Resource, namespace: str, selection: Selection, resource_version: str
    ) -> AsyncIterator[WatchEvent]:
        self._enter("watch", resource, "")
        queue: asyncio.Queue[WatchEvent | Exception | None] = asyncio.Queue()
        for (plural, where, _), body in list(self.objects.items()):  # what changed between list and watch
            newer = int(body["metadata"]["resourceVersion"]) > int(resource_version or 0)
            if (
                plural == resource.plural
                and (not namespace or where == namespace)
                and newer
                and selects(selection, body)
            ):
                queue.put_nowait(WatchEvent("MODIFIED", copy.deepcopy(body)))
        watcher = (resource.plural, namespace, selection, queue)
        self._watchers.append(watcher)
        try:
            while (item := await queue.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self._watchers.remove(watcher)

    async def log_lines(
        self, namespace: str, pod: str, container: str, *, since: str = ""
    ) -> AsyncIterator[LogLine]:
        self._enter("log", POD, pod)
        for place, line in enumerate(self.log.get(pod, [])):
            at = f"2026-11-21T12:00:{place // 10:02d}.{place % 10 // 2:09d}Z"  # pairs of lines bear one stamp
            if at[:19] >= since[:19]:
                yield LogLine(at, line)

    # for tests

    def put(self, resource: Resource, body: Json) -> Json:
        """Place an object as it is, as if somebody else had made it."""
        meta = body["metadata"]
        meta.setdefault("uid", f"made-{next(self._uids)}")
        meta.setdefault("creationTimestamp", "2026-11-21T12:00:00Z")
        key = (resource.plural, meta.get("namespace", ""), meta["name"])
        self._store(resource, key, copy.deepcopy(body), "MODIFIED" if key in self.objects else "ADDED")
        return body

    def change(self, resource: Resource, namespace: str, name: str, patch: Json) -> None:
        """Change an object as if somebody else had."""
        key = (resource.plural, namespace, name)
        self._store(resource, key, merge_patch(self.objects[key], patch), "MODIFIED")
        self._collect(key)

    def remove(self, resource: Resource, namespace: str, name: str) -> None:
        """Make an object vanish."""
        self._drop((resource.plural, namespace, name))

    def names(self, resource: Resource) -> list[str]:
        return sorted(name for plural, _, name in self.objects if plural == resource.plural)

    def expire_watches(self) -> None:
        """End every watch with 410, as after a compaction."""
        for *_, queue in self._watchers:
            queue.put_nowait(GoneError("too old resource version", status=410))

    # inside

    def _enter(self, verb: str, resource: Resource, name: str) -> None:
        self.kinds[resource.plural] = resource
        error = self.fail(verb, resource, name)
        if error is not None:
            raise error

    def _written(self, verb: str, key: Key) -> None:
        self.writes.append((verb, key))
        if self.crash_after_writes is not None and len(self.writes) >= self.crash_after_writes:
            raise CrashError

    def _must(self, resource: Resource, namespace: str, name: str) -> Json:
        key = (resource.plural, namespace if resource.namespaced else "", name)
        if key not in self.objects:
            raise NotFoundError(f'{resource.plural} "{name}" not found', status=404)
        return self.objects[key]

    def _store(self, resource: Resource, key: Key, body: Json, event: str) -> None:
        self.kinds[resource.plural] = resource
        body["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[key] = body
        self._tell(key, WatchEvent(event, copy.deepcopy(body)))

    def _collect(self, key: Key) -> None:
        body = self.objects.get(key)
        if body and "deletionTimestamp" in body["metadata"] and not body["metadata"].get("finalizers"):
            self._drop(key)

    def _drop(self, key: Key) -> None:
        body = self.objects.pop(key)
        body["metadata"]["resourceVersion"] = str(next(self._versions))
        self._tell(key, WatchEvent("DELETED", copy.deepcopy(body)))

    def _tell(self, key: Key, event: WatchEvent) -> None:
        for plural, namespace, selection, queue in self._watchers:
            if (
                plural == key[0]
                and (not namespace or namespace == key[1])
                and selects(selection, event.object)
            ):
                queue.put_nowait(event)


def _validate(body: Json) -> None:
    """Refuse what `ValidateAnnotationsSize` of the API server refuses."""
    annotations = body["metadata"].get("annotations") or {}
    if sum(len(key) + len(value) for key, value in annotations.items()) > _ANNOTATION_BYTES_MAX:
        raise InvalidError("metadata.annotations: Too long: may not be more than 262144 bytes", status=422)


def selects(selection: Selection, body: Json) -> bool:
    labels = body["metadata"].get("labels") or {}
    return all(_label(part, labels) for part in selection.labels.split(",") if part) and all(
        str(_field(body, path)) == value
        for path, value in (part.split("=", 1) for part in selection.fields.split(",") if part)
    )


def _label(part: str, labels: dict[str, str]) -> bool:
    key, equals, value = part.partition("=")
    return labels.get(key) == value if equals else key in labels


def _field(body: Json, path: str) -> Any:
    for step in path.split("."):
        body = body.get(step) or {}
    return body
