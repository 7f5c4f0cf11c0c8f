"""Objects that a Velero installation and an application bring along, ready to be put into a `FakeKube` or an API."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.control.mover_inputs import BACKUP_STORAGE_LOCATION
from kube.api import (
    DAEMON_SET,
    NODE,
    POD,
    PV,
    PVC,
    STORAGE_CLASS,
    VOLUME_SNAPSHOT,
    VOLUME_SNAPSHOT_CONTENT,
    Json,
    Resource,
)

if TYPE_CHECKING:
    from tests.fakes.kube import FakeKube

Placed = tuple[Resource, Json]


def daemon_set() -> Json:
    """What `velero install --use-node-agent` makes, shortened."""
    pod = {
        "serviceAccountName": "velero",
        "containers": [
            {
                "name": "node-agent",
                "image": "example.test/node-agent:1",
                "command": ["/velero"],
                "args": ["node-agent", "server", "--log-level=debug"],
                "env": [{"name": "AWS_SHARED_CREDENTIALS_FILE", "value": "/credentials/cloud"}],
                "volumeMounts": [
                    {"name": "host-pods", "mountPath": "/host_pods"},
                    {"name": "scratch", "mountPath": "/scratch"},
                    {"name": "cloud-credentials", "mountPath": "/credentials"},
                ],
            }
        ],
        "volumes": [
            {"name": "host-pods", "hostPath": {"path": "/var/lib/kubelet/pods"}},
            {"name": "scratch", "emptyDir": {}},
            {"name": "cloud-credentials", "secret": {"secretName": "cloud-credentials"}},
        ],
        "tolerations": [
            {"key": "CriticalAddonsOnly", "operator": "Exists"},
            {"key": "dedicated", "operator": "Exists"},
        ],
    }
    labels = {"name": "node-agent", "role": "node-agent", "azure.workload.identity/use": "true"}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "node-agent", "namespace": "velero"},
        "spec": {
            "selector": {"matchLabels": {"name": "node-agent"}},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def storage_class(name: str = "fast", **changes: Any) -> Json:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": "csi.test",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    } | changes


def claim(name: str = "data", namespace: str = "app", **spec: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "fast",
            "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": "1Gi"}},
        }
        | spec,
    }


def volume(name: str = "pv-data", claim_name: str = "data", **spec: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "csi": {"driver": "csi.test", "volumeHandle": "disk-data"},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": "fast",
            "claimRef": {"kind": "PersistentVolumeClaim", "namespace": "app", "name": claim_name},
        }
        | spec,
        "status": {"phase": "Bound"},
    }


def server_snapshot() -> list[Placed]:
    """The VolumeSnapshot that the server took, not yet ready, and its content."""
    snapshot = {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": "velero-data-x", "namespace": "app"},
        "spec": {"source": {"persistentVolumeClaimName": "data"}, "volumeSnapshotClassName": "snap"},
        "status": {"boundVolumeSnapshotContentName": "snapcontent-x", "readyToUse": False},
    }
    content = {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotContent",
        "metadata": {"name": "snapcontent-x"},
        "spec": {
            "deletionPolicy": "Delete",
            "driver": "csi.test",
            "source": {"volumeHandle": "disk-data"},
            "volumeSnapshotClassName": "snap",
            "volumeSnapshotRef": {"namespace": "app", "name": "velero-data-x"},
        },
        "status": {"snapshotHandle": "snap-handle", "readyToUse": True},
    }
    return [(VOLUME_SNAPSHOT_CONTENT, content), (VOLUME_SNAPSHOT, snapshot)]


def put_node_agent(kube: FakeKube) -> None:
    kube.put(DAEMON_SET, daemon_set())
    kube.put(STORAGE_CLASS, storage_class())
    kube.put(NODE, {"metadata": {"name": "node-1", "labels": {"kubernetes.io/os": "linux"}}, "spec": {}})


def put_source_volume(kube: FakeKube) -> None:
    kube.put(PVC, claim(volumeName="pv-data") | {"status": {"phase": "Bound"}})
    bound = volume()
    bound["spec"]["claimRef"]["uid"] = kube.objects[("persistentvolumeclaims", "app", "data")]["metadata"][
        "uid"
    ]
    kube.put(PV, bound)
    for resource, body in server_snapshot():
        kube.put(resource, body)


CRDS = Path(__file__).parent.parent / "fixtures" / "crds"


def crd(version: str, plural: str) -> Json:
    """A CRD as a Velero release embeds it."""
    body: Json = json.loads((CRDS / version / f"{plural}.json").read_text())
    return body


def password_secret() -> Json:
    return {
        "metadata": {"name": "velero-repo-credentials", "namespace": "velero"},
        "data": {"repository-password": "c3RhdGljLXBhc3N3MHJk"},
    }


def storage_location(name: str = "default", **spec: Any) -> Json:
    return {
        "apiVersion": "velero.io/v1",
        "kind": "BackupStorageLocation",
        "metadata": {"name": name, "namespace": "velero"},
        "spec": {"provider": "fs", "config": {"fspath": "/repository"}, "objectStorage": {"bucket": "b"}}
        | spec,
    }


def large_authority() -> str:
    """A distribution's CA bundle as a location's `caCert` carries it: Debian's where there is one, else as large."""
    debian = Path("/etc/ssl/certs/ca-certificates.crt")
    bundle = debian.read_bytes() if debian.exists() else b"x" * 219_597
    return base64.b64encode(bundle).decode()


def put_velero(kube: FakeKube) -> None:
    kube.put(BACKUP_STORAGE_LOCATION, storage_location())
    put_agent_pod(kube, "node-1")


def put_agent_pod(kube: FakeKube, node: str) -> None:
    labels = {"name": "node-agent", "role": "node-agent"}
    pod = {
        "metadata": {"name": f"node-agent-{node}", "namespace": "velero", "labels": labels},
        "spec": {"nodeName": node},
    }
    kube.put(POD, pod | {"status": {"phase": "Running"}})
