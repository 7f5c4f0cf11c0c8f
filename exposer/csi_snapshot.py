"""Exposes a CSI snapshot: VolumeSnapshot → a snapshot of ours → PVC → hosting pod (contract 2.1).

Every step finds what an earlier run has done, so a crashed agent's successor just begins again. The surprise
is the order of step 2: the storage snapshot gets a second owner (policy Delete) before the first one is told
to Retain and deleted, so at no moment nobody owns it. The originals go while the new PVC is being filled, not
before.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exposer.access_point import VolumeMode, volume_mode_of
from exposer.changed_blocks import SERVICE_ANNOTATION, ChangedBlockService, find_service
from exposer.errors import NotRetainedError, SnapshotNotReadyError, VolumeNotFoundError
from exposer.hosting_pod import CHANGE_ID_ANNOTATION, VOLUME_ID_ANNOTATION
from exposer.hosting_pod_manifest import HostingVolume
from exposer.manifests import backup_pvc, backup_snapshot, backup_snapshot_content
from exposer.ownership import EXPOSED_LABEL, find_volume, finish_giving_back, is_owned
from exposer.quantity import quantity_bytes
from exposer.removal import (
    find_original_content,
    original_content_name,
    remove_backup_snapshot,
    remove_claim,
    remove_original_content,
    remove_pod,
    retains,
    wait_volume_gone,
)
from exposer.secret_copies import copy_secrets, remove_copies
from exposer.settings import BackupPvcSettings
from exposer.volume_nodes import attached_nodes
from kube.api import (
    PVC,
    STORAGE_CLASS,
    VOLUME_SNAPSHOT,
    VOLUME_SNAPSHOT_CONTENT,
    find,
)
from kube.waiting import WaitTimeoutError, wait_for, wait_gone

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from exposer.exposure import Exposure

Json = dict[str, Any]

POD_GROUP = "snapshot-exposer"
_VSPHERE_CHANGE_ID, _VSPHERE_SNAPSHOT = "csi.vsphere.volume/change-id", "csi.vsphere.volume/snapshot"
FAST_PROVISIONING_ANNOTATION = "csi.vsphere.volume/fast-provisioning"
_NO_SETTINGS = BackupPvcSettings()


@dataclass(frozen=True, slots=True)
class SnapshotSource:
    """The claim that was backed up, and the snapshot of it; `as_device`: whatever its mode is."""

    namespace: str
    claim: str
    volume_snapshot: str
    storage_class: str
    as_device: bool = False


@dataclass(frozen=True, slots=True)
class _Source:
    """What the snapshot was taken of. Its claim and PV may be gone; the snapshot is ready all the same."""

    mode: VolumeMode
    size: str
    storage_class: str | None
    binds_late: bool
    volume: Json | None
    handles: dict[str, str]
    service: ChangedBlockService | None

    @property
    def notes(self) -> dict[str, str]:
        """What the hosting pod carries for a block backup."""
        return self.handles | ({SERVICE_ANNOTATION: self.service.note()} if self.service else {})

    @property
    def topology(self) -> tuple[Json, ...]:
        """The node terms that a late-binding volume is tied to."""
        required = ((self.volume or {}).get("spec", {}).get("nodeAffinity") or {}).get("required") or {}
        return tuple(required.get("nodeSelectorTerms") or ()) if self.binds_late else ()


async def expose_csi_snapshot(exposure: Exposure, wanted: SnapshotSource) -> None:
    """Make the snapshot reachable by a hosting pod that has been created when this returns.

    Raises:
        ExposeError: the source is missing, or something did not come in time. What was made stays for
        clean-up.
    """
    claim = await find(exposure.kube, PVC, wanted.namespace, wanted.claim)
    snapshot, content = await _take_over(exposure, wanted, claim)
    source = await _read_source(exposure, wanted, claim, snapshot, content)
    exposure.tell("")
    await _both(_remove_originals(exposure, wanted), _host(exposure, wanted, source))


async def _both(*work: Coroutine[Any, Any, None]) -> None:
    """Work side by side; where one fails the others end too, and make nothing behind clean-up's back."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read_source(
    exposure: Exposure, wanted: SnapshotSource, claim: Json | None, snapshot: Json, content: Json
) -> _Source:
    """Gather what the new claim needs from snapshot, resource and our own claim; the source may be gone."""
    kube = exposure.kube
    made = await find(kube, PVC, exposure.namespace, exposure.name)
    own = made if made is not None and is_owned(made, exposure.uid) else None
    volume = await find_volume(kube, claim) if claim is not None else None
    name = wanted.storage_class or ((claim or {}).get("spec") or {}).get("storageClassName")
    body = await find(kube, STORAGE_CLASS, "", name) if name else None
    return _Source(
        mode=VolumeMode.BLOCK if wanted.as_device else _source_mode(wanted, content, own, claim),
        size=_size(wanted, snapshot, own, claim, volume),
        storage_class=name,
        binds_late=(body or {}).get("volumeBindingMode") == "WaitForFirstConsumer",
        volume=volume,
        handles=_handles(snapshot, content, volume) if wanted.as_device else {},
        service=await find_service(kube, content["spec"].get("driver", "")) if wanted.as_device else None,
    )


