"""A `Kube` that counts what is asked of it, so that a test can bound it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kube.api import Json, Kube, LogLine, Page, Resource, Selection, WatchEvent


class CountedKube:
    """Passes everything on; `counts` is by verb and plural."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self.counts: Counter[str] = Counter()

    def total(self, *but: str) -> int:
        """All requests, except those of some verbs."""
        return sum(number for what, number in self.counts.items() if what.split()[0] not in but)

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        self.counts[f"get {resource.plural}"] += 1
        return await self._kube.get(resource, namespace, name)

    async def list(self, resource: Resource, *arguments: Any, **options: Any) -> Page:
        self.counts[f"list {resource.plural}"] += 1
        return await self._kube.list(resource, *arguments, **options)

    async def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        self.counts[f"create {resource.plural}"] += 1
        return await self._kube.create(resource, namespace, body)

    async def patch(self, resource: Resource, namespace: str, name: str, patch: Json) -> Json:
        self.counts[f"patch {resource.plural}"] += 1
        return await self._kube.patch(resource, namespace, name, patch)

    async def delete(self, resource: Resource, namespace: str, name: str, **options: Any) -> bool:
        self.counts[f"delete {resource.plural}"] += 1
        return await self._kube.delete(resource, namespace, name, **options)

    def watch(
        self, resource: Resource, namespace: str, selection: Selection, resource_version: str
    ) -> AsyncIterator[WatchEvent]:
        self.counts[f"watch {resource.plural}"] += 1
        return self._kube.watch(resource, namespace, selection, resource_version)

    def log_lines(
        self, namespace: str, pod: str, container: str, *, since: str = ""
    ) -> AsyncIterator[LogLine]:
        self.counts["log pods"] += 1
        return self._kube.log_lines(namespace, pod, container, since=since)
