"""Stores of backups in the shapes of each Velero: directories as a bucket that was copied to a disk.

The documents are made from the schemas of Velero's source (names and shapes by version: `docs/velero-buckets.md`);
the repositories inside are real ones. Nothing here reads what it writes: the tests do, by the product.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import repository
from repository import Stream
from repository.session import Session

DEFAULT_PASSWORD = "static-passw0rd"
FAST = repository.CreateOptions(key_derivation="pbkdf2-sha256-600000")
TAKEN = "2026-11-30T21:25:14Z"
OVER = "2026-11-30T21:26:00Z"
Document = dict[str, Any]


def packed(document: Any) -> bytes:
    """As Velero packs its lists."""
    return gzip.compress(json.dumps(document).encode() + b"\n", mtime=0)


def tarball(members: dict[str, bytes]) -> bytes:
    """A gzip tar with these names, whatever they are."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def resource(
    kind: str, namespace: str, name: str, document: Document, version: str = "v1"
) -> dict[str, bytes]:
    """An object as the tarball has it: twice."""
    whole = {"metadata": {"namespace": namespace, "name": name}, **document}
    content = json.dumps(whole).encode()
    return {
        f"resources/{kind}/namespaces/{namespace}/{name}.json": content,
        f"resources/{kind}/{version}-preferredversion/namespaces/{namespace}/{name}.json": content,
    }


