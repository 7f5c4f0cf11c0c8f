"""The Velero server and the users: who asks for moves, cancels, deletes, and makes things anew under their names.

A `Wish` is what was asked for, and what would have to be true of the data for it to be `Completed`.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.fakes import scene
from tests.fakes.resources import SPECS
from tests.simulation.controllers import PROVISIONED_BY, SELECTED_NODE, volume_body
from tests.simulation.storage import Disk, Storage
from tests.simulation.store import Json, Refused, Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

VELERO = "velero"
CONFIG_MAP_NAME = "node-agent-config"
PLURALS = {
    "DataUpload": "datauploads",
    "DataDownload": "datadownloads",
    "PodVolumeBackup": "podvolumebackups",
    "PodVolumeRestore": "podvolumerestores",
}
SHORT = {"DataUpload": "du", "DataDownload": "dd", "PodVolumeBackup": "pvb", "PodVolumeRestore": "pvr"}
FINAL = ("Completed", "Failed", "Canceled")


@dataclass
class Wish:
    """One move that was asked for. `data` is what it has to move."""

    index: int
    kind: str
    name: str
    node: str
    data: str
    uid: str = ""
    pod_uid: str = ""
    created_at: float = 0.0
    cancel_wanted: bool = False
    deleted_at: float = -1.0
    deleted_unseen: bool = False
    phases: list[str] = field(default_factory=list)
    message: str = ""
    facts: set[str] = field(default_factory=set)

    @property
    def space(self) -> str:
        """The application's namespace."""
        return f"app-{self.index}"

    @property
    def plural(self) -> str:
        return PLURALS[self.kind]

    @property
    def phase(self) -> str:
        """The phase as the API has it."""
        return self.phases[-1] if self.phases else "New"

    @property
    def is_final(self) -> bool:
        return self.phase in FINAL


