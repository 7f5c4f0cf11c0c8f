"""Informer: what the API holds of one resource, kept up to date by list and watch. Level-triggered.

Keeps only what `read` makes of an object (`None`: not kept), so thousands of finished objects cost nothing.
Survives 410 Gone, API server restarts and dead connections: it lists again and reports the differences. Uses
no wall clock.

An object that an own write returned may be put in at once, so resourceVersions decide what is news, as in
client-go's reflector (`Replace`, `lastSyncResourceVersion`): a list says nothing of what was written after it
was taken, so it drops only what is not younger than itself; and a write's answer that comes after the watch
has already passed its version is of an object that has been deleted since, and is not taken in. Versions of
one resource are numbers of one sequence (KEP-5504 says so for all clients; etcd's revisions always were).
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from kube.api import EVERYTHING, GoneError, Json, Kube, KubeError, Resource, Selection
from kube.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
Key = tuple[str, str]

log = logging.getLogger(__name__)

_BACKOFF_SECONDS = (0.2, 10.0)
# A watch that was heard for so long was a good one: what comes after it begins with short pauses again.
_STEADY_SECONDS = 60.0
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
        self._failed_at = ""  # the version from which the last watch ended with a server error
        self._heard_until = -1  # everything up to this version has been heard, deletions too

    def get(self, namespace: str, name: str) -> T | None:
        """Return what is kept of an object."""
        return self.items.get((namespace, name))

    def silent_seconds(self) -> float:
        """Seconds since the API server was last heard: what `/healthz` looks at."""
        return time.monotonic() - self.moved_at

    async def run(self) -> None:
        """List and watch for ever; whatever ends a watch, the next begins after a pause (`Backoff`)."""
        backoff = Backoff(*_BACKOFF_SECONDS)
        while True:
            began = time.monotonic()
            lost = await self._list_and_watch()
            if time.monotonic() - began > _STEADY_SECONDS:
                backoff.reset()
            await backoff.pause(lost)

    async def _list_and_watch(self) -> KubeError | None:
        """Go on until the watch ends, and return why if that was an error."""
        try:
            if not self._resource_version:
                await self._list()
            await self._watch()
        except GoneError as error:
            self._resource_version = ""
            return error
        except KubeError as error:
            log.warning("watch was lost", extra={"resource": self.resource.plural, "error": str(error)})
            if self._is_unknown_version(error):
                self._resource_version = ""
            return error
        return None

    def _is_unknown_version(self, error: KubeError) -> bool:
        """Whether the server may not know our version (yet): a restored etcd does not.

        It says so, or fails twice without an event between. One failure (a proxy's 502, an API server that is
        rolled out) goes on from where we were, as client-go does: a list from each agent would follow it.
        """
        if error.status < _SERVER_ERROR:
            return False
        again = self._failed_at == self._resource_version
        self._failed_at = self._resource_version
        return again or "too large resource version" in str(error).lower()

    async def _list(self) -> None:
        seen: set[Key] = set()
        known_before = max(self._heard_until, *self._versions.values(), -1)
        page = await self._kube.list(self.resource, self._namespace, self._selection)
        taken_at = _number(page.resource_version)
        if taken_at < known_before:  # etcd was restored from an older copy: its versions begin anew
            log.warning("API server went back in time", extra={"resource": self.resource.plural})
            self._versions = dict.fromkeys(self._versions, -1)
        seen.update(self._take(body) for body in page.items)
        version = page.resource_version
        while page.continue_token:
            page = await self._kube.list(
                self.resource, self._namespace, self._selection, token=page.continue_token
            )
            seen.update(self._take(body) for body in page.items)
        self._drop_unlisted(seen, taken_at)
        self._resource_version, self._heard_until = version, taken_at
        self.moved_at = time.monotonic()
        self.synced.set()

    def _drop_unlisted(self, seen: set[Key], taken_at: int) -> None:
        """Drop what is gone; what was written after the list was taken could not be in it."""
        for key in [k for k, version in self._versions.items() if k not in seen and version <= taken_at]:
            self._drop(key)

    async def _watch(self) -> None:
        async for event in self._kube.watch(
            self.resource, self._namespace, self._selection, self._resource_version
        ):
            self._resource_version = event.object["metadata"]["resourceVersion"]
            self._heard_until = _version(event.object)
            self.moved_at = time.monotonic()
            if event.type == "DELETED":
                self._take_deleted(event.object)
            elif event.type != "BOOKMARK":
                self._take(event.object)

    def put(self, body: Json) -> None:
        """Take in what an own write returned, unless as new or newer is known, be it that it was deleted."""
        version = _version(body)
        if _key(body) not in self._versions and version <= self._heard_until:
            return
        self._take(body)

    def _take(self, body: Json) -> Key:
        key, version = _key(body), _version(body)
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

    def _take_deleted(self, body: Json) -> None:
        """Drop an object, unless one made anew under its name is known already."""
        key, version = _key(body), _version(body)
        if version >= self._versions.get(key, -1):
            self._take(body)  # a last look, for what the object says at its end
            self._drop(key)

    def forget(self, key: Key, seen: T) -> None:
        """Drop what the API server has just said is not there, if nothing newer came in meanwhile."""
        if self.items.get(key) is seen:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        self._versions.pop(key, None)
        before = self.items.pop(key, None)
        if before is not None:
            self._changed(key, before, None)


def _key(body: Json) -> Key:
    meta = body["metadata"]
    return (meta.get("namespace", ""), meta["name"])


def _version(body: Json) -> int:
    return _number(body["metadata"]["resourceVersion"])


def _number(version: str) -> int:
    if not (version.isascii() and version.isdigit()):
        raise KubeError(f"resourceVersion {version!r} is no number")
    return int(version)
