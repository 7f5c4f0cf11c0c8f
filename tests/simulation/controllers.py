"""The cluster's own controllers: volume binder, provisioner, snapshot controller, garbage collector.

Each is a function of the newest objects, called a while after something changed that it may care for. They own
the data model: what Kubernetes' objects ask for is done to `Storage`, as the real controllers do it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.simulation.storage import Disk, NoDataError, Storage
from tests.simulation.store import Json, Refused, Store, Table, selects

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.simulation.store import Change

DRIVER = "csi.test"
PVC_PROTECTION = "kubernetes.io/pvc-protection"
PV_PROTECTION = "kubernetes.io/pv-protection"
SNAPSHOT_BOUND = "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection"
CONTENT_BOUND = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection"
BEING_DELETED = "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
LATER = 5.0


class WorkList:
    """Calls a function for a key some time after it was asked to; many wishes are one call."""

    def __init__(self, rng: Random, slowness: float = 0.3) -> None:
        self.slowness = slowness
        self.paused = False
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._due: set[Any] = set()

    def add(self, work: Callable[..., float | None], *key: Any, after: float = 0.0) -> None:
        """Have `work(*key)` called soon; it may return seconds after which it wants to be called again."""
        what = (work, key)
        if what not in self._due:
            self._due.add(what)
            self._loop.call_later(after + self._rng.uniform(0.001, self.slowness), self._do, what)

    def _do(self, what: tuple[Callable[..., float | None], tuple[Any, ...]]) -> None:
        self._due.discard(what)
        work, key = what
        if self.paused:
            self.add(work, *key, after=1.0)
            return
        try:
            again = work(*key)
        except Refused:
            again = LATER
        if again:
            self.add(work, *key, after=again)


class Controllers:
    """Keeps volumes, claims and snapshots as their specs say."""

    def __init__(self, store: Store, storage: Storage, work: WorkList) -> None:
        self.store, self.storage, self.work = store, storage, work
        self.trouble: dict[tuple[str, str], str] = {}

    def heard(self, table: Table, change: Change) -> None:
        """Wake who may care."""
        plural, key, body = table.kind.plural, change.key, change.after
        if change.type == "DELETED" or body["metadata"].get("ownerReferences"):
            self.work.add(self.collect, body["metadata"]["uid"], change.type == "DELETED")
        if plural == "persistentvolumeclaims":
            self._claim_changed(key, body)
        elif plural == "persistentvolumes":
            self.work.add(self.volume, key[1])
            reference = body["spec"].get("claimRef")
            if reference:
                self.work.add(self.claim, reference["namespace"], reference["name"])
        elif plural == "pods":
            for name in claims_of(body):
                self.work.add(self.claim, key[0], name)
        elif plural == "volumesnapshots":
            self._snapshot_changed(key, body)
        elif plural == "volumesnapshotcontents":
            self.work.add(self.content, key[1])
            reference = body["spec"]["volumeSnapshotRef"]
            self.work.add(self.snapshot, reference["namespace"], reference["name"])

    def _claim_changed(self, key: tuple[str, str], body: Json) -> None:
        self.work.add(self.claim, *key)
        volume = body["spec"].get("volumeName")
        if volume:
            self.work.add(self.volume, volume)
        source = body["spec"].get("dataSource") or {}
        if source.get("kind") == "VolumeSnapshot":
            self.work.add(self.snapshot, key[0], source["name"])

    def _snapshot_changed(self, key: tuple[str, str], body: Json) -> None:
        self.work.add(self.snapshot, *key)
        name = content_name(body)
        if name:
            self.work.add(self.content, name)
        for claim in self.store.each("persistentvolumeclaims"):
            if claim["metadata"]["namespace"] == key[0] and not claim["spec"].get("volumeName"):
                self.work.add(self.claim, *key_of(claim))

    # claims and volumes

    def claim(self, namespace: str, name: str) -> float | None:
        """One pass over a claim: release, bind, match, or provision."""
        claim = self.store.find("persistentvolumeclaims", namespace, name)
        if claim is None:
            return None
        if "deletionTimestamp" in claim["metadata"]:
            return self._release_claim(claim)
        if claim["spec"].get("volumeName"):
            return self._bind_named(claim)
        return self._find_volume(claim)

    def _find_volume(self, claim: Json) -> float | None:
        meta, spec = claim["metadata"], claim["spec"]
        storage_class = self.store.find("storageclasses", "", spec.get("storageClassName", ""))
        late = (storage_class or {}).get("volumeBindingMode") == "WaitForFirstConsumer"
        if late and SELECTED_NODE not in (meta.get("annotations") or {}):
            return None
        volume = self._match(claim)
        if volume is not None:
            return self._bind(claim, volume)
        if storage_class is None or spec.get("selector"):
            return None
        return self._provision(claim)

    def _release_claim(self, claim: Json) -> float | None:
        meta = claim["metadata"]
        users = [
            pod
            for pod in self.store.each("pods")
            if pod["metadata"]["namespace"] == meta["namespace"]
            and meta["name"] in claims_of(pod)
            and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
            and pod["spec"].get("nodeName")
        ]
        if users or PVC_PROTECTION not in (meta.get("finalizers") or []):
            return None
        rest = [one for one in meta["finalizers"] if one != PVC_PROTECTION]
        self.store.put("persistentvolumeclaims", claim, metadata={"finalizers": rest or None})
        return None

    def _bind_named(self, claim: Json) -> float | None:
        volume = self.store.find("persistentvolumes", "", claim["spec"]["volumeName"])
        completed = BIND_COMPLETED in (claim["metadata"].get("annotations") or {})
        if volume is None:
            if completed and claim["status"].get("phase") != "Lost":
                self.store.put("persistentvolumeclaims", claim, status={"phase": "Lost"})
            return None
        reference = volume["spec"].get("claimRef") or {}
        meta = claim["metadata"]
        ours = (reference.get("namespace"), reference.get("name")) == (meta["namespace"], meta["name"])
        if reference and not (ours and reference.get("uid") in (None, "", meta["uid"])):
            return None
        if claim["status"].get("phase") == "Bound" and reference.get("uid") == meta["uid"] and completed:
            return None
        return self._bind(claim, volume)

    def _match(self, claim: Json) -> Json | None:
        """The binder's first choice: a volume that is there already. Nobody looks at `dataSource`."""
        fitting = [volume for volume in self.store.each("persistentvolumes") if _fits(claim, volume)]
        mine = [volume for volume in fitting if volume["spec"].get("claimRef")]
        return min(mine or fitting, key=lambda volume: volume["metadata"]["name"], default=None)

    def _bind(self, claim: Json, volume: Json) -> float | None:
        meta, chosen = claim["metadata"], not claim["spec"].get("volumeName")
        reference = volume["spec"].get("claimRef") or {}
        whole = {
            "kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": meta["namespace"],
            "name": meta["name"], "uid": meta["uid"],
        }  # fmt: skip
        notes = {} if reference else {BOUND_BY_CONTROLLER: "yes"}
        parts: Json = {"spec": {"claimRef": whole}, "status": {"phase": "Bound"}}
        if notes:
            parts["metadata"] = {"annotations": notes}
        self.store.put("persistentvolumes", volume, **parts)
        own = {BIND_COMPLETED: "yes"} | ({BOUND_BY_CONTROLLER: "yes"} if chosen else {})
        self.store.put(
            "persistentvolumeclaims",
            claim,
            metadata={"annotations": own},
            spec={"volumeName": volume["metadata"]["name"]},
            status={"phase": "Bound"},
        )
        return None

    def _provision(self, claim: Json) -> float | None:
        meta, source = claim["metadata"], claim["spec"].get("dataSource")
        name = f"pvc-{meta['uid']}"
        if self.store.find("persistentvolumes", "", name):
            return None
        try:
            data = self._source_data(meta["namespace"], source) if source else ""
        except NoDataError as error:
            self.trouble[meta["namespace"], meta["name"]] = str(error)
            return LATER
        self.storage.disks[name] = Disk(name, data)
        made_for = {
            "kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": meta["namespace"],
            "name": meta["name"], "uid": meta["uid"],
        }  # fmt: skip
        spec = claim["spec"]
        volume = volume_body(
            name, spec.get("storageClassName", ""), handle=name, mode=spec.get("volumeMode") or "Filesystem"
        )
        volume["spec"] |= {"claimRef": made_for, "accessModes": spec["accessModes"]}
        volume["metadata"]["annotations"] = {PROVISIONED_BY: DRIVER}
        made = self.store.create("persistentvolumes", "", volume)
        return self._bind_named_later(claim, made)

    def _bind_named_later(self, claim: Json, volume: Json) -> float | None:
        current = self.store.find("persistentvolumeclaims", *key_of(claim))
        if current is not None and current["metadata"]["uid"] == claim["metadata"]["uid"]:
            self._bind(current, volume)
        return None

    def _source_data(self, namespace: str, source: Json) -> str:
        snapshot = self.store.find("volumesnapshots", namespace, source["name"])
        if snapshot is None or not (snapshot.get("status") or {}).get("readyToUse"):
            raise NoDataError(f"snapshot {namespace}/{source['name']} is not ready")
        content = self.store.find("volumesnapshotcontents", "", content_name(snapshot))
        if content is None:
            raise NoDataError("snapshot has no content")
        return self.storage.snapshot(handle_of(content)).data

    def volume(self, name: str) -> float | None:
        """One pass over a volume: its phase, and what its reclaim policy asks for."""
        volume = self.store.find("persistentvolumes", "", name)
        if volume is None:
            return None
        meta, spec, phase = volume["metadata"], volume["spec"], (volume.get("status") or {}).get("phase")
        reference = spec.get("claimRef") or {}
        claim = self.store.find(
            "persistentvolumeclaims", reference.get("namespace", ""), reference.get("name", "")
        )
        lost = bool(reference.get("uid")) and (claim is None or claim["metadata"]["uid"] != reference["uid"])
        wanted = "Released" if lost else phase
        if not reference or not reference.get("uid"):
            wanted = "Available"
        if wanted and wanted != phase:
            volume = self.store.put("persistentvolumes", volume, status={"phase": wanted})
        if (
            lost
            and spec["persistentVolumeReclaimPolicy"] == "Delete"
            and PROVISIONED_BY in (meta.get("annotations") or {})
        ):
            self.storage.delete_disk(spec["csi"]["volumeHandle"])
            if "deletionTimestamp" not in meta:
                self.store.delete("persistentvolumes", "", name)
                return 0.05
        if (
            "deletionTimestamp" in meta
            and wanted != "Bound"
            and PV_PROTECTION in (meta.get("finalizers") or [])
        ):
            rest = [one for one in meta["finalizers"] if one != PV_PROTECTION]
            self.store.put("persistentvolumes", volume, metadata={"finalizers": rest or None})
        return None

    # snapshots

    def snapshot(self, namespace: str, name: str) -> float | None:
        """One pass over a VolumeSnapshot."""
        snapshot = self.store.find("volumesnapshots", namespace, name)
        if snapshot is None:
            return None
        meta, wanted = snapshot["metadata"], content_name(snapshot)
        content = self.store.find("volumesnapshotcontents", "", wanted) if wanted else None
        if "deletionTimestamp" in meta:
            return self._delete_snapshot(snapshot, content)
        if content is None or not _refers(content, snapshot):
            return None
        if SNAPSHOT_BOUND not in (meta.get("finalizers") or []):
            finalizers = [*(meta.get("finalizers") or []), SNAPSHOT_BOUND]
            snapshot = self.store.put("volumesnapshots", snapshot, metadata={"finalizers": finalizers})
        status = snapshot.get("status") or {}
        ready = bool((content.get("status") or {}).get("readyToUse"))
        if status.get("readyToUse") != ready or status.get("boundVolumeSnapshotContentName") != wanted:
            new = {"readyToUse": ready, "boundVolumeSnapshotContentName": wanted, "restoreSize": "1Gi"}
            self.store.put("volumesnapshots", snapshot, status=new)
        return None

    def _delete_snapshot(self, snapshot: Json, content: Json | None) -> float | None:
        meta = snapshot["metadata"]
        if self._being_read(snapshot):
            return LATER
        if content is not None and _refers(content, snapshot):
            notes = content["metadata"].get("annotations") or {}
            if BEING_DELETED not in notes:
                content = self.store.put(
                    "volumesnapshotcontents", content, metadata={"annotations": {BEING_DELETED: "yes"}}
                )
            if content["spec"]["deletionPolicy"] == "Delete":
                if "deletionTimestamp" not in content["metadata"]:
                    self.store.delete("volumesnapshotcontents", "", content["metadata"]["name"])
                return LATER / 5  # its finalizer goes when the content is gone
        if meta.get("finalizers"):
            self.store.put("volumesnapshots", snapshot, metadata={"finalizers": None})
        return None

    def _being_read(self, snapshot: Json) -> bool:
        meta = snapshot["metadata"]
        return any(
            claim["metadata"]["namespace"] == meta["namespace"]
            and (claim["spec"].get("dataSource") or {}).get("name") == meta["name"]
            and claim["status"].get("phase") == "Pending"
            for claim in self.store.each("persistentvolumeclaims")
        )

    def content(self, name: str) -> float | None:
        """One pass over a VolumeSnapshotContent, by common controller and sidecar."""
        content = self.store.find("volumesnapshotcontents", "", name)
        if content is None:
            return None
        meta, status = content["metadata"], content.get("status") or {}
        reference = content["spec"]["volumeSnapshotRef"]
        snapshot = self.store.find("volumesnapshots", reference["namespace"], reference["name"])
        orphan = snapshot is None or reference.get("uid") not in (None, "", snapshot["metadata"]["uid"])
        if "deletionTimestamp" in meta:
            return self._delete_content(content, orphan=orphan)
        handle = handle_of(content)
        exists = handle in self.storage.snapshots
        if not status.get("snapshotHandle") or status.get("readyToUse") != exists:
            self.store.put(
                "volumesnapshotcontents", content, status={"snapshotHandle": handle, "readyToUse": exists}
            )
        if orphan and reference.get("uid") and content["spec"]["deletionPolicy"] == "Delete":
            self.store.delete("volumesnapshotcontents", "", name)
            return 0.05
        return None

    def _delete_content(self, content: Json, *, orphan: bool) -> float | None:
        notes = content["metadata"].get("annotations") or {}
        if BEING_DELETED not in notes and not orphan:
            return LATER
        if content["spec"]["deletionPolicy"] == "Delete":
            self.storage.delete_snapshot(handle_of(content))
        if content["metadata"].get("finalizers"):
            self.store.put("volumesnapshotcontents", content, metadata={"finalizers": None})
        return None

    # garbage

    def collect(self, uid: str, gone: bool) -> float | None:
        """Delete what was owned by an object that is gone."""
        dependents = self._owned_by(uid) if gone else [self._by_uid(uid)]
        for plural, body in (one for one in dependents if one is not None):
            owners = body["metadata"].get("ownerReferences") or []
            if (
                plural in ("pods", "persistentvolumeclaims")
                and owners
                and not any(o["uid"] in self.store.uids for o in owners)
            ):
                self.store.delete(plural, *key_of(body))
        return None

    def _by_uid(self, uid: str) -> tuple[str, Json] | None:
        found = self.store.uids.get(uid)
        return (found[0], self.store.get(found[0], *found[1])) if found else None

    def _owned_by(self, uid: str) -> list[tuple[str, Json] | None]:
        return [
            (plural, body)
            for plural in ("pods", "persistentvolumeclaims")
            for body in self.store.each(plural)
            if any(owner["uid"] == uid for owner in body["metadata"].get("ownerReferences") or [])
        ]