class People:
    """Makes wishes, and takes them back."""

    def __init__(self, store: Store, storage: Storage, rng: Random) -> None:
        self.store, self.storage, self.rng = store, storage, rng
        self.wishes: list[Wish] = []
        self.by_uid: dict[str, Wish] = {}
        self.foreign: dict[str, str] = {}
        self.asked: Callable[[Wish], None] = lambda _: None
        self.mount: Callable[[str, str, str], None] = lambda _node, _pod_uid, _volume: None
        self._loop = asyncio.get_running_loop()
        self._words = 0

    def newest(self, name: str) -> Wish | None:
        """The newest wish of a name."""
        return next((wish for wish in reversed(self.wishes) if wish.name == name), None)

    def ask(self, kind: str, index: int, node: str, storage_class: str = "fast") -> Wish:
        """Ask for a move: everything that the server makes along with it."""
        wish = Wish(index, kind, f"{SHORT[kind]}-{index}", node, self._new_data(f"app-{index}"))
        self.wishes.append(wish)
        wish.created_at = self._loop.time()
        make = {
            "DataUpload": self._data_upload,
            "DataDownload": self._data_download,
            "PodVolumeBackup": self._pod_volume_backup,
            "PodVolumeRestore": self._pod_volume_restore,
        }
        spec = make[kind](wish, storage_class)
        self._create_move(wish, spec)
        self.asked(wish)
        return wish

    def _new_data(self, what: str) -> str:
        self._words += 1
        return f"{what} at moment {self._words}"

    def _create_move(self, wish: Wish, spec: Json) -> None:
        meta = {"name": wish.name, "ownerReferences": [_owner(wish)]}
        labels = {"velero.io/async-operation-id": f"op-{wish.index}"}
        made = self.store.create(
            wish.plural, VELERO, {"metadata": meta | {"labels": labels}, "spec": SPECS[wish.kind] | spec}
        )
        wish.uid = made["metadata"]["uid"]
        self.by_uid[wish.uid] = wish

    def _data_upload(self, wish: Wish, storage_class: str) -> Json:
        space, number = wish.space, wish.index
        if self.store.find("persistentvolumeclaims", space, "data") is None:
            self._source_volume(space, number, storage_class)
        disk = f"disk-{number}"
        if disk not in self.storage.disks:
            self.storage.disks[disk] = Disk(disk, "", owner="source")
        self.storage.write(disk, wish.data)
        suffix = f"{number}-{len(self.wishes)}"
        snapshot, content, handle = f"velero-data-{suffix}", f"snapcontent-{suffix}", f"handle-{suffix}"
        self.storage.take(handle, disk)
        self._server_snapshot(space, snapshot, content, handle, disk)
        self.storage.write(disk, self._new_data(space))  # the application goes on
        csi = {"volumeSnapshot": snapshot, "storageClass": storage_class, "snapshotClass": "snap"}
        wish.facts |= {f"snapshot {handle}", f"content {content}", f"volumesnapshot {snapshot}"}
        return {"csiSnapshot": csi, "sourceNamespace": space, "operationTimeout": "1m0s"}

    def _source_volume(self, space: str, number: int, storage_class: str) -> None:
        disk, name = f"disk-{number}", f"pv-{number}"
        self.storage.disks.setdefault(disk, Disk(disk, "", owner="source"))
        claim = scene.claim("data", space, volumeName=name, storageClassName=storage_class)
        made = self.store.create("persistentvolumeclaims", space, claim)
        reference = {
            "kind": "PersistentVolumeClaim",
            "namespace": space,
            "name": "data",
            "uid": made["metadata"]["uid"],
        }
        volume = volume_body(name, storage_class, handle=disk)
        volume["spec"] |= {"claimRef": reference, "persistentVolumeReclaimPolicy": "Retain"}
        made_volume = self.store.create("persistentvolumes", "", volume)
        self.store.put("persistentvolumes", made_volume, status={"phase": "Bound"})
        notes = {"pv.kubernetes.io/bind-completed": "yes"}
        self.store.put(
            "persistentvolumeclaims", made, metadata={"annotations": notes}, status={"phase": "Bound"}
        )

    def _server_snapshot(self, space: str, snapshot: str, content: str, handle: str, disk: str) -> None:
        made = self.store.create(
            "volumesnapshots",
            space,
            {
                "metadata": {"name": snapshot},
                "spec": {"source": {"persistentVolumeClaimName": "data"}, "volumeSnapshotClassName": "snap"},
            },
        )
        reference = {"namespace": space, "name": snapshot, "uid": made["metadata"]["uid"]}
        made_content = self.store.create(
            "volumesnapshotcontents",
            "",
            {
                "metadata": {"name": content, "finalizers": ["snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection"]},
                "spec": {
                    "deletionPolicy": "Delete", "driver": "csi.test", "source": {"volumeHandle": disk}, "sourceVolumeMode": "Filesystem",
                    "volumeSnapshotClassName": "snap", "volumeSnapshotRef": reference,
                },
            },
        )  # fmt: skip
        self.store.put(
            "volumesnapshotcontents", made_content, status={"snapshotHandle": handle, "readyToUse": True}
        )
        self.store.put(
            "volumesnapshots", made, status={"boundVolumeSnapshotContentName": content, "readyToUse": False}
        )

    def _data_download(self, wish: Wish, storage_class: str) -> Json:
        snapshot = self.storage.save(wish.data)
        late = self.rng.random() < 0.3  # the server makes the target after the DataDownload
        self._loop.call_later(self.rng.uniform(0.5, 4.0) if late else 0.0, self._target, wish, storage_class)
        target = {"namespace": wish.space, "pvc": "data", "pv": ""}
        return {
            "targetVolume": target,
            "snapshotID": snapshot,
            "sourceNamespace": wish.space,
            "operationTimeout": "1m0s",
        }

    def _target(self, wish: Wish, storage_class: str) -> None:
        if self.store.find("persistentvolumeclaims", wish.space, "data"):
            return
        selector = {"matchLabels": {"velero.io/dynamic-pv-restore": f"{wish.space}.data"}}
        claim = scene.claim("data", wish.space, selector=selector, storageClassName=storage_class)
        claim["metadata"]["labels"] = {"velero.io/restore-name": "r1"}
        if storage_class == "late":
            claim["metadata"]["annotations"] = {SELECTED_NODE: wish.node}
        self.store.create("persistentvolumeclaims", wish.space, claim)

    def _pod_volume_backup(self, wish: Wish, _storage_class: str) -> Json:
        pod = self.application_pod(wish, wish.data)
        wish.pod_uid = pod["metadata"]["uid"]
        return {"node": wish.node, "pod": _pod_reference(wish)}

    def _pod_volume_restore(self, wish: Wish, _storage_class: str) -> Json:
        snapshot = self.storage.save(wish.data)
        pod = self.application_pod(wish, "", waits_for="backup-uid")
        wish.pod_uid = pod["metadata"]["uid"]
        return {"pod": _pod_reference(wish), "snapshotID": snapshot, "sourceNamespace": wish.space}

    def application_pod(self, wish: Wish, data: str, *, waits_for: str = "") -> Json:
        """A pod of the application on its node, running or waiting for its restore."""
        space, name = wish.space, f"web-{wish.index}"
        spec: Json = {
            "nodeName": wish.node,
            "containers": [{"name": "web", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
            "volumes": [{"name": "data", "emptyDir": {}}],
        }
        if waits_for:
            spec["initContainers"] = [{"name": "restore-wait", "args": [waits_for]}]
        pod = self.store.create("pods", space, {"metadata": {"name": name}, "spec": spec})
        uid = pod["metadata"]["uid"]
        self.storage.pod_volumes[uid, "data"] = data
        self.mount(wish.node, uid, "data")
        running: Json = {"phase": "Running", "containerStatuses": [{"name": "web", "state": {"running": {}}}]}
        if waits_for:
            running = {
                "phase": "Pending",
                "initContainerStatuses": [{"name": "restore-wait", "state": {"running": {}}}],
            }
        return self.store.put("pods", pod, status=running)

    # taking back

    def cancel(self, wish: Wish) -> bool:
        """What `velero backup delete` and a time-out of the server do."""
        if wish.is_final or not self._is_there(wish):
            return False
        wish.cancel_wanted = True
        self.store.patch(wish.plural, VELERO, wish.name, {"spec": {"cancel": True}})
        return True

    def delete(self, wish: Wish) -> bool:
        """Somebody deletes the custom resource."""
        if wish.deleted_at >= 0 or not self._is_there(wish):
            return False
        wish.deleted_at = self._loop.time()
        body = self.store.get(wish.plural, VELERO, wish.name)
        wish.deleted_unseen = not body["metadata"].get("finalizers")
        self.store.delete(wish.plural, VELERO, wish.name)
        return True

    def delete_when_over(self, wish: Wish, tries: int = 0) -> None:
        """Somebody deletes a backup as soon as it is done with."""
        body = self.store.find(wish.plural, VELERO, wish.name) if self._is_there(wish) else None
        if body is None or tries > 1000:
            return
        if wish.is_final and not body["metadata"].get("finalizers"):
            self.delete(wish)
            return
        self._loop.call_later(0.2, self.delete_when_over, wish, tries + 1)

    def make_anew(self, wish: Wish) -> Wish | None:
        """Delete a move and ask for another under its name as soon as that is free."""
        if not self.delete(wish):
            return None
        self._loop.call_later(0.05, self._again, wish, 0)
        return wish

    def force_anew(self, wish: Wish) -> bool:
        """Somebody takes the finalizers away by hand, because it took too long, and asks again at once."""
        if wish.is_final or not self._is_there(wish):
            return False
        wish.deleted_at = wish.deleted_at if wish.deleted_at >= 0 else self._loop.time()
        wish.facts.add("forced")
        self.store.patch(wish.plural, VELERO, wish.name, {"metadata": {"finalizers": None}})
        if self._is_there(wish):
            self.store.delete(wish.plural, VELERO, wish.name)
        if self.store.find("pods", wish.space, f"web-{wish.index}"):
            self.store.delete("pods", wish.space, f"web-{wish.index}", grace=0)
        self._again(wish, 0)
        return True

    def _again(self, wish: Wish, tries: int) -> None:
        if self.newest(wish.name) is not wish or tries > 2000 or not self._node_is_there(wish):
            return
        if self._is_there(wish):
            self._loop.call_later(0.2, self._again, wish, tries + 1)
            return
        try:
            self.ask(wish.kind, wish.index, wish.node)
        except Refused:
            self.wishes.remove(self.newest(wish.name) or wish)

    def _node_is_there(self, wish: Wish) -> bool:
        return not wish.node or self.store.find("nodes", "", wish.node) is not None

    def _is_there(self, wish: Wish) -> bool:
        body = self.store.find(wish.plural, VELERO, wish.name)
        return body is not None and body["metadata"]["uid"] == wish.uid

    def make_pod_anew(self, wish: Wish) -> bool:
        """The application's pod is replaced by one of its name, with other data."""
        name = f"web-{wish.index}"
        pod = self.store.find("pods", wish.space, name)
        if pod is None or "deletionTimestamp" in pod["metadata"]:
            return False
        uid = pod["metadata"]["uid"]
        self.storage.pod_volumes.pop((uid, "data"), None)
        self.store.delete("pods", wish.space, name, grace=0)
        self.application_pod(wish, self._new_data("another pod"))
        wish.facts.add("pod made anew")
        return True

    def lose_source(self, wish: Wish) -> bool:
        """The application's claim is deleted while its snapshot is being backed up; its disk goes with it."""
        claim = self.store.find("persistentvolumeclaims", wish.space, "data")
        if wish.kind != "DataUpload" or claim is None or "deletionTimestamp" in claim["metadata"]:
            return False
        volume = self.store.find("persistentvolumes", "", claim["spec"].get("volumeName", ""))
        self.store.delete("persistentvolumeclaims", wish.space, "data")
        if volume is not None:
            notes = {PROVISIONED_BY: "csi.test"}
            self.store.put(
                "persistentvolumes",
                volume,
                metadata={"annotations": notes},
                spec={"persistentVolumeReclaimPolicy": "Delete"},
            )
        wish.facts.add("source gone")
        return True

    def put_foreign_volume(self) -> str:
        """Somebody's volume stands there, of our class, Available: with data that exists nowhere else."""
        self._words += 1
        name = f"precious-{self._words}"
        policy = self.foreign[name] = self.rng.choice(["Retain", "Delete"])
        self.storage.disks[name] = Disk(name, f"precious {self._words}", owner="foreign")
        volume = volume_body(name, self.rng.choice(["fast", "fast", "late"]), handle=name)
        volume["spec"] |= {"persistentVolumeReclaimPolicy": policy, "capacity": {"storage": "10Gi"}}
        volume["metadata"]["annotations"] = {PROVISIONED_BY: "csi.test"}
        made = self.store.create("persistentvolumes", "", volume)
        self.store.put("persistentvolumes", made, status={"phase": "Available"})
        return name


def _owner(wish: Wish) -> Json:
    kind = "Backup" if wish.kind in ("DataUpload", "PodVolumeBackup") else "Restore"
    return {"apiVersion": "velero.io/v1", "kind": kind, "name": "b1", "uid": "backup-uid", "controller": True}


def _pod_reference(wish: Wish) -> Json:
    return {"kind": "Pod", "namespace": wish.space, "name": f"web-{wish.index}", "uid": wish.pod_uid}


def daemon_pod(node: str) -> Json:
    """The agent's own pod on a node."""
    labels = {"name": "node-agent", "role": "node-agent"}
    return {
        "metadata": {"name": f"node-agent-{node}", "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "node-agent"}]},
    }


def node_agent_config(rng: Random) -> Json:
    """A node-agent ConfigMap as people write it."""
    load = {"globalConfig": rng.choice([1, 2]), "prepareQueueLength": rng.choice([1, 1, 3])}
    data = {"config.json": json.dumps({"loadConcurrency": load})}
    return {"metadata": {"name": CONFIG_MAP_NAME, "namespace": VELERO}, "data": data}


def installation() -> list[tuple[str, str, Json]]:
    """What Velero's installation and the cluster's administrator have made."""
    parts: list[tuple[str, str, Json]] = [
        ("daemonsets", VELERO, scene.daemon_set()),
        ("storageclasses", "", scene.storage_class("fast")),
        ("storageclasses", "", scene.storage_class("late", volumeBindingMode="WaitForFirstConsumer")),
        ("storageclasses", "", scene.storage_class("calm", volumeBindingMode="WaitForFirstConsumer")),
        ("backupstoragelocations", VELERO, scene.storage_location()),
        ("secrets", VELERO, scene.password_secret()),
    ]
    parts += [("customresourcedefinitions", "", _crd(plural)) for plural in PLURALS.values()]
    return parts


def _crd(plural: str) -> Json:
    status: Json = {"phase": {"enum": ["New", "Accepted", "Prepared"]}, "acceptedByNode": {}}
    schema: Any = {"openAPIV3Schema": {"properties": {"status": {"properties": status}}}}
    version = {"name": "v1", "storage": True, "schema": schema}
    return {"metadata": {"name": f"{plural}.velero.io"}, "spec": {"versions": [version]}}
