"""From what a bucket says of a backup to the backup's volumes. Pure.

PodVolumeBackups are authoritative for fs-backups, DataUploads (in the tarball) for data movement.
`volumeinfo` (since 1.13) is the fast path, and the only one that knows skipped volumes and plain snapshots;
it may lack any volume, so that all are joined. Item operations know which claims should have been moved, and
why one was not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from velero_store.fields import Document, documents, flag, mapping, moment, number, text
from velero_store.tarball import TarFindings
from velero_store.volumes import OUR_MOVERS, Method, State, Volume, judged

COMPLETED = "Completed"
OVER = frozenset({"Failed", "Canceled", "PartiallyFailed"})
UPLOADS_RESOURCE = "datauploads"
CLAIM_ANNOTATION = "velero.io/pvc-name"
PodVolume = tuple[str, str, str]  # namespace, pod, volume
Key = tuple[str, str]  # namespace, claim


@dataclass(slots=True, kw_only=True)
class Sources:
    """What was read of one backup; `None` is an object that is not in the bucket."""

    backup: str
    pod_volume_backups: list[Document] | None = None
    volume_info: list[Document] | None = None
    operations: list[Document] = field(default_factory=list)
    native_snapshots: list[Document] = field(default_factory=list)
    csi_snapshots: list[Document] = field(default_factory=list)
    tarball: TarFindings | None = None
    # what could not be read, and why
    damage: list[str] = field(default_factory=list)


def needs_tarball(sources: Sources) -> bool:
    """Whether only the tarball can name all snapshots: no `volumeinfo`, or one without a handle (1.13)."""
    if sources.volume_info is None:
        return True
    known: set[Key] = set()
    for info in filter(_is_moved, sources.volume_info):
        if not text(info, "snapshotDataMovementInfo", "snapshotHandle") and not _has_failed(info):
            return True
        known.add(_claim_of(info))
    return any(_operation_claim(one) not in known for one in _upload_operations(sources))


def volumes_of(sources: Sources) -> list[Volume]:
    """All volumes of the backup, by namespace and name; none that any source knows is missing."""
    found = [*_pod_volumes(sources), *_moved_volumes(sources), *_other_volumes(sources)]
    found = [_with_claim(one, sources.tarball) for one in found]
    return sorted(found, key=lambda one: (one.namespace, one.name, one.pod_name, one.snapshot_id))


def _with_claim(volume: Volume, tarball: TarFindings | None) -> Volume:
    """What the claim's own document adds."""
    claim = tarball.claims.get((volume.namespace, volume.claim)) if tarball and volume.claim else None
    if claim is None:
        return volume
    return replace(
        volume,
        mode=claim.mode or "Filesystem",
        storage_class=claim.storage_class,
        capacity=claim.capacity,
        persistent_volume=volume.persistent_volume or claim.volume_name,
    )


def _pod_volumes(sources: Sources) -> list[Volume]:
    """Fs-backups: every PodVolumeBackup, and what only `volumeinfo` or, before 1.1, only pods know."""
    infos = {_pod_volume_of(one): one for one in sources.volume_info or () if _is_fs_backup(one)}
    found: dict[PodVolume, Volume] = {}
    for document in sources.pod_volume_backups or ():
        key = _pod_key(document)
        volume = _of_pod_volume_backup(sources, document, infos.get(key, {}))
        # A second try at the same volume counts where the first came to nothing.
        if key not in found or volume.is_readable:
            found[key] = volume
    for key, info in infos.items():
        if key not in found:
            found[key] = _of_pod_volume_info(sources, info)
    if sources.pod_volume_backups is None and sources.tarball:
        for (namespace, pod, name), snapshot in sources.tarball.annotated.items():
            found.setdefault((namespace, pod, name), _of_annotation(sources, namespace, pod, name, snapshot))
    return list(found.values())


def _pod_key(document: Document) -> PodVolume:
    spec = mapping(document, "spec")
    return text(spec, "pod", "namespace"), text(spec, "pod", "name"), text(spec, "volume")