def volume_body(name: str, storage_class: str, *, handle: str, mode: str = "Filesystem") -> Json:
    """A PV of the driver's."""
    return {
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "csi": {"driver": DRIVER, "volumeHandle": handle},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": storage_class,
            "volumeMode": mode,
        },
    }


def _fits(claim: Json, volume: Json) -> bool:
    spec, offered = claim["spec"], volume["spec"]
    reference = offered.get("claimRef") or {}
    meta = claim["metadata"]
    if reference and (reference.get("namespace"), reference.get("name")) != (meta["namespace"], meta["name"]):
        return False
    if reference.get("uid") and reference["uid"] != meta["uid"]:
        return False
    if "deletionTimestamp" in volume["metadata"] or (volume.get("status") or {}).get("phase") not in (
        "Available",
        None,
    ):
        return False
    wanted = (spec.get("selector") or {}).get("matchLabels") or {}
    labels = ",".join(f"{key}={value}" for key, value in wanted.items())
    return (
        offered.get("storageClassName", "") == spec.get("storageClassName", "")
        and (offered.get("volumeMode") or "Filesystem") == (spec.get("volumeMode") or "Filesystem")
        and set(spec["accessModes"]) <= set(offered["accessModes"])
        and selects(volume, labels, "")
    )


def _refers(content: Json, snapshot: Json) -> bool:
    reference, meta = content["spec"]["volumeSnapshotRef"], snapshot["metadata"]
    same = (reference["namespace"], reference["name"]) == (meta["namespace"], meta["name"])
    return same and reference.get("uid") in (None, "", meta["uid"])


def content_name(snapshot: Json) -> str:
    """The content that a VolumeSnapshot is bound to, or is to be bound to."""
    source, status = snapshot["spec"].get("source") or {}, snapshot.get("status") or {}
    return str(status.get("boundVolumeSnapshotContentName") or source.get("volumeSnapshotContentName") or "")


def handle_of(content: Json) -> str:
    """The storage snapshot of a content."""
    source, status = content["spec"].get("source") or {}, content.get("status") or {}
    return str(source.get("snapshotHandle") or status.get("snapshotHandle") or "")


def key_of(body: Json) -> tuple[str, str]:
    """Namespace and name."""
    meta = body["metadata"]
    return (meta.get("namespace", ""), meta["name"])


def claims_of(pod: Json) -> list[str]:
    """Names of the claims that a pod mounts."""
    volumes = pod["spec"].get("volumes") or []
    return [v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v]