def _handles(snapshot: Json, content: Json, volume: Json | None) -> dict[str, str]:
    """Note the driver's handles of snapshot and volume; those that vSphere's driver tells come first.

    The snapshot's is in the spec of our content from its first moment. Upstream reads it from the status,
    which is not there yet, so that its next block backup is a full one.
    """
    told = snapshot["metadata"].get("annotations") or {}
    change_id, told_snapshot = told.get(_VSPHERE_CHANGE_ID, ""), told.get(_VSPHERE_SNAPSHOT, "")
    if change_id or told_snapshot:
        volume_id = told_snapshot.split("+", 1)[0]
    else:
        change_id = content["spec"]["source"].get("snapshotHandle", "")
        volume_id = ((volume or {}).get("spec", {}).get("csi") or {}).get("volumeHandle", "")
    return {CHANGE_ID_ANNOTATION: change_id, VOLUME_ID_ANNOTATION: volume_id}


def _source_mode(wanted: SnapshotSource, content: Json, own: Json | None, claim: Json | None) -> VolumeMode:
    """The mode that the snapshot has on record; else that of the claim made of it, else of its source."""
    if content["spec"].get("sourceVolumeMode"):
        return VolumeMode(content["spec"]["sourceVolumeMode"])
    known = own or claim
    if known is None:
        raise VolumeNotFoundError(
            f"source PVC {wanted.namespace}/{wanted.claim} does not exist any more, and its snapshot does "
            "not say whether it was a file system or a device"
        )
    return volume_mode_of(known)


async def _take_over(exposure: Exposure, wanted: SnapshotSource, claim: Json | None) -> tuple[Json, Json]:
    """Return the VolumeSnapshot of ours, ready, and the content with which it owns the storage snapshot."""
    kube, name = exposure.kube, exposure.name
    content = await find(kube, VOLUME_SNAPSHOT_CONTENT, "", name)
    if content is None or not is_owned(content, exposure.uid):
        await _must_be_there(exposure, wanted, claim)
        source = await _ready_snapshot(exposure, wanted.namespace, wanted.volume_snapshot)
        original = await _bound_content(exposure, source)
        body = backup_snapshot(name, exposure.namespace, source, uid=exposure.uid)
        snapshot = await exposure.make(VOLUME_SNAPSHOT, exposure.namespace, body)
        content = await exposure.make(
            VOLUME_SNAPSHOT_CONTENT, "", backup_snapshot_content(snapshot, original, uid=exposure.uid)
        )
    await _retain_original(exposure, content)
    return await _ready_snapshot(exposure, exposure.namespace, name), content


async def _must_be_there(exposure: Exposure, wanted: SnapshotSource, claim: Json | None) -> None:
    """Say at once that there is neither a source nor a snapshot of it: nothing of either will come."""
    if claim is None and not await find(
        exposure.kube, VOLUME_SNAPSHOT, wanted.namespace, wanted.volume_snapshot
    ):
        raise VolumeNotFoundError(
            f"source PVC {wanted.namespace}/{wanted.claim} does not exist, nor does its volume snapshot "
            f"{wanted.volume_snapshot}"
        )


async def _retain_original(exposure: Exposure, content: Json) -> None:
    """See to it, on every pass, that the original content cannot take the storage snapshot along.

    That ours exists does not say that an earlier pass came as far as this: its PATCH may have failed. What
    the API server has is read, asked for and read again before anything is deleted.
    """
    original = await find_original_content(exposure.kube, content)
    if original is None or retains(original):
        return
    name = original["metadata"]["name"]
    retain = {"spec": {"deletionPolicy": "Retain"}}
    await exposure.kube.patch(VOLUME_SNAPSHOT_CONTENT, "", name, retain)
    original = await find_original_content(exposure.kube, content)
    if original is not None and not retains(original):
        raise NotRetainedError(f"volume snapshot content {name} is not set to Retain yet")


