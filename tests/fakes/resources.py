"""Builders of custom resources for tests: valid ones, with what a test cares about put in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from agent.moves.custom_resources import KIND_BY_NAME, Move, MoveKind, format_time, parse_move

Json = dict[str, Any]
T0 = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)

SPECS: dict[str, Json] = {
    "DataUpload": {
        "snapshotType": "CSI",
        "csiSnapshot": {"volumeSnapshot": "velero-data-x", "storageClass": "fast", "snapshotClass": "snap"},
        "sourceNamespace": "app",
        "sourcePVC": "data",
        "backupStorageLocation": "default",
        "operationTimeout": "10m0s",
    },
    "DataDownload": {
        "targetVolume": {"namespace": "app", "pvc": "data", "pv": ""},
        "snapshotID": "b3c0",
        "sourceNamespace": "app",
        "backupStorageLocation": "default",
        "operationTimeout": "10m0s",
    },
    "PodVolumeBackup": {
        "node": "node-1",
        "pod": {"kind": "Pod", "namespace": "app", "name": "web-0", "uid": "pod-uid"},
        "volume": "data",
        "backupStorageLocation": "default",
        "repoIdentifier": "",
        "uploaderType": "kopia",
    },
    "PodVolumeRestore": {
        "pod": {"kind": "Pod", "namespace": "app", "name": "web-0", "uid": "pod-uid"},
        "volume": "data",
        "snapshotID": "b3c0",
        "sourceNamespace": "app",
        "backupStorageLocation": "default",
        "repoIdentifier": "",
        "uploaderType": "kopia",
    },
}


def body(kind: MoveKind | str, name: str = "move-1", **changes: Any) -> Json:
    """A resource as the API gives it; `spec`, `status` and `metadata` in `changes` are merged in."""
    kind = KIND_BY_NAME[kind] if isinstance(kind, str) else kind
    meta = {
        "name": name,
        "namespace": "velero",
        "uid": f"uid-{name}",
        "resourceVersion": "1",
        "creationTimestamp": format_time(T0),
        "ownerReferences": [{"kind": "Backup", "name": "b1", "uid": "backup-uid", "controller": True}],
    }
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": meta | changes.get("metadata", {}),
        "spec": SPECS[kind.name] | changes.get("spec", {}),
        "status": changes.get("status", {}),
    }


def move(kind: MoveKind | str, phase: str = "", **changes: Any) -> Move:
    """A parsed resource in a phase."""
    kind = KIND_BY_NAME[kind] if isinstance(kind, str) else kind
    status = changes.pop("status", {}) | ({"phase": phase} if phase else {})
    return parse_move(kind, body(kind, status=status, **changes))


def after(seconds: float) -> datetime:
    """A moment so many seconds after the resources were created."""
    return T0 + timedelta(seconds=seconds)
