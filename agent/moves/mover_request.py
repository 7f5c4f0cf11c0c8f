"""A move, its access point and its repository → the mover's request. Pure.

Source paths and tags are upstream's, so that chains of snapshots continue from and to its movers (contract
6.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.moves.custom_resources import (
    PVC_NAME_ANNOTATION,
    DataUploadSpec,
    Move,
    PodVolumeBackupSpec,
    PodVolumeRestoreSpec,
)
from agent.moves.data_movers import BLOCK_MOVER
from exposer.changed_blocks import TOKEN_PATH
from mover.protocol import BackupRequest, ChangeTracking, RepositoryAccess, Request, RestoreRequest

if TYPE_CHECKING:
    from exposer.access_point import AccessPoint

ASYNC_OPERATION_LABEL = "velero.io/async-operation-id"
DATA_UPLOAD_REQUESTOR = "snapshot-data-upload-download"
POD_VOLUME_REQUESTOR = "snapshot-pod-volume"
_UPLOADER, _BLOCK_UPLOADER = "kopia", BLOCK_MOVER
# each is a thread with buffers of its own
_PARALLEL_MAX = 256
_DIGITS_MAX = 20


def build_request(move: Move, access: AccessPoint, repository: RepositoryAccess) -> Request:
    """Build the request for a move, in the layout of the mover that is asked for."""
    if move.kind.is_backup:
        return BackupRequest(
            move=move.name,
            uid=move.uid,
            path=access.path,
            volume_mode=access.volume_mode.value,
            repository=repository,
            source_path=source_path(move),
            tags=snapshot_tags(move) | _handles(move, access),
            parent_snapshot=_parent_snapshot(move),
            parallel=_number(move, "ParallelFilesUpload"),
            tracking=_tracking(move, access),
        )
    return RestoreRequest(
        move=move.name,
        uid=move.uid,
        path=access.path,
        volume_mode=access.volume_mode.value,
        repository=repository,
        snapshot_id=_snapshot_id(move),
        done_file=move.owner_uid if isinstance(move.spec, PodVolumeRestoreSpec) else "",
        parallel=_number(move, "ParallelFilesDownload"),
        # Upstream restores holes as zeroes unless told otherwise. Ours keeps holes unless told otherwise.
        write_sparse_files=move.settings.get("WriteSparseFiles", "true") != "false",
    )


def source_path(move: Move) -> str:
    """Return the path that the snapshot manifest records for a backup."""
    spec = move.spec
    if isinstance(spec, DataUploadSpec):
        return f"{DATA_UPLOAD_REQUESTOR}/{_uploader(move)}/{spec.source_namespace}/{spec.source_pvc}"
    if isinstance(spec, PodVolumeBackupSpec):
        volume = move.annotations.get(PVC_NAME_ANNOTATION) or spec.volume
        return f"{POD_VOLUME_REQUESTOR}/{_UPLOADER}/{spec.pod_namespace}/{spec.pod_name}/{volume}"
    raise TypeError(f"{move.kind.name} is no backup")


def snapshot_tags(move: Move) -> dict[str, str]:
    """Return the tags of a backup's snapshot; parents are chosen by the two that both kinds carry."""
    requestor = POD_VOLUME_REQUESTOR if move.kind.is_pod_volume else DATA_UPLOAD_REQUESTOR
    tags = {"snapshot-requester": requestor, "snapshot-uploader": _uploader(move)}
    if not move.kind.is_pod_volume:
        tags[ASYNC_OPERATION_LABEL] = move.labels.get(ASYNC_OPERATION_LABEL, "")
    return tags


def _uploader(move: Move) -> str:
    return _BLOCK_UPLOADER if move.data_mover == BLOCK_MOVER and not move.kind.is_pod_volume else _UPLOADER


def _handles(move: Move, access: AccessPoint) -> dict[str, str]:
    """What the next block backup asks the driver for changes since, and of which volume."""
    if _uploader(move) != _BLOCK_UPLOADER:
        return {}
    return {"cbt-change-id": access.change_id, "cbt-volume-id": access.volume_id}


def _tracking(move: Move, access: AccessPoint) -> ChangeTracking | None:
    """Where a block backup asks for changed blocks: the VolumeSnapshot of ours has the move's name."""
    service = access.service
    if service is None or _uploader(move) != _BLOCK_UPLOADER:
        return None
    return ChangeTracking(service.address, service.authority, TOKEN_PATH, move.namespace, move.name)


def _parent_snapshot(move: Move) -> str:
    spec = move.spec
    return spec.parent_snapshot if isinstance(spec, DataUploadSpec | PodVolumeBackupSpec) else ""


def _snapshot_id(move: Move) -> str:
    if isinstance(move.spec, DataUploadSpec | PodVolumeBackupSpec):
        raise TypeError(f"{move.kind.name} is no restore")
    return move.spec.snapshot_id


def _number(move: Move, key: str) -> int:
    """A number of files at a time that a user asked for; 0: nothing said that is a number."""
    text = move.settings.get(key, "")
    if not (text.isascii() and text.isdigit()):
        return 0
    # Python refuses to read thousands of digits
    return min(int(text), _PARALLEL_MAX) if len(text) < _DIGITS_MAX else _PARALLEL_MAX
