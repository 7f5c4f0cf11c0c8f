"""The four custom resources that are moved, as frozen values read from the API's JSON.

What a `DataUpload`, `DataDownload`, `PodVolumeBackup` or `PodVolumeRestore` says, and nothing about what to
do with it (that is `phases`). All four share one class, `Move`: their life is the same, their `spec` is not.
The surprise: with the CRDs of Velero 1.15 and 1.16 a pod volume has no phases `Accepted`, `Prepared` and
`Canceling`; there the true phase stands in an annotation and `Move.phase` already says it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Json = dict[str, Any]

EXPOSE_ONGOING_LABEL = "velero.io/expose-on-going"
POD_UID_LABEL = "velero.io/pod-uid"
PVC_NAME_ANNOTATION = "velero.io/pvc-name"
ACCEPTED_BY_ANNOTATION = "velero.io/accepted-by"
ACCEPTED_AT_ANNOTATION = "velero.io/accepted-at"
PHASE_ANNOTATION = "kopia-data-mover.io/phase"
NODE_ANNOTATION = "kopia-data-mover.io/node"
OPERATION_TIMEOUT_DEFAULT_SECONDS = 600.0
DATA_MOVER_FINALIZER = "velero.io/data-upload-download-finalizer"
POD_VOLUME_FINALIZER = "velero.io/pod-volume-finalizer"


class Phase(StrEnum):
    """The phases of all four resources, spelled as their schemas spell them."""

    NEW = "New"
    ACCEPTED = "Accepted"
    PREPARED = "Prepared"
    IN_PROGRESS = "InProgress"
    CANCELING = "Canceling"
    CANCELED = "Canceled"
    COMPLETED = "Completed"
    FAILED = "Failed"

    @property
    def is_final(self) -> bool:
        """Whether nothing may follow."""
        return self in _FINAL


_FINAL = frozenset({Phase.CANCELED, Phase.COMPLETED, Phase.FAILED})


class MalformedResourceError(ValueError):
    """A custom resource cannot be read; says which, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class MoveKind:
    """What the API calls one of the four resources."""

    name: str
    plural: str
    version: str
    finalizer: str
    pod_label: str
    is_backup: bool
    is_pod_volume: bool

    @property
    def short(self) -> str:
        """DU, DD, PVB or PVR: what people call it."""
        return "".join(letter for letter in self.name if letter.isupper())

    @property
    def api_version(self) -> str:
        """`velero.io/v1` or `velero.io/v2alpha1`."""
        return f"velero.io/{self.version}"


DATA_UPLOAD = MoveKind(
    "DataUpload",
    "datauploads",
    "v2alpha1",
    DATA_MOVER_FINALIZER,
    "velero.io/data-upload",
    is_backup=True,
    is_pod_volume=False,
)
DATA_DOWNLOAD = MoveKind(
    "DataDownload",
    "datadownloads",
    "v2alpha1",
    DATA_MOVER_FINALIZER,
    "velero.io/data-download",
    is_backup=False,
    is_pod_volume=False,
)
POD_VOLUME_BACKUP = MoveKind(
    "PodVolumeBackup",
    "podvolumebackups",
    "v1",
    POD_VOLUME_FINALIZER,
    "velero.io/pod-volume-backup",
    is_backup=True,
    is_pod_volume=True,
)
POD_VOLUME_RESTORE = MoveKind(
    "PodVolumeRestore",
    "podvolumerestores",
    "v1",
    POD_VOLUME_FINALIZER,
    "velero.io/pod-volume-restore",
    is_backup=False,
    is_pod_volume=True,
)
MOVE_KINDS = (DATA_UPLOAD, DATA_DOWNLOAD, POD_VOLUME_BACKUP, POD_VOLUME_RESTORE)
KIND_BY_NAME = {kind.name: kind for kind in MOVE_KINDS}


@dataclass(frozen=True, slots=True)
class DataUploadSpec:
    """Source PVC and the snapshot that the server took of it. `fault`: what of it cannot be read."""

    snapshot_type: str
    volume_snapshot: str
    storage_class: str
    snapshot_class: str
    source_namespace: str
    source_pvc: str
    operation_timeout_seconds: float
    parent_snapshot: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class DataDownloadSpec:
    """Target PVC (its namespace already mapped) and the snapshot for it. `fault`: what cannot be read.

    `target_fs_type` is the file system of the source volume (Velero 1.19), for a device that becomes one of
    files.
    """

    target_namespace: str
    target_pvc: str
    snapshot_id: str
    source_namespace: str
    snapshot_size_bytes: int
    node_os: str
    operation_timeout_seconds: float
    fault: str = ""
    target_fs_type: str = ""


