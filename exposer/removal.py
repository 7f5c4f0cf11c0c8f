"""Takes back what was made: pods, claims with their volumes, snapshots with theirs.

Every function is safe to repeat. Deletion is asked for at once and waited for only where order matters: a
VolumeSnapshot cannot go in some drivers while a volume cloned from it exists.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from exposer.manifests import ORIGINAL_CONTENT_ANNOTATION
from exposer.ownership import find_volume, give_back, is_owned, is_provisioned_for
from kube.api import (
    POD,
    PV,
    PVC,
    VOLUME_SNAPSHOT,
    VOLUME_SNAPSHOT_CONTENT,
    Kube,
    NotFoundError,
    find,
)
from kube.waiting import WaitTimeoutError, wait_gone

if TYPE_CHECKING:
    from kube.api import Resource

Json = dict[str, Any]

# On a PV from the moment that its restored data is whole until it is the target's: the UID of the restore. No
# clean-up deletes such a PV; one that stays behind is told by name (`agent/control/leftovers.py`).
RESTORED_LABEL = "kopia-data-mover.io/restored-by"
_VOLUME_GONE_SECONDS = 60.0


async def _find_owned(kube: Kube, resource: Resource, namespace: str, name: str, uid: str) -> Json | None:
    body = await find(kube, resource, namespace, name)
    return body if body is not None and is_owned(body, uid) else None


async def remove_pod(kube: Kube, namespace: str, name: str, uid: str) -> str:
    """Delete the hosting pod at once; return its UID, empty if there is none of ours."""
    pod = await _find_owned(kube, POD, namespace, name, uid)
    if pod is None:
        return ""
    pod_uid: str = pod["metadata"]["uid"]
    await kube.delete(POD, namespace, name, uid=pod_uid, grace_seconds=0)
    return pod_uid


async def remove_claim(kube: Kube, namespace: str, name: str, uid: str) -> str | None:
    """Delete a PVC so that PV and storage go too; return the PV's name, `None` if no PVC is ours.

    Only what was made for the claim goes with it: a PV that was there before is given back, one with restored
    data that is whole is kept.
    """
    claim = await _find_owned(kube, PVC, namespace, name, uid)
    if claim is None:
        return None
    volume = await find_volume(kube, claim)
    if volume is not None and not is_provisioned_for(volume, claim):
        await give_back(kube, claim, volume)
        return ""
    if volume is not None and RESTORED_LABEL not in (volume["metadata"].get("labels") or {}):
        await set_reclaim_policy(kube, volume["metadata"]["name"], "Delete")
    await kube.delete(PVC, namespace, name, uid=claim["metadata"]["uid"])
    return volume["metadata"]["name"] if volume is not None else ""


async def wait_volume_gone(kube: Kube, namespace: str, claim: str, volume: str) -> None:
    """Wait up to a minute until claim and volume are gone; a slow driver is not waited for longer."""
    with contextlib.suppress(WaitTimeoutError):
        await wait_gone(kube, PVC, namespace, claim, timeout_seconds=_VOLUME_GONE_SECONDS)
        if volume:
            await wait_gone(kube, PV, "", volume, timeout_seconds=_VOLUME_GONE_SECONDS)


async def set_reclaim_policy(kube: Kube, volume: str, policy: str) -> str:
    """Set a PV's reclaim policy; return what it was (empty: no such PV)."""
    body = await find(kube, PV, "", volume)
    if body is None:
        return ""
    before: str = body["spec"].get("persistentVolumeReclaimPolicy", "")
    if before != policy:
        with contextlib.suppress(NotFoundError):
            await kube.patch(PV, "", volume, {"spec": {"persistentVolumeReclaimPolicy": policy}})
    return before


async def remove_backup_snapshot(kube: Kube, namespace: str, name: str, uid: str) -> None:
    """Delete the VolumeSnapshot and content made for a move, and with them the storage snapshot.

    The original content, if a crash left it behind with policy Retain, goes first.
    """
    content = await _find_owned(kube, VOLUME_SNAPSHOT_CONTENT, "", name, uid)
    if content is not None:
        await remove_original_content(kube, content)
    snapshot = await _find_owned(kube, VOLUME_SNAPSHOT, namespace, name, uid)
    if snapshot is not None:
        await kube.delete(VOLUME_SNAPSHOT, namespace, name, uid=snapshot["metadata"]["uid"])
    if content is not None:
        await kube.delete(VOLUME_SNAPSHOT_CONTENT, "", name, uid=content["metadata"]["uid"])


async def find_original_content(kube: Kube, content: Json) -> Json | None:
    """Return the content whose storage snapshot `content` took over, as the API server has it now."""
    name = original_content_name(content)
    original = await find(kube, VOLUME_SNAPSHOT_CONTENT, "", name) if name else None
    return original if original is not None and _handle(original) == _handle(content) else None


def original_content_name(content: Json) -> str:
    """Name the content whose storage snapshot `content` took over; empty if it says nothing of it."""
    return str((content["metadata"].get("annotations") or {}).get(ORIGINAL_CONTENT_ANNOTATION, ""))


def retains(content: Json) -> bool:
    """Whether the storage snapshot stays when this content goes."""
    return bool(content["spec"]["deletionPolicy"] == "Retain")


async def remove_original_content(kube: Kube, content: Json) -> str:
    """Delete the content whose storage snapshot `content` took over; return its name if it was there."""
    original = await find_original_content(kube, content)
    if original is None or not retains(original):
        return ""
    name: str = original["metadata"]["name"]
    await kube.delete(VOLUME_SNAPSHOT_CONTENT, "", name, uid=original["metadata"]["uid"])
    return name


def _handle(content: Json) -> str:
    source = content["spec"].get("source") or {}
    return str(source.get("snapshotHandle") or (content.get("status") or {}).get("snapshotHandle") or "")