def claim(namespace: str, name: str, *, mode: str = "Filesystem") -> dict[str, bytes]:
    """A PersistentVolumeClaim in a tarball."""
    spec = {
        "volumeMode": mode,
        "storageClassName": "fast",
        "volumeName": f"pv-{name}",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    return resource("persistentvolumeclaims", namespace, name, {"spec": spec})


def pod(
    namespace: str, name: str, claims: dict[str, str], annotations: Document | None = None
) -> dict[str, bytes]:
    """A Pod in a tarball; `claims` by the names of its volumes."""
    volumes = [
        {"name": volume, "persistentVolumeClaim": {"claimName": claim_name}}
        for volume, claim_name in claims.items()
    ]
    metadata = {"namespace": namespace, "name": name, "annotations": annotations or {}}
    return resource("pods", namespace, name, {"metadata": metadata, "spec": {"volumes": volumes}})


def data_upload(
    namespace: str,
    claim_name: str,
    snapshot: str,
    *,
    phase: str = "Completed",
    mover: str = "",
    **status: Any,
) -> dict[str, bytes]:
    """A DataUpload in a tarball."""
    document = {
        "spec": {
            "sourceNamespace": namespace,
            "sourcePVC": claim_name,
            "datamover": mover,
            "csiSnapshot": {"driver": "csi.example.com"},
        },
        "status": {
            "phase": phase,
            "snapshotID": snapshot,
            "startTimestamp": TAKEN,
            "completionTimestamp": OVER,
            "progress": {"totalBytes": 4711},
            **status,
        },
    }
    # The name of a DataUpload is Velero's own: hostile ones are tested in what it says.
    name = f"b-{hashlib.sha1(f'{namespace}/{claim_name}'.encode()).hexdigest()[:5]}"  # noqa: S324
    return resource("datauploads.velero.io", "velero", name, document, "v2alpha1")


def pod_volume_backup(
    namespace: str,
    pod_name: str,
    volume: str,
    snapshot: str,
    *,
    uploader: str | None = "kopia",
    phase: str = "Completed",
    claim_name: str = "",
    **status: Any,
) -> Document:
    """A PodVolumeBackup; `uploader` `None` is of before 1.10."""
    spec: Document = {"pod": {"namespace": namespace, "name": pod_name}, "volume": volume}
    if uploader is None:
        spec["repoIdentifier"] = f"s3:s3.amazonaws.com/bucket/restic/{namespace}"
    else:
        spec["uploaderType"] = uploader
    metadata: Document = {"name": f"b-{pod_name}-{volume}"}
    if claim_name:
        metadata["annotations"] = {"velero.io/pvc-name": claim_name}
    return {
        "metadata": metadata,
        "spec": spec,
        "status": {
            "phase": phase,
            "snapshotID": snapshot,
            "startTimestamp": TAKEN,
            "completionTimestamp": OVER,
            "progress": {"totalBytes": 815, "bytesDone": 815},
            **status,
        },
    }


def movement_info(namespace: str, claim_name: str, snapshot: str, **detail: Any) -> Document:
    """An entry of `volumeinfo` for data movement."""
    return {
        "pvcName": claim_name,
        "pvcNamespace": namespace,
        "pvName": f"pv-{claim_name}",
        "backupMethod": "CSISnapshot",
        "snapshotDataMoved": True,
        "startTimestamp": TAKEN,
        "snapshotDataMovementInfo": {
            "dataMover": "velero",
            "uploaderType": "kopia",
            "snapshotHandle": snapshot,
            "operationID": f"du-uid.{claim_name}",
            **detail,
        },
    }


def pod_volume_info(
    namespace: str, pod_name: str, volume: str, snapshot: str, claim_name: str = ""
) -> Document:
    """An entry of `volumeinfo` for an fs-backup."""
    return {
        "pvcName": claim_name,
        "pvcNamespace": namespace if claim_name else "",
        "backupMethod": "PodVolumeBackup",
        "snapshotDataMoved": False,
        "pvbInfo": {
            "snapshotHandle": snapshot,
            "size": 815,
            "uploaderType": "kopia",
            "volumeName": volume,
            "podName": pod_name,
            "podNamespace": namespace,
            "Phase": "Completed",
        },
    }


def operation(
    namespace: str, claim_name: str, *, phase: str = "Completed", error: str = "", lower: bool = False
) -> Document:
    """An item operation of a moved claim; with `lower` its resource identifiers have tags."""
    identifier = {
        "Group": "",
        "Resource": "persistentvolumeclaims",
        "Namespace": namespace,
        "Name": claim_name,
    }
    item = {"Group": "velero.io", "Resource": "datauploads", "Namespace": "velero", "Name": f"b-{claim_name}"}
    if lower:
        identifier, item = ({key.lower(): one for key, one in each.items()} for each in (identifier, item))
    status = {"phase": phase, "started": TAKEN, **({"error": error} if error else {})}
    spec = {
        "backupItemAction": "velero.io/csi-pvc-backupper",
        "resourceIdentifier": identifier,
        "operationID": f"du-uid.{claim_name}",
        "postOperationItems": [item],
    }
    return {"spec": spec, "status": status}


@dataclass
class BucketCopy:
    """A store in a directory."""

    root: Path
    password: str = DEFAULT_PASSWORD
    _repositories: set[str] = field(default_factory=set)

    def put(self, key: str, content: bytes) -> None:
        """An object."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def backup(
        self,
        name: str,
        *,
        phase: str = "Completed",
        started: str = TAKEN,
        schedule: str = "",
        members: dict[str, bytes] | None = None,
        **lists: Any,
    ) -> None:
        """A backup; `lists` by the name in the object's name, with `_` for `-`, are its gzip JSON objects."""
        labels = {"velero.io/storage-location": "default"} | (
            {"velero.io/schedule-name": schedule} if schedule else {}
        )
        document = {
            "apiVersion": "velero.io/v1",
            "kind": "Backup",
            "metadata": {"name": name, "namespace": "velero", "uid": f"uid-{name}", "labels": labels},
            "spec": {"includedNamespaces": ["shop"]},
            "status": {
                "phase": phase,
                "startTimestamp": started,
                "completionTimestamp": OVER,
                "expiration": "2026-12-30T21:25:14Z",
                "formatVersion": "1.1.0",
            },
        }
        folder = f"backups/{name}/"
        self.put(f"{folder}velero-backup.json", json.dumps(document).encode())
        self.put(f"{folder}{name}.tar.gz", tarball({"metadata/version": b"1.1.0\n", **(members or {})}))
        for ending, found in lists.items():
            stem = f"{folder}{name}-{ending.replace('_', '-')}"
            self.put(f"{stem}.gz" if ending == "results" else f"{stem}.json.gz", packed(found))

    def repository(self, namespace: str) -> Session:
        """The repository of a namespace as a Velero agent opens it, made when it is first asked for.

        It lies where Kopia's file layout is, until `flatten`.
        """
        path = self.sharded(namespace)
        if namespace not in self._repositories:
            self._repositories.add(namespace)
            repository.create_repository(str(path), self.password, FAST)
        options = repository.OpenOptions(username="default", hostname="default")
        return repository.open_repository(str(path), self.password, options)

    def sharded(self, namespace: str) -> Path:
        """Where a repository is before it is flattened."""
        return self.root.parent / f"{self.root.name}-repositories" / namespace

    def flatten(self) -> None:
        """Puts the repositories into the store as a bucket holds them, and a copy of it on a disk."""
        base = self.sharded("x").parent
        for repository_root in base.iterdir() if base.is_dir() else ():
            flat_copy(repository_root, self.root / "kopia" / repository_root.name)


def flat_copy(repository_root: Path, target: Path) -> None:
    """A repository with the names that it has in a bucket."""
    target.mkdir(parents=True, exist_ok=True)
    for path in repository_root.rglob("*.f"):
        name = "".join(path.relative_to(repository_root).parts).removesuffix(".f")
        shutil.copy2(path, target / name)


def upstream_stream(file_descriptor: int, device: str) -> Stream:
    """A stream under the name that upstream's uploader gives a device: its whole path, which `Stream` refuses to write.

    Source: Velero `pkg/uploader/kopia/block_backup.go`, getLocalBlockEntry.
    """
    stream = Stream(file_descriptor, "device")
    object.__setattr__(stream, "file_name", device)
    return stream