@dataclass(frozen=True, slots=True)
class PodVolumeBackupSpec:
    """A volume of a running pod on one named node."""

    node: str
    pod_namespace: str
    pod_name: str
    pod_uid: str
    volume: str
    uploader_type: str
    tags: Mapping[str, str]
    parent_snapshot: str = ""


@dataclass(frozen=True, slots=True)
class PodVolumeRestoreSpec:
    """A volume of a pod that waits in its init container, and the snapshot to put into it."""

    pod_namespace: str
    pod_name: str
    pod_uid: str
    volume: str
    snapshot_id: str
    source_namespace: str
    snapshot_size_bytes: int
    uploader_type: str


Spec = DataUploadSpec | DataDownloadSpec | PodVolumeBackupSpec | PodVolumeRestoreSpec


@dataclass(frozen=True, slots=True)
class Move:
    """One custom resource. Times are aware UTC; `phase` is `New` where the API has none yet."""

    kind: MoveKind
    namespace: str
    name: str
    uid: str
    resource_version: str
    created_at: datetime
    phase: Phase
    spec: Spec
    backup_storage_location: str
    data_mover: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    cancel: bool = False
    deleting: bool = False
    finalizers: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owner_name: str = ""
    owner_uid: str = ""
    node: str = ""
    accepted_by: str = ""
    accepted_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    message: str = ""
    snapshot_id: str = ""
    total_bytes: int = 0
    done_bytes: int = 0

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, namespace and name: what a queue and a log line call it."""
        return (self.kind.name, self.namespace, self.name)

    @property
    def has_finalizer(self) -> bool:
        """Whether clean-up is still owed to this object."""
        return self.kind.finalizer in self.finalizers

    @property
    def cancel_wanted(self) -> bool:
        """Asked for by the server or a user, or implied by deletion."""
        return self.cancel or self.deleting

    @property
    def is_exposing(self) -> bool:
        """Counts against the prepare queue."""
        return self.labels.get(EXPOSE_ONGOING_LABEL) == "true"

    @property
    def source_namespace(self) -> str:
        """The namespace that selects the repository."""
        return (
            self.spec.pod_namespace
            if isinstance(self.spec, PodVolumeBackupSpec)
            else self.spec.source_namespace
        )


def parse_move(kind: MoveKind, body: Json) -> Move:
    """Read one resource.

    Raises:
        MalformedResourceError: a field that is needed to act is missing or has the wrong type.
    """
    meta = body.get("metadata") or {}
    try:
        return _parse(kind, meta, body.get("spec") or {}, body.get("status") or {})
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        where = f"{kind.name} {meta.get('namespace', '')}/{meta.get('name', '?')}"
        raise MalformedResourceError(f"cannot read {where}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return f"field {error} is missing" if isinstance(error, KeyError) else str(error)


def _parse(kind: MoveKind, meta: Json, spec: Json, status: Json) -> Move:
    annotations = _strings(meta.get("annotations"))
    owner: Json = (meta.get("ownerReferences") or [{}])[0]
    progress = status.get("progress") or {}
    return Move(
        kind=kind,
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        created_at=parse_time(meta["creationTimestamp"]),
        phase=_phase(status.get("phase") or "", annotations),
        spec=_SPEC_PARSERS[kind.name](spec),
        backup_storage_location=spec["backupStorageLocation"],
        data_mover=spec.get("datamover") or "",
        settings=_strings(spec.get("dataMoverConfig") or spec.get("uploaderSettings")),
        cancel=bool(spec.get("cancel")),
        deleting="deletionTimestamp" in meta,
        finalizers=tuple(meta.get("finalizers") or ()),
        labels=_strings(meta.get("labels")),
        annotations=annotations,
        owner_name=owner.get("name", ""),
        owner_uid=owner.get("uid", ""),
        node=status.get("node") or annotations.get(NODE_ANNOTATION, ""),
        accepted_by=status.get("acceptedByNode") or annotations.get(ACCEPTED_BY_ANNOTATION, ""),
        accepted_at=_optional_time(status.get("acceptedTimestamp"))
        or _noted_time(annotations.get(ACCEPTED_AT_ANNOTATION)),
        started_at=_optional_time(status.get("startTimestamp")),
        completed_at=_optional_time(status.get("completionTimestamp")),
        message=status.get("message") or "",
        snapshot_id=status.get("snapshotID") or "",
        total_bytes=int(progress.get("totalBytes") or 0),
        done_bytes=int(progress.get("bytesDone") or 0),
    )


def _phase(stored: str, annotations: Mapping[str, str]) -> Phase:
    """The true phase: on old pod-volume schemas the annotation is finer than what the schema can hold."""
    phase = Phase(stored or "New")
    noted = annotations.get(PHASE_ANNOTATION, "")
    if not noted or phase.is_final:
        return phase
    finer = {Phase.NEW: (Phase.ACCEPTED, Phase.PREPARED), Phase.IN_PROGRESS: (Phase.CANCELING,)}.get(
        phase, ()
    )
    return Phase(noted) if noted in finer else phase


def _data_upload(spec: Json) -> DataUploadSpec:
    csi = spec.get("csiSnapshot") or {}
    return DataUploadSpec(
        snapshot_type=spec["snapshotType"],
        volume_snapshot=csi.get("volumeSnapshot", ""),
        storage_class=csi.get("storageClass", ""),
        snapshot_class=csi.get("snapshotClass", ""),
        source_namespace=spec["sourceNamespace"],
        source_pvc=spec["sourcePVC"],
        parent_snapshot=_parent_snapshot(spec),
        **_operation_timeout(spec),
    )


def _data_download(spec: Json) -> DataDownloadSpec:
    target = spec["targetVolume"]
    return DataDownloadSpec(
        target_namespace=target["namespace"],
        target_pvc=target["pvc"],
        snapshot_id=spec["snapshotID"],
        source_namespace=spec["sourceNamespace"],
        snapshot_size_bytes=int(spec.get("snapshotSize") or 0),
        node_os=spec.get("nodeOS") or "",
        target_fs_type=target.get("fsType") or "",
        **_operation_timeout(spec),
    )


def _parent_snapshot(spec: Json) -> str:
    """`none`, `auto`, the ID of a snapshot, or nothing: what Velero 1.19 says of a backup's parent."""
    parent = spec.get("parentSnapshot") or ""
    if not isinstance(parent, str):
        raise TypeError(f"parentSnapshot is no text: {parent!r}")
    return parent


