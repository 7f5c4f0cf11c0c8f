"""Pure builders of PVC and snapshot bodies; the hosting pod is in `hosting_pod_manifest`.

Every intermediate object carries the name of the move that it serves and lives in Velero's namespace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exposer.access_point import VolumeMode
from exposer.ownership import EXPOSED_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kube.api import OwnerReference

Json = dict[str, Any]

SNAPSHOT_API_GROUP = "snapshot.storage.k8s.io"
MANAGED_BY_LABEL = "snapshot.storage.kubernetes.io/managed-by"
# Without it the provisioner refuses a Block PVC from the snapshot of a Filesystem volume.
MODE_CHANGE_ANNOTATION = "snapshot.storage.kubernetes.io/allow-volume-mode-change"
ORIGINAL_CONTENT_ANNOTATION = "kopia-data-mover.io/original-content"
SELECTED_NODE_ANNOTATION = "volume.kubernetes.io/selected-node"
CONTENT_FINALIZER = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection"


# What tools and controllers put on their objects to know them again: on a copy it makes them take ours for
# theirs, and prune or fill it (Argo CD, Flux, Helm, kubectl, CDI, the binder).
_OF_TOOLS = (
    "argocd.argoproj.io/",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "cdi.kubevirt.io/",
    "fluxcd.io/",
    "helm.sh/",
    "kubectl.kubernetes.io/",
    "pv.kubernetes.io/",
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
)


def _plain(notes: Mapping[str, str] | None) -> dict[str, str]:
    """Leave out the labels or annotations by which tools know their own objects."""
    return {key: value for key, value in (notes or {}).items() if not _is_of_tools(key)}


def _is_of_tools(key: str) -> bool:
    domain = key.partition("/")[0]
    return any(
        key.startswith(own) or (own.endswith("/") and domain.endswith("." + own[:-1])) for own in _OF_TOOLS
    )


def metadata(
    name: str,
    namespace: str = "",
    *,
    owner: OwnerReference | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Json:
    """`metadata` of an object of ours; empty parts are left out."""
    parts: Json = {"name": name}
    if namespace:
        parts["namespace"] = namespace
    if owner is not None:
        parts["ownerReferences"] = [owner.body()]
    if labels:
        parts["labels"] = dict(labels)
    if annotations:
        parts["annotations"] = dict(annotations)
    return parts


def backup_snapshot(name: str, namespace: str, source: Json, *, uid: str) -> Json:
    """A VolumeSnapshot in Velero's namespace that will stand for the source's storage snapshot.

    It has no owner: the PVC made from it must be gone before it.
    """
    spec: Json = {"source": {"volumeSnapshotContentName": name}}
    if source["spec"].get("volumeSnapshotClassName"):
        spec["volumeSnapshotClassName"] = source["spec"]["volumeSnapshotClassName"]
    annotations = _plain(source["metadata"].get("annotations"))
    return {
        "apiVersion": f"{SNAPSHOT_API_GROUP}/v1",
        "kind": "VolumeSnapshot",
        "metadata": metadata(name, namespace, labels={EXPOSED_LABEL: uid}, annotations=annotations),
        "spec": spec,
    }


def backup_snapshot_content(snapshot: Json, original: Json, *, uid: str) -> Json:
    """The content that owns the storage snapshot from now on: same handle, deleted with its VolumeSnapshot.

    The name of the original content is noted on it, so that a crash half-way leaves no content behind. It is
    born with the snapshotter's finalizer: deleted before the snapshotter has seen it, it would leave the
    storage snapshot.
    """
    meta = snapshot["metadata"]
    source = original["metadata"]
    labels = {key: value for key, value in (source.get("labels") or {}).items() if key == MANAGED_BY_LABEL}
    annotations = _plain(source.get("annotations")) | {
        ORIGINAL_CONTENT_ANNOTATION: source["name"],
        MODE_CHANGE_ANNOTATION: "true",
    }
    spec: Json = {
        "volumeSnapshotRef": {
            "apiVersion": f"{SNAPSHOT_API_GROUP}/v1",
            "kind": "VolumeSnapshot",
            **{key: meta[key] for key in ("name", "namespace", "uid", "resourceVersion")},
        },
        "source": {"snapshotHandle": original["status"]["snapshotHandle"]},
        "deletionPolicy": "Delete",
        "driver": original["spec"]["driver"],
    }
    if original["spec"].get("volumeSnapshotClassName"):
        spec["volumeSnapshotClassName"] = original["spec"]["volumeSnapshotClassName"]
    if original["spec"].get("sourceVolumeMode"):
        spec["sourceVolumeMode"] = original["spec"]["sourceVolumeMode"]
    made = metadata(meta["name"], labels=labels | {EXPOSED_LABEL: uid}, annotations=annotations)
    return {
        "apiVersion": f"{SNAPSHOT_API_GROUP}/v1",
        "kind": "VolumeSnapshotContent",
        "metadata": made | {"finalizers": [CONTENT_FINALIZER]},
        "spec": spec,
    }


def backup_pvc(
    name: str,
    namespace: str,
    *,
    owner: OwnerReference,
    storage_class: str | None,
    size: str,
    volume_mode: VolumeMode,
    read_only: bool = False,
    annotations: Mapping[str, str] | None = None,
) -> Json:
    """A PVC filled from the VolumeSnapshot of the same name."""
    spec: Json = {
        "accessModes": ["ReadOnlyMany" if read_only else "ReadWriteOnce"],
        "volumeMode": volume_mode.value,
        "dataSource": {"apiGroup": SNAPSHOT_API_GROUP, "kind": "VolumeSnapshot", "name": name},
        "resources": {"requests": {"storage": size}},
    }
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    return _pvc(metadata(name, namespace, owner=owner, annotations=annotations), spec)


def restore_pvc(
    name: str,
    namespace: str,
    target: Json,
    *,
    owner: OwnerReference,
    selected_node: str,
    volume_mode: VolumeMode,
) -> Json:
    """A PVC like the target, without its selector: the PV made for it becomes the target's.

    The mode may be another than the target's: what a block backup holds is restored to a device.
    """
    meta, spec = target["metadata"], target["spec"]
    annotations = {SELECTED_NODE_ANNOTATION: selected_node} if selected_node else meta.get("annotations")
    kept = ("accessModes", "storageClassName", "resources")
    body = {key: spec[key] for key in kept if key in spec} | {"volumeMode": volume_mode.value}
    if set(spec.get("accessModes") or []) == {"ReadOnlyMany"}:
        body["accessModes"] = ["ReadWriteOnce"]  # to be written; the re-bind gives the PV the target's mode
    return _pvc(
        metadata(
            name, namespace, owner=owner, labels=_plain(meta.get("labels")), annotations=_plain(annotations)
        ),
        body,
    )


def cache_pvc(
    name: str, namespace: str, *, owner: OwnerReference, storage_class: str, size_gib: int, selected_node: str
) -> Json:
    """A PVC for the mover's cache."""
    annotations = {SELECTED_NODE_ANNOTATION: selected_node} if selected_node else None
    spec: Json = {
        "accessModes": ["ReadWriteOnce"],
        "volumeMode": VolumeMode.FILESYSTEM.value,
        "storageClassName": storage_class,
        "resources": {"requests": {"storage": f"{size_gib}Gi"}},
    }
    return _pvc(metadata(name, namespace, owner=owner, annotations=annotations), spec)


def _pvc(meta: Json, spec: Json) -> Json:
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}
