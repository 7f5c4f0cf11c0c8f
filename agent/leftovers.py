"""The leftover finder: at start, removes what moves of ours left behind and nobody will clean up any more.

Touches only objects that carry our own mark (`EXPOSED_LABEL`, the UID of a move) and whose move does not
exist. Pods and claims owned by a deleted move are the garbage collector's.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from agent.world import RESOURCES
from exposer.kube import (
    VOLUME_SNAPSHOT,
    VOLUME_SNAPSHOT_CONTENT,
    KubeError,
    Selection,
    find,
    list_all,
)
from exposer.manifests import EXPOSED_LABEL
from exposer.removal import remove_backup_snapshot

if TYPE_CHECKING:
    from agent.world import World

Json = dict[str, Any]

log = logging.getLogger(__name__)


async def remove_leftovers(world: World) -> None:
    """Look once; an API that refuses is said and not insisted on."""
    try:
        for namespace, name, uid in await find_leftovers(world):
            log.info("leftover snapshot is removed", extra={"snapshot": name, "uid": uid})
            await remove_backup_snapshot(world.kube, namespace, name, uid)
    except KubeError as error:
        log.warning("leftovers were not looked for", extra={"error": str(error)})


async def find_leftovers(world: World) -> list[tuple[str, str, str]]:
    """Return (namespace, name, uid) of marked snapshots and contents whose DataUpload is gone."""
    marked = Selection(labels=EXPOSED_LABEL)
    namespace = world.config.namespace
    bodies = await list_all(world.kube, VOLUME_SNAPSHOT, namespace, marked)
    bodies += await list_all(world.kube, VOLUME_SNAPSHOT_CONTENT, "", marked)
    found: dict[str, tuple[str, str, str]] = {}
    for body in bodies:
        name, uid = body["metadata"]["name"], body["metadata"]["labels"][EXPOSED_LABEL]
        if _is_of_namespace(body, namespace) and not await _is_alive(world, name, uid):
            found[name] = (namespace, name, uid)
    return list(found.values())


def _is_of_namespace(body: Json, namespace: str) -> bool:
    """Leave alone what the agent of another Velero installation made."""
    reference = body["spec"].get("volumeSnapshotRef") or body["metadata"]
    return bool(reference.get("namespace") == namespace)


async def _is_alive(world: World, name: str, uid: str) -> bool:
    body = await find(world.kube, RESOURCES["DataUpload"], world.config.namespace, name)
    return body is not None and bool(body["metadata"]["uid"] == uid)
