"""The controllers of a cluster, played on any `Kube`: snapshot controller, provisioner and volume binder.

Small enough to be read, faithful in what an exposer depends on: finalizers, readiness, binding, reclaim policies,
and the data: which storage snapshots and disks exist (`storage`) and what is in them (`contents`). A storage snapshot
goes with the first content of policy Delete that goes, whoever else names it; a disk made from one holds its bytes. The
kubelet is played by the tests themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from exposer.quantity import quantity_bytes
from kube.api import (
    POD,
    PV,
    PVC,
    VOLUME_ATTACHMENT,
    VOLUME_SNAPSHOT,
    VOLUME_SNAPSHOT_CONTENT,
    Json,
    Kube,
    KubeError,
    NotFoundError,
    Resource,
    Selection,
    find,
    list_all,
)

_PROTECTION = "kubernetes.io/pvc-protection"
_SNAPSHOT_PROTECTION = "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection"
_CONTENT_PROTECTION = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection"


def fits(claim: Json, volume: Json) -> bool:
    """Whether Kubernetes' binder lets a claim have a PV."""
    wanted, there = claim["spec"], volume["spec"]
    return (
        there.get("storageClassName", "") == wanted.get("storageClassName", "")
        and set(wanted["accessModes"]) <= set(there["accessModes"])
        and there.get("volumeMode", "Filesystem") == wanted.get("volumeMode", "Filesystem")
        and quantity_bytes(there["capacity"]["storage"])
        >= quantity_bytes(wanted["resources"]["requests"]["storage"])
    )