def _of_pod_volume_backup(sources: Sources, document: Document, info: Document) -> Volume:
    namespace, pod, name = _pod_key(document)
    status = mapping(document, "status")
    claim = text(document, "metadata", "annotations", CLAIM_ANNOTATION) or text(info, "pvcName")
    if not claim and sources.tarball:
        claim = sources.tarball.pod_claims.get((namespace, pod, name), "")
    uploader = text(document, "spec", "uploaderType") or "restic"
    snapshot = text(status, "snapshotID")
    state, reason = _judged_phase(text(status, "phase"), text(status, "message"))
    if state is State.RESTORABLE:
        state, reason = judged(snapshot, namespace=namespace, uploader=uploader, names=(claim, pod, name))
    return Volume(
        backup=sources.backup,
        namespace=namespace,
        claim=claim,
        pod=pod,
        pod_volume=name,
        method=Method.FS_BACKUP,
        uploader=uploader,
        snapshot_id=snapshot,
        state=state,
        reason=reason,
        size_bytes=number(status, "progress", "totalBytes"),
        incremental_bytes=number(status, "incrementalBytes"),
        taken_at=moment(status, "startTimestamp"),
        completed_at=moment(status, "completionTimestamp"),
        persistent_volume=text(info, "pvName"),
    )


def _judged_phase(phase: str, message: str) -> tuple[State, str]:
    if phase == COMPLETED:
        return State.RESTORABLE, ""
    if phase in OVER:
        return State.FAILED, message or phase.lower()
    return State.PENDING, message or f"its backup is in phase {phase or 'New'}"


def _of_pod_volume_info(sources: Sources, info: Document) -> Volume:
    detail = mapping(info, "pvbInfo")
    namespace, pod, name = _pod_volume_of(info)
    claim, uploader = text(info, "pvcName"), text(detail, "uploaderType") or "restic"
    snapshot = text(detail, "snapshotHandle")
    state, reason = _judged_info(info, text(detail, "Phase"))
    if state is State.RESTORABLE:
        state, reason = judged(snapshot, namespace=namespace, uploader=uploader, names=(claim, pod, name))
    return _of_info(
        sources,
        info,
        Volume(
            backup=sources.backup,
            namespace=namespace,
            claim=claim,
            pod=pod,
            pod_volume=name,
            method=Method.FS_BACKUP,
            uploader=uploader,
            snapshot_id=snapshot,
            state=state,
            reason=reason,
            size_bytes=number(detail, "size"),
            incremental_bytes=number(detail, "incrementalSize"),
        ),
    )


def _of_annotation(sources: Sources, namespace: str, pod: str, name: str, snapshot: str) -> Volume:
    state, reason = judged(snapshot, namespace=namespace, uploader="restic", names=(pod, name))
    claim = sources.tarball.pod_claims.get((namespace, pod, name), "") if sources.tarball else ""
    return Volume(
        backup=sources.backup,
        namespace=namespace,
        claim=claim,
        pod=pod,
        pod_volume=name,
        method=Method.FS_BACKUP,
        uploader="restic",
        snapshot_id=snapshot,
        state=state,
        reason=reason,
    )


def _moved_volumes(sources: Sources) -> list[Volume]:
    """Data movement: DataUploads first, then `volumeinfo`, then operations of which neither knows."""
    uploads = sources.tarball.uploads if sources.tarball else {}
    infos = {_claim_of(one): one for one in sources.volume_info or () if _is_moved(one)}
    operations = {_operation_claim(one): one for one in _upload_operations(sources)}
    found = {key: _of_upload(sources, document, infos.get(key, {})) for key, document in uploads.items()}
    for key, info in infos.items():
        if key not in found:
            found[key] = _of_movement_info(sources, info, operations.get(key, {}))
    for key, operation in operations.items():
        if key not in found:
            found[key] = _of_operation(sources, key, operation)
        operation_id = text(operation, "spec", "operationID")
        found[key] = replace(found[key], operation_id=found[key].operation_id or operation_id)
    return list(found.values())