async def _ready_snapshot(exposure: Exposure, namespace: str, name: str) -> Json:
    errors: list[str] = []

    def is_ready(body: Json | None) -> bool:
        if body is None:
            raise VolumeNotFoundError(f"volume snapshot {namespace}/{name} does not exist")
        status = body.get("status") or {}
        trouble = (status.get("error") or {}).get("message", "")
        if trouble and trouble not in errors:
            errors.append(trouble)
        exposure.tell(
            f"volume snapshot {namespace}/{name} is not ready" + (f": {trouble}" if trouble else "")
        )
        return bool(status.get("readyToUse") and status.get("boundVolumeSnapshotContentName"))

    try:
        body = await wait_for(
            exposure.kube,
            VOLUME_SNAPSHOT,
            namespace,
            name,
            until=is_ready,
            timeout_seconds=exposure.prepare_seconds,
            what=f"volume snapshot {namespace}/{name} is ready",
        )
    except WaitTimeoutError:
        raise SnapshotNotReadyError(f"volume snapshot is not ready until timeout, errors: {errors}") from None
    assert body is not None  # noqa: S101 - is_ready raises on None
    return body


async def _bound_content(exposure: Exposure, snapshot: Json) -> Json:
    name = snapshot["status"]["boundVolumeSnapshotContentName"]
    content = await find(exposure.kube, VOLUME_SNAPSHOT_CONTENT, "", name)
    if content is None:
        raise VolumeNotFoundError(f"volume snapshot content {name} does not exist")
    if not (content.get("status") or {}).get("snapshotHandle"):
        raise SnapshotNotReadyError(f"volume snapshot content {name} has no snapshot handle yet")
    return content


async def _remove_originals(exposure: Exposure, wanted: SnapshotSource) -> None:
    """Delete the source's VolumeSnapshot and content: the storage snapshot is ours alone from here on."""
    kube, seconds = exposure.kube, exposure.operation_seconds
    content = await find(kube, VOLUME_SNAPSHOT_CONTENT, "", exposure.name)
    if content is not None:
        await _retain_original(exposure, content)
    source = await find(kube, VOLUME_SNAPSHOT, wanted.namespace, wanted.volume_snapshot)
    if content is not None and source is not None and _is_taken_over(source, content):
        uid = source["metadata"]["uid"]
        await kube.delete(VOLUME_SNAPSHOT, wanted.namespace, wanted.volume_snapshot, uid=uid)
        await wait_gone(
            kube, VOLUME_SNAPSHOT, wanted.namespace, wanted.volume_snapshot, uid=uid, timeout_seconds=seconds
        )
    original = await remove_original_content(kube, content) if content else ""
    if original:
        await wait_gone(kube, VOLUME_SNAPSHOT_CONTENT, "", original, timeout_seconds=seconds)


def _is_taken_over(source: Json, content: Json) -> bool:
    """Whether a VolumeSnapshot is the one whose storage snapshot `content` owns, and not a namesake since."""
    bound = (source.get("status") or {}).get("boundVolumeSnapshotContentName", "")
    return bool(bound and bound == original_content_name(content))


async def _host(exposure: Exposure, wanted: SnapshotSource, source: _Source) -> None:
    """Create the PVC from the snapshot, and the hosting pod."""
    chosen = exposure.settings.backup_pvc.get(wanted.storage_class, _NO_SETTINGS)
    await copy_secrets(exposure, wanted.namespace, chosen.copied)
    storage_class = chosen.storage_class or source.storage_class
    avoid, annotations = await _fast_provisioning(exposure, source, dict(chosen.annotations))
    claim = backup_pvc(
        exposure.name,
        exposure.namespace,
        owner=exposure.owner,
        storage_class=storage_class,
        size=source.size,
        volume_mode=source.mode,
        read_only=chosen.read_only,
        annotations=annotations,
    )
    await exposure.make(PVC, exposure.namespace, claim)
    volume = HostingVolume(
        claim=exposure.name, is_block=source.mode is VolumeMode.BLOCK, read_only=chosen.read_only
    )
    plan = exposure.plan(
        volume,
        pod_group=POD_GROUP,
        affinity=exposure.settings.affinity_for(storage_class or ""),
        topology=source.topology,
        avoid_nodes=avoid,
        reads_only=True,
        relabel=not (chosen.read_only and chosen.spc_no_relabeling),
        notes=source.notes,
        token_audience=source.service.audience if source.service else "",
    )
    await exposure.wait_bound(storage_class or "")
    await exposure.create_pod(plan)