class ClusterControllers:
    """Run `step` until nothing changes any more, or `run` in the background."""

    def __init__(self, kube: Kube, *, driver: str = "csi.test") -> None:
        self.kube = kube
        self.driver = driver
        self.storage: set[str] = set()  # handles of snapshots and disks that exist
        self.data: dict[str, str] = {}  # what is in them, where it is not what they are called
        self.ready = True  # whether the driver makes snapshots ready
        self.left_alone: set[str] = set()  # names of claims that nobody binds
        self.restore_size = "1Gi"  # what the driver says of snapshots
        self.detaches = True  # whether a volume leaves a node when its pod has ended

    async def run(self, *, pause_seconds: float = 0.01) -> None:
        while True:
            with contextlib.suppress(KubeError, KeyError):
                await self.step()
            await asyncio.sleep(pause_seconds)

    async def step(self) -> None:
        for body in await list_all(self.kube, VOLUME_SNAPSHOT):
            await self._snapshot(body)
        for body in await list_all(self.kube, VOLUME_SNAPSHOT_CONTENT):
            await self._content(body)
        for body in await list_all(self.kube, PVC):
            await self._claim(body)
        for body in await list_all(self.kube, PV):
            await self._volume(body)
        await self._attachments()

    def contents(self, handle: str) -> str:
        """What somebody who reads a snapshot or a disk finds there."""
        assert handle in self.storage, f"the data of {handle} is gone"
        return self.data.get(handle, handle)

    async def _patch(self, resource: Resource, body: Json, patch: Json) -> None:
        meta = body["metadata"]
        with contextlib.suppress(NotFoundError):
            await self.kube.patch(resource, meta.get("namespace", ""), meta["name"], patch)

    async def _attachments(self) -> None:
        """The attach-detach controller: what a pod on a node uses is attached there, until the pod has ended."""
        wanted = {}
        for pod in await list_all(self.kube, POD):
            node, phase = pod["spec"].get("nodeName", ""), (pod.get("status") or {}).get("phase")
            if node and phase not in ("Succeeded", "Failed"):
                wanted |= {f"csi-{volume}-{node}": (volume, node) for volume in await self._volumes_of(pod)}
        there = await list_all(self.kube, VOLUME_ATTACHMENT, "", Selection(labels="played"))
        names = {body["metadata"]["name"] for body in there}
        for name in wanted.keys() - names:
            volume, node = wanted[name]
            spec = {"attacher": self.driver, "nodeName": node, "source": {"persistentVolumeName": volume}}
            body = {"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "spec": spec}
            await self.kube.create(
                VOLUME_ATTACHMENT, "", body | {"metadata": {"name": name, "labels": {"played": "yes"}}}
            )
        for name in names - wanted.keys() if self.detaches else ():
            await self.kube.delete(VOLUME_ATTACHMENT, "", name)

    async def _volumes_of(self, pod: Json) -> list[str]:
        names = [
            v.get("persistentVolumeClaim", {}).get("claimName") for v in pod["spec"].get("volumes") or []
        ]
        claims = [await find(self.kube, PVC, pod["metadata"]["namespace"], name) for name in names if name]
        return [claim["spec"]["volumeName"] for claim in claims if claim and claim["spec"].get("volumeName")]

    async def _snapshot(self, body: Json) -> None:
        meta, status = body["metadata"], body.get("status") or {}
        if "deletionTimestamp" in meta:
            await self._delete_snapshot(body)
            return
        name = body["spec"]["source"].get("volumeSnapshotContentName") or status.get(
            "boundVolumeSnapshotContentName"
        )
        content = await find(self.kube, VOLUME_SNAPSHOT_CONTENT, "", name) if name else None
        if content is None or status.get("readyToUse") or not self.ready:
            return
        await self._patch(
            VOLUME_SNAPSHOT,
            body,
            {
                "metadata": {"finalizers": [_SNAPSHOT_PROTECTION]},
                "status": {
                    "readyToUse": True,
                    "boundVolumeSnapshotContentName": name,
                    "restoreSize": self.restore_size,
                },
            },
        )
        await self._patch(
            VOLUME_SNAPSHOT_CONTENT, content, {"metadata": {"finalizers": [_CONTENT_PROTECTION]}}
        )

    async def _delete_snapshot(self, body: Json) -> None:
        status = body.get("status") or {}
        name = status.get("boundVolumeSnapshotContentName", "")
        content = await find(self.kube, VOLUME_SNAPSHOT_CONTENT, "", name) if name else None
        if content is not None and content["spec"]["deletionPolicy"] == "Delete":
            await self.kube.delete(VOLUME_SNAPSHOT_CONTENT, "", name)
        await self._patch(VOLUME_SNAPSHOT, body, {"metadata": {"finalizers": None}})

    async def _content(self, body: Json) -> None:
        meta, spec = body["metadata"], body["spec"]
        handle = spec["source"].get("snapshotHandle") or (body.get("status") or {}).get("snapshotHandle")
        # without a handle to tell there is nothing to say: a null here would erase the one that a test is just writing
        if handle and not (body.get("status") or {}).get("snapshotHandle"):
            await self._patch(
                VOLUME_SNAPSHOT_CONTENT, body, {"status": {"snapshotHandle": handle, "readyToUse": True}}
            )
        if "deletionTimestamp" not in meta:
            return
        reference = spec["volumeSnapshotRef"]
        if await find(self.kube, VOLUME_SNAPSHOT, reference["namespace"], reference["name"]) is None:
            if spec["deletionPolicy"] == "Delete":
                self.storage.discard(handle)
            await self._patch(VOLUME_SNAPSHOT_CONTENT, body, {"metadata": {"finalizers": None}})

    async def _claim(self, body: Json) -> None:
        meta, spec = body["metadata"], body["spec"]
        if meta["name"] in self.left_alone:
            return
        if "deletionTimestamp" in meta:
            await self._patch(PVC, body, {"metadata": {"finalizers": None}})
        elif spec.get("volumeName"):
            await self._patch_if_unbound(body)
        elif volume := await self._available(body):
            await self._match(body, volume)
        elif await self._provisionable(body):
            await self._provision(body)

    async def _available(self, body: Json) -> Json | None:
        """The first PV that is there for a claim: the binder asks nothing about `dataSource`."""
        spec = body["spec"]
        labels = (spec.get("selector") or {}).get("matchLabels") or {}
        for volume in await list_all(self.kube, PV):
            there = volume["spec"]
            if (
                not there.get("claimRef")
                and "deletionTimestamp" not in volume["metadata"]
                and labels.items() <= (volume["metadata"].get("labels") or {}).items()
                and fits(body, volume)
            ):
                return volume
        return None

    async def _match(self, body: Json, volume: Json) -> None:
        meta = body["metadata"]
        reference = {
            "kind": "PersistentVolumeClaim",
            "apiVersion": "v1",
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
        }
        note = {"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}}
        await self._patch(
            PV, volume, {"metadata": note, "spec": {"claimRef": reference}, "status": {"phase": "Bound"}}
        )
        await self._patch(
            PVC,
            body,
            {
                "metadata": note | {"finalizers": [_PROTECTION]},
                "spec": {"volumeName": volume["metadata"]["name"]},
                "status": {"phase": "Bound"},
            },
        )

    async def _patch_if_unbound(self, body: Json) -> None:
        if (body.get("status") or {}).get("phase") == "Bound":
            return
        volume = await find(self.kube, PV, "", body["spec"]["volumeName"])
        reference = ((volume or {}).get("spec") or {}).get("claimRef") or {}
        meta = body["metadata"]
        theirs = (reference.get("namespace"), reference.get("name")) == (meta["namespace"], meta["name"])
        if (
            volume is not None
            and theirs
            and reference.get("uid") in (None, meta["uid"])
            and fits(body, volume)
        ):
            await self._patch(PVC, body, {"status": {"phase": "Bound"}})

    async def _provisionable(self, body: Json) -> bool:
        if (body["spec"].get("selector") or {}).get("matchLabels"):
            return False
        source = body["spec"].get("dataSource")
        if source is None:
            return bool(body["spec"].get("storageClassName"))
        return await self._source_handle(body) in self.storage  # a driver cannot clone what is not there

    async def _source_handle(self, claim: Json) -> str:
        """The storage snapshot that a claim is to be filled from; empty if it has none, or none yet."""
        source = claim["spec"].get("dataSource")
        if source is None:
            return ""
        snapshot = await find(self.kube, VOLUME_SNAPSHOT, claim["metadata"]["namespace"], source["name"])
        status = (snapshot or {}).get("status") or {}
        name = status.get("boundVolumeSnapshotContentName", "")
        content = (
            await find(self.kube, VOLUME_SNAPSHOT_CONTENT, "", name) if status.get("readyToUse") else None
        )
        return str(((content or {}).get("status") or {}).get("snapshotHandle", ""))

    async def _provision(self, body: Json) -> None:
        meta = body["metadata"]
        name = f"pvc-{meta['uid']}"
        handle = await self._source_handle(body)
        self.storage.add(name)
        self.data[name] = self.contents(handle) if handle else "blank"
        reference = {
            "kind": "PersistentVolumeClaim",
            "apiVersion": "v1",
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
        }
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": body["spec"]["resources"]["requests"]["storage"]},
                "accessModes": body["spec"]["accessModes"],
                "volumeMode": body["spec"].get("volumeMode", "Filesystem"),
                "csi": {"driver": self.driver, "volumeHandle": name},
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": body["spec"].get("storageClassName", ""),
                "claimRef": reference,
            },
            "status": {"phase": "Bound"},
        }
        with contextlib.suppress(KubeError):
            await self.kube.create(PV, "", volume)
        await self._patch(
            PVC,
            body,
            {
                "metadata": {"finalizers": [_PROTECTION]},
                "spec": {"volumeName": name},
                "status": {"phase": "Bound"},
            },
        )

    async def _volume(self, body: Json) -> None:
        meta, spec = body["metadata"], body["spec"]
        reference: dict[str, Any] = spec.get("claimRef") or {}
        claim = (
            await find(self.kube, PVC, reference.get("namespace", ""), reference.get("name", ""))
            if reference
            else None
        )
        uid = reference.get("uid")
        bound = (
            claim is not None
            and uid in (None, claim["metadata"]["uid"])
            and claim["spec"].get("volumeName") == meta["name"]
            and fits(claim, body)
        )
        if bound and claim is not None:
            if uid is None or (body.get("status") or {}).get("phase") != "Bound":
                patch = {
                    "spec": {"claimRef": {"uid": claim["metadata"]["uid"]}},
                    "status": {"phase": "Bound"},
                }
                await self._patch(PV, body, patch)
        elif not reference:
            if (body.get("status") or {}).get("phase") != "Available":
                await self._patch(PV, body, {"status": {"phase": "Available"}})
        elif uid is not None and claim is not None and claim["metadata"]["uid"] == uid:
            return  # the claim is still to hear of it
        elif spec["persistentVolumeReclaimPolicy"] == "Delete" and uid is not None:
            self.storage.discard(spec["csi"]["volumeHandle"])
            await self.kube.delete(PV, "", meta["name"])
            await self._patch(PV, body, {"metadata": {"finalizers": None}})
