"""The leftover finder: at start, removes what moves of ours left behind and nobody will clean up any more.

Touches only objects that carry our own mark (`EXPOSED_LABEL`, the UID of a move) and whose move does not
exist. Pods and claims owned by a deleted move are the garbage collector's. A PV with restored data that
nobody was given (`RESTORED_LABEL`) is told by name and never deleted: somebody may want it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from agent.control.world import RESOURCES
from agent.moves.custom_resources import Phase
from exposer.ownership import EXPOSED_LABEL, finish_giving_back
from exposer.rebind import RESTORE_ANNOTATION, is_given
from exposer.removal import RESTORED_LABEL, remove_backup_snapshot
from exposer.secret_copies import copied_for, find_copies, remove_copies
from kube.api import (
    PV,
    VOLUME_SNAPSHOT,
    VOLUME_SNAPSHOT_CONTENT,
    ForbiddenError,
    KubeError,
    Selection,
    find,
    list_all,
)
from kube.labels import label_value

if TYPE_CHECKING:
    from agent.control.world import World

Json = dict[str, Any]

log = logging.getLogger(__name__)


async def remove_leftovers(world: World) -> None:
    """Look once; an API that refuses is said and not insisted on."""
    try:
        for namespace, name, uid in await find_leftovers(world):
            log.info("leftover snapshot is removed", extra={"snapshot": name, "uid": uid})
            await remove_backup_snapshot(world.kube, namespace, name, uid)
        await _remove_leftover_copies(world)
        await finish_giving_back(world.kube, world.config.namespace)
        for volume in await find_kept_volumes(world):
            fields = {"volume": volume["metadata"]["name"], "restore": _restore_of(volume)}
            log.warning(
                "PV keeps data of a restore that did not end well; bind it or delete it", extra=fields
            )
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


async def _remove_leftover_copies(world: World) -> None:
    """Remove copies of Secrets whose move was deleted by force: they hold keys of somebody's volumes.

    Their name is their source's, so the move is known by its UID alone. Moves are listed after the copies:
    a copy that is seen was made for a move that exists by then, or never will again.
    """
    namespace = world.config.namespace
    try:
        copies = await find_copies(world.kube, namespace)
    except ForbiddenError:
        return  # without the right there are none of ours (`exposer.secret_copies`)
    if not copies:
        return
    alive = {
        body["metadata"]["uid"]
        for kind in ("DataUpload", "DataDownload")
        for body in await list_all(world.kube, RESOURCES[kind], namespace)
    }
    for uid in sorted({copied_for(body) for _, body in copies} - alive):
        log.info("leftover copies of Secrets are removed", extra={"uid": uid})
        await remove_copies(world.kube, namespace, uid)


async def find_kept_volumes(world: World) -> list[Json]:
    """Return PVs with restored data whose DataDownload has ended or is gone, and which no application has."""
    marked = await list_all(world.kube, PV, "", Selection(labels=RESTORED_LABEL))
    namespace = world.config.namespace
    ours = [v for v in marked if _restore_of(v).startswith(f"{namespace}/") and not is_given(v, namespace)]
    return [volume for volume in ours if not await _is_restoring(world, volume)]


def _restore_of(volume: Json) -> str:
    return str((volume["metadata"].get("annotations") or {}).get(RESTORE_ANNOTATION, ""))


async def _is_restoring(world: World, volume: Json) -> bool:
    """Whether the DataDownload that a PV was made for will still go on with it."""
    kind = RESOURCES["DataDownload"]
    body = await find(world.kube, kind, world.config.namespace, _restore_of(volume).partition("/")[2])
    if body is None or label_value(body["metadata"]["uid"]) != volume["metadata"]["labels"][RESTORED_LABEL]:
        return False
    phase = (body.get("status") or {}).get("phase") or Phase.NEW.value
    return phase not in (Phase.FAILED, Phase.CANCELED)


def _is_of_namespace(body: Json, namespace: str) -> bool:
    """Leave alone what the agent of another Velero installation made."""
    reference = body["spec"].get("volumeSnapshotRef") or body["metadata"]
    return bool(reference.get("namespace") == namespace)


async def _is_alive(world: World, name: str, uid: str) -> bool:
    body = await find(world.kube, RESOURCES["DataUpload"], world.config.namespace, name)
    return body is not None and bool(body["metadata"]["uid"] == uid)