def _operation_timeout(spec: Json) -> Json:
    """Read the timeout. A wrong one refuses a new move, and never stops the clean-up of one under way."""
    try:
        return {"operation_timeout_seconds": parse_go_duration(spec["operationTimeout"])}
    except ValueError as error:
        fault = f"spec.operationTimeout: {error}"
        return {"operation_timeout_seconds": OPERATION_TIMEOUT_DEFAULT_SECONDS, "fault": fault}


def _pod_volume_backup(spec: Json) -> PodVolumeBackupSpec:
    pod = spec["pod"]
    return PodVolumeBackupSpec(
        node=spec["node"],
        pod_namespace=pod["namespace"],
        pod_name=pod["name"],
        pod_uid=pod.get("uid", ""),
        volume=spec["volume"],
        uploader_type=spec.get("uploaderType") or "",
        tags=_strings(spec.get("tags")),
        parent_snapshot=_parent_snapshot(spec),
    )


def _pod_volume_restore(spec: Json) -> PodVolumeRestoreSpec:
    pod = spec["pod"]
    return PodVolumeRestoreSpec(
        pod_namespace=pod["namespace"],
        pod_name=pod["name"],
        pod_uid=pod.get("uid", ""),
        volume=spec["volume"],
        snapshot_id=spec["snapshotID"],
        source_namespace=spec["sourceNamespace"],
        snapshot_size_bytes=int(spec.get("snapshotSize") or 0),
        uploader_type=spec.get("uploaderType") or "",
    )


_SPEC_PARSERS: dict[str, Callable[[Json], Spec]] = {
    "DataUpload": _data_upload,
    "DataDownload": _data_download,
    "PodVolumeBackup": _pod_volume_backup,
    "PodVolumeRestore": _pod_volume_restore,
}


def _strings(value: Mapping[str, Any] | None) -> dict[str, str]:
    return {key: str(item) for key, item in (value or {}).items()}


def parse_time(text: str) -> datetime:
    """RFC 3339 as the API server writes it."""
    return datetime.fromisoformat(text).astimezone(UTC)


def _optional_time(text: str | None) -> datetime | None:
    return parse_time(text) if text else None


def _noted_time(text: str | None) -> datetime | None:
    """Read a time from an annotation, which anybody may have scribbled on."""
    try:
        return _optional_time(text)
    except (ValueError, OverflowError):
        return None


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC, whole seconds: what the schemas hold."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_go_duration(text: str) -> float:
    """Seconds of a Go duration such as `10m0s`; `0` is allowed without a unit, a sign is not."""
    if text == "0":
        return 0.0
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration such as 10m0s")
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)


def bytes_per_second(move: Move, now: datetime) -> float:
    """The average since the mover began, of a completed move what it came to; 0 while nothing moves."""
    end = {Phase.IN_PROGRESS: now, Phase.COMPLETED: move.completed_at}.get(move.phase)
    if end is None or move.started_at is None:
        return 0.0
    return move.done_bytes / max((end - move.started_at).total_seconds(), 1.0)
