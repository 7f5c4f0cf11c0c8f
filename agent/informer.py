"""Informer: what the API holds of one resource, kept up to date by list and watch. Level-triggered.

Keeps only what `read` makes of an object (`None`: not kept), so thousands of finished objects cost nothing.
Survives 410 Gone, API server restarts and dead connections: it lists again and reports the differences. Uses
no wall clock. An object that an own write returned may be put in at once; older news of it from the watch is
then ignored.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from exposer.kube import EVERYTHING, GoneError, Json, Kube, KubeError, Resource, Selection

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
Key = tuple[str, str]

log = logging.getLogger(__name__)

_BACKOFF_SECONDS = (0.2, 8.0)
_SERVER_ERROR = 500


class Informer(Generic[T]):
    """A cache of one resource. `changed` is told of every difference: key, before, after."""

    def __init__(
        self,
        kube: Kube,
        resource: Resource,
        namespace: str = "",
        selection: Selection = EVERYTHING,
        *,
        read: Callable[[Json], T | None],
        changed: Callable[[Key, T | None, T | None], None] = lambda *_: None,
    ) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        self.items: dict[Key, T] = {}
        self.moved_at = time.monotonic()
        self._kube, self._namespace, self._selection = kube, namespace, selection
        self._read, self._changed = read, changed
        self._versions: dict[Key, int] = {}
        self._resource_version = ""

    def get(self, namespace: str, name: str) -> T | None:
        """Return what is kept of an object."""
        return self.items.get((namespace, name))

    def silent_seconds(self) -> float:
        """Seconds since the API server was last heard: what `/healthz` looks at."""
        return time.monotonic() - self.moved_at

    async def run(self) -> None:
        """List and watch for ever."""
        delay = _BACKOFF_SECONDS[0]
        while True:
            try:
                if not self._resource_version:
                    await self._list()
                await self._watch()
                delay = _BACKOFF_SECONDS[0]
            except GoneError:
                self._resource_version = ""
            except KubeError as error:
                log.warning("watch was lost", extra={"resource": self.resource.plural, "error": str(error)})
                if error.status >= _SERVER_ERROR:
                    self._resource_version = ""  # it may be one that a restored etcd does not know yet
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, no secret
                delay = min(delay * 2, _BACKOFF_SECONDS[1])

    async def _list(self) -> None:
        seen: set[Key] = set()
        token = ""
        while True:
            page = await self._kube.list(self.resource, self._namespace, self._selection, token=token)
            self._notice_restored(page.resource_version)
            for body in page.items:
                seen.add(self.put(body))
            token = page.continue_token
            if not token:
                break
        for key in [key for key in self._versions if key not in seen]:
            self._drop(key)
        self._resource_version = page.resource_version
        self.moved_at = time.monotonic()
        self.synced.set()

    def _notice_restored(self, version: str) -> None:
        """Believe an etcd that was restored from an older copy: its versions begin anew."""
        if version.isdigit() and int(version) < max(self._versions.values(), default=0):
            self._versions = dict.fromkeys(self._versions, -1)

    async def _watch(self) -> None:
        async for event in self._kube.watch(
            self.resource, self._namespace, self._selection, self._resource_version
        ):
            self._resource_version = event.object["metadata"]["resourceVersion"]
            self.moved_at = time.monotonic()
            if event.type == "DELETED":
                self.put(event.object)  # a last look, for what the object says at its end
                self._drop(_key(event.object))
            elif event.type != "BOOKMARK":
                self.put(event.object)

    def put(self, body: Json) -> Key:
        """Take an object in, unless a newer version of it is known."""
        key, version = _key(body), int(body["metadata"]["resourceVersion"])
        if version <= self._versions.get(key, -1):
            return key
        self._versions[key] = version
        before, after = self.items.get(key), self._read(body)
        if after is None:
            self.items.pop(key, None)
        else:
            self.items[key] = after
        if before is not None or after is not None:
            self._changed(key, before, after)
        return key

    def _drop(self, key: Key) -> None:
        self._versions.pop(key, None)
        before = self.items.pop(key, None)
        if before is not None:
            self._changed(key, before, None)


def _key(body: Json) -> Key:
    meta = body["metadata"]
    return (meta.get("namespace", ""), meta["name"])