async def _fast_provisioning(
    exposure: Exposure, source: _Source, annotations: dict[str, str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Keep a fast clone (vSphere) away from the nodes of its source; unknown nodes: no fast clone."""
    if FAST_PROVISIONING_ANNOTATION not in annotations:
        return (), annotations
    volume = source.volume
    nodes = await attached_nodes(exposure.kube, volume["metadata"]["name"]) if volume is not None else None
    if nodes is None:
        annotations.pop(FAST_PROVISIONING_ANNOTATION)
    return tuple(nodes or ()), annotations


def _size(
    wanted: SnapshotSource, snapshot: Json, own: Json | None, claim: Json | None, volume: Json | None
) -> str:
    """The largest of what the snapshot needs, what was asked for and what there was.

    A driver may report a `restoreSize` below the volume's size (the bytes in use), and none must be smaller.
    """
    known = [str((snapshot.get("status") or {}).get("restoreSize") or "")]
    for body in (own, claim):
        if body is not None:
            known.append(str(body["spec"]["resources"]["requests"]["storage"]))
            known.append(str(((body.get("status") or {}).get("capacity") or {}).get("storage", "")))
    known.append(str(((volume or {"spec": {}})["spec"].get("capacity") or {}).get("storage", "")))
    largest = max(known, key=quantity_bytes)
    if not quantity_bytes(largest):
        raise VolumeNotFoundError(
            f"source PVC {wanted.namespace}/{wanted.claim} does not exist any more, and its snapshot does "
            "not say how large it was"
        )
    return largest


async def _adopt_upstreams_snapshot(exposure: Exposure) -> None:
    """Mark the snapshot and content that upstream's agent made for this move before its image was swapped.

    It leaves no mark on them, and nobody else would ever delete the storage snapshot. They are the move's
    if its own claim was filled from them; that is known as long as the claim is there, hence the mark.
    """
    kube, name, namespace, uid = exposure.kube, exposure.name, exposure.namespace, exposure.uid
    claim = await find(kube, PVC, namespace, name)
    if claim is None or not is_owned(claim, uid):
        return
    filled_from = claim["spec"].get("dataSource") or {}
    if (filled_from.get("kind"), filled_from.get("name")) != (VOLUME_SNAPSHOT.kind, name):
        return
    content = await find(kube, VOLUME_SNAPSHOT_CONTENT, "", name)
    reference = (content or {"spec": {}})["spec"].get("volumeSnapshotRef") or {}
    is_ours = (reference.get("namespace"), reference.get("name")) == (namespace, name)
    mark = {"metadata": {"labels": {EXPOSED_LABEL: uid}}}
    snapshot = await find(kube, VOLUME_SNAPSHOT, namespace, name)
    if snapshot is not None and not is_owned(snapshot, uid):
        await kube.patch(VOLUME_SNAPSHOT, namespace, name, mark)
    if content is not None and is_ours and not is_owned(content, uid):
        await kube.patch(VOLUME_SNAPSHOT_CONTENT, "", name, mark)


async def hide_csi_snapshot(exposure: Exposure, wanted: SnapshotSource) -> None:
    """Take everything back, also what a crash left: pod, PVC with its PV, snapshots of ours, the original."""
    kube, name, namespace, uid = exposure.kube, exposure.name, exposure.namespace, exposure.uid
    await remove_pod(kube, namespace, name, uid)
    await _adopt_upstreams_snapshot(exposure)
    volume = await remove_claim(kube, namespace, name, uid)
    if volume is not None:
        await wait_volume_gone(kube, namespace, name, volume)
    else:
        await finish_giving_back(kube, namespace)
    await remove_backup_snapshot(kube, namespace, name, uid)
    await remove_copies(kube, namespace, uid)
    source = await find(kube, VOLUME_SNAPSHOT, wanted.namespace, wanted.volume_snapshot)
    if source is not None:
        await kube.delete(
            VOLUME_SNAPSHOT, wanted.namespace, wanted.volume_snapshot, uid=source["metadata"]["uid"]
        )
