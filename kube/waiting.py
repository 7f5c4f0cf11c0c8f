"""Wait for an object to come into a state, by watch: no polls of 2 s as upstream has them.

A wait that begins again does so with back-off, be it that the server ends each watch at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, TypeVar

from kube.api import GoneError, Json, Kube, KubeError, Resource, Selection
from kube.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

log = logging.getLogger(__name__)

_BACKOFF_SECONDS = (0.2, 15.0)
_STEADY_SECONDS = 60.0


class WaitTimeoutError(KubeError):
    """What was waited for did not come in its time."""

    temporary = False


async def wait_for(
    kube: Kube,
    resource: Resource,
    namespace: str,
    name: str,
    *,
    until: Callable[[Json | None], bool],
    timeout_seconds: float,
    what: str,
) -> Json | None:
    """Return the object (`None`: absent) as soon as `until` holds.

    `until` may raise to end the wait. A watch that breaks is begun again; an API server that is away is
    waited for.

    Raises:
        WaitTimeoutError: `what` did not come true within `timeout_seconds`.
    """
    backoff = Backoff(*_BACKOFF_SECONDS)
    try:
        async with asyncio.timeout(timeout_seconds):
            while True:
                began = time.monotonic()
                try:
                    return await _watch_once(kube, resource, namespace, name, until)
                except (_WatchEndedError, GoneError) as ended:
                    error: Exception = ended
                except KubeError as failed:
                    if not failed.temporary:
                        raise
                    error = failed
                if time.monotonic() - began > _STEADY_SECONDS:
                    backoff.reset()
                await backoff.pause(error)
    except TimeoutError:
        raise WaitTimeoutError(f"{what}: not within {timeout_seconds:g} s") from None


async def insist(ask: Callable[[], Awaitable[T]], what: str) -> T:
    """Ask until the API server answers, however long it is away.

    Raises:
        KubeError: it refused for good.
    """
    backoff = Backoff(*_BACKOFF_SECONDS)
    while True:
        try:
            return await ask()
        except KubeError as error:
            if not error.temporary:
                raise
            log.warning("API server is waited for", extra={"for": what, "error": str(error)})
            await backoff.pause(error)


class _WatchEndedError(Exception):
    """The server closed the watch; nothing is wrong."""


async def _watch_once(
    kube: Kube, resource: Resource, namespace: str, name: str, until: Callable[[Json | None], bool]
) -> Json | None:
    selection = Selection.by_name(name)
    page = await kube.list(resource, namespace, selection)
    current = page.items[0] if page.items else None
    if until(current):
        return current
    async for event in kube.watch(resource, namespace, selection, page.resource_version):
        if event.type == "BOOKMARK":
            continue
        current = None if event.type == "DELETED" else event.object
        if until(current):
            return current
    raise _WatchEndedError


async def wait_gone(
    kube: Kube, resource: Resource, namespace: str, name: str, *, timeout_seconds: float, uid: str = ""
) -> None:
    """Wait until an object is not there any more; with `uid`, a namesake made since counts as gone."""
    what = f"waiting for {resource.kind} {namespace + '/' if namespace else ''}{name} to be deleted"
    await wait_for(
        kube,
        resource,
        namespace,
        name,
        until=lambda body: body is None or uid not in ("", body["metadata"]["uid"]),
        timeout_seconds=timeout_seconds,
        what=what,
    )