def _of_upload(sources: Sources, document: Document, info: Document) -> Volume:
    spec, status = mapping(document, "spec"), mapping(document, "status")
    namespace, claim, mover = text(spec, "sourceNamespace"), text(spec, "sourcePVC"), text(spec, "datamover")
    snapshot = text(status, "snapshotID")
    state, reason = _judged_phase(text(status, "phase"), text(status, "message"))
    if state is State.RESTORABLE:
        state, reason = _judged_movement(snapshot, namespace, claim, mover)
    return Volume(
        backup=sources.backup,
        namespace=namespace,
        claim=claim,
        method=Method.DATA_MOVEMENT,
        uploader=_uploader(mover),
        snapshot_id=snapshot,
        state=state,
        reason=reason,
        size_bytes=number(status, "progress", "totalBytes"),
        incremental_bytes=number(status, "incrementalBytes"),
        taken_at=moment(status, "startTimestamp"),
        completed_at=moment(status, "completionTimestamp"),
        persistent_volume=text(info, "pvName"),
        driver=text(document, "driver"),
    )


def _uploader(mover: str) -> str:
    """The uploader by the data mover: what `volumeinfo` says of it is `kopia` whatever was used."""
    return "velero-block" if mover == "velero-block" else "kopia" if mover in OUR_MOVERS else mover


def _judged_movement(snapshot: str, namespace: str, claim: str, mover: str) -> tuple[State, str]:
    if mover not in OUR_MOVERS:
        return State.FOREIGN, f"it is not readable: data mover {mover}"
    state, reason = judged(snapshot, namespace=namespace, uploader="kopia", names=(claim,))
    if state is State.EMPTY:
        return State.UNREADABLE, "it was completed without the ID of a snapshot"
    return state, reason


def _of_movement_info(sources: Sources, info: Document, operation: Document) -> Volume:
    detail = mapping(info, "snapshotDataMovementInfo")
    namespace, claim = _claim_of(info)
    mover, snapshot = text(detail, "dataMover"), text(detail, "snapshotHandle")
    state, reason = _judged_info(info, text(detail, "Phase"))
    if state is State.FAILED:
        reason = text(operation, "status", "error") or reason
    elif mover not in OUR_MOVERS or snapshot:
        state, reason = _judged_movement(snapshot, namespace, claim, mover)
    elif state is State.RESTORABLE:
        state, reason = State.PENDING, "its DataUpload is not in the tarball"
    moved = Volume(
        backup=sources.backup,
        namespace=namespace,
        claim=claim,
        method=Method.DATA_MOVEMENT,
        uploader=_uploader(mover),
        snapshot_id=snapshot,
        operation_id=text(detail, "operationID"),
        state=state,
        reason=reason,
        size_bytes=number(detail, "size"),
        incremental_bytes=number(detail, "incrementalSize"),
    )
    return _of_info(sources, info, moved)


def _of_operation(sources: Sources, key: Key, operation: Document) -> Volume:
    phase, error = text(operation, "status", "phase"), text(operation, "status", "error")
    state, reason = (
        (State.FAILED, error or phase.lower())
        if phase in OVER or error
        else (
            State.PENDING,
            "its DataUpload is not in the tarball"
            if phase == COMPLETED
            else f"its operation is in phase {phase or 'New'}",
        )
    )
    return Volume(
        backup=sources.backup,
        namespace=key[0],
        claim=key[1],
        method=Method.DATA_MOVEMENT,
        uploader="kopia",
        state=state,
        reason=reason,
        size_bytes=number(operation, "status", "nTotal"),
        taken_at=moment(operation, "status", "started"),
    )


def _other_volumes(sources: Sources) -> Iterator[Volume]:
    """What is not in the bucket: skipped volumes and plain snapshots."""
    for info in sources.volume_info or ():
        if not _is_moved(info) and not _is_fs_backup(info):
            yield _of_unsaved(sources, info)
    if sources.volume_info is None:
        yield from _old_snapshots(sources)


def _of_unsaved(sources: Sources, info: Document) -> Volume:
    namespace, claim = _claim_of(info)
    method = {"CSISnapshot": Method.CSI_SNAPSHOT, "NativeSnapshot": Method.NATIVE_SNAPSHOT}.get(
        text(info, "backupMethod"), Method.NONE
    )
    driver = text(info, "csiSnapshotInfo", "driver") or text(info, "nativeSnapshotInfo", "volumeType")
    if flag(info, "skipped"):
        state, reason = State.SKIPPED, text(info, "skippedReason") or "it was skipped"
    elif _has_failed(info):
        state, reason = State.FAILED, "its snapshot failed"
    else:
        state, reason = (
            State.SNAPSHOT_ONLY,
            f"its snapshot is in the storage system ({driver or 'not named'})",
        )
    unsaved = Volume(
        backup=sources.backup,
        namespace=namespace,
        claim=claim,
        method=method,
        state=state,
        reason=reason,
        size_bytes=number(info, "csiSnapshotInfo", "size"),
        driver=driver,
    )
    return _of_info(sources, info, unsaved)


def _old_snapshots(sources: Sources) -> Iterator[Volume]:
    """Plain snapshots before 1.13; a claim that was moved has none of its own any more."""
    moved = {_operation_claim(one) for one in _upload_operations(sources)}
    moved |= set(sources.tarball.uploads) if sources.tarball else set()
    for snapshot in sources.csi_snapshots:
        key = (
            text(snapshot, "metadata", "namespace"),
            text(snapshot, "spec", "source", "persistentVolumeClaimName"),
        )
        if key not in moved:
            yield _snapshot_only(sources, Method.CSI_SNAPSHOT, namespace=key[0], claim=key[1])
    for snapshot in sources.native_snapshots:
        volume = text(snapshot, "spec", "persistentVolumeName")
        namespace, claim = _claim_of_volume(sources, volume)
        yield _snapshot_only(
            sources, Method.NATIVE_SNAPSHOT, namespace=namespace, claim=claim, persistent_volume=volume
        )


def _claim_of_volume(sources: Sources, volume: str) -> Key:
    for key, claim in (sources.tarball.claims if sources.tarball else {}).items():
        if volume and claim.volume_name == volume:
            return key
    return "", ""


def _snapshot_only(
    sources: Sources, method: Method, *, namespace: str, claim: str, persistent_volume: str = ""
) -> Volume:
    return Volume(
        backup=sources.backup,
        namespace=namespace,
        claim=claim,
        method=method,
        state=State.SNAPSHOT_ONLY,
        reason="its snapshot is in the storage system",
        persistent_volume=persistent_volume,
    )


def _of_info(sources: Sources, info: Document, volume: Volume) -> Volume:
    """What every entry of `volumeinfo` says."""
    return replace(
        volume,
        backup=sources.backup,
        persistent_volume=text(info, "pvName"),
        taken_at=moment(info, "startTimestamp"),
        completed_at=moment(info, "completionTimestamp"),
    )


def _is_moved(info: Document) -> bool:
    return flag(info, "snapshotDataMoved") and not flag(info, "skipped")


def _is_fs_backup(info: Document) -> bool:
    return text(info, "backupMethod") == "PodVolumeBackup" and not flag(info, "skipped")


def _has_failed(info: Document) -> bool:
    return text(info, "result") == "failed"


def _judged_info(info: Document, phase: str) -> tuple[State, str]:
    """By `result` (1.15) and phase (1.15); before, an entry was made of what is complete."""
    if _has_failed(info) or phase in OVER:
        return State.FAILED, phase.lower() if phase in OVER else "failed"
    return _judged_phase(phase or COMPLETED, "")


def _claim_of(info: Document) -> Key:
    return text(info, "pvcNamespace"), text(info, "pvcName")


def _pod_volume_of(info: Document) -> PodVolume:
    detail = mapping(info, "pvbInfo")
    namespace = text(detail, "podNamespace") or text(info, "pvcNamespace")
    return namespace, text(detail, "podName"), text(detail, "volumeName")


def _upload_operations(sources: Sources) -> Iterator[Document]:
    """Operations that made a DataUpload for a claim."""
    for operation in sources.operations:
        made = documents(operation, "spec", "postOperationItems")
        if any(text(one, "Resource").split(".")[0] == UPLOADS_RESOURCE for one in made):
            yield operation


def _operation_claim(operation: Document) -> Key:
    of = mapping(operation, "spec", "resourceIdentifier")
    return text(of, "Namespace"), text(of, "Name")


def damage_text(damage: Sequence[str]) -> str:
    """Damages of a backup's own objects in one line."""
    return "; ".join(damage)
