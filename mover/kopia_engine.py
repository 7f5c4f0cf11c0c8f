"""The real engine behind `mover.engine`: a request in Velero's words → calls of `repository`.

Snapshots are recorded as upstream's movers record them: client `default@default`, the request's path and
tags, pinned against expiry, with a policy of their own that keeps everything (contract 6.1, 6.2). So chains
go on from upstream's snapshots and back.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import repository
from mover import block_backup
from mover.ahead import look_ahead
from mover.cancel import CanceledError
from mover.changed_blocks import find_changes
from mover.engine import PartialSnapshotError
from mover.memory import engine_budget_bytes
from mover.passwords import with_first_that_opens
from mover.protocol import NO_PARENT, Progress, Result
from mover.stages import Stages
from repository.block_image import BLOCK_UPLOADER, is_block_snapshot
from repository.engine import measure_tree
from repository.errors import InvalidRequestError, SnapshotNotFoundError
from repository.location import repository_url
from repository.password_bytes import trimmed
from repository.policies import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mover.cancel import CancelToken
    from mover.protocol import BackupRequest, RepositoryAccess, RestoreRequest
    from repository import BackupResult, RestoreResult, Session, Snapshot, Source
    from repository.engine import Ahead

USER, HOST = "default", "default"
PIN = "velero-pin"
DESCRIPTION = "Kopia Uploader"
_CHECKPOINT_SECONDS = 300.0
_PARALLEL_ABOVE_BYTES = 2 << 30
_KEEP_EVERYTHING = 2147483647
_COUNTING_SECONDS_MAX = 1.0  # what has not ended by then hangs in a file system
_CACHE_LIMIT_DEFAULT_MIB = 5000
_CACHE_LIMIT_OWN_DISK_MIB = 512
_ERRORS_SHOWN_MAX = 10
_REMARK_LENGTH_MAX = 500
_GONE_ON_FROM = ("canceled", "checkpoint")  # not "source deleted": what it lacks was never seen to be gone
_PARENT_TAGS = ("snapshot-requester", "snapshot-uploader")
_AUTOMATIC_PARENT = "auto"


class KopiaEngine:
    """Opens Kopia repositories."""

    @contextmanager
    def open(self, access: RepositoryAccess, source: str = "") -> Iterator[KopiaRepository]:
        """Open the repository of a location and namespace, and look ahead at the source meanwhile."""
        ahead = look_ahead(source) if source else None
        with tempfile.TemporaryDirectory() as scratch:
            url = repository_url(
                access.location,
                access.volume_namespace,
                credentials_path=access.credentials_path,
                ca_path=access.ca_certificate_path or _inline_certificate(access, Path(scratch)),
            )
            read_only = access.location.get("accessMode") == "ReadOnly"
            options = repository.OpenOptions(
                username=USER,
                hostname=HOST,
                memory_limit_bytes=engine_budget_bytes(),
                connection=repository.ConnectionOptions(
                    read_only=read_only,
                    cache_directory=access.cache_path or scratch,
                    cache_bytes_max=_cache_bytes_max(access),
                ),
            )
            stages = Stages()
            with stages.stage("open"):
                opened = with_first_that_opens(
                    _passwords(access), lambda password: repository.open_repository(url, password, options)
                )
            with opened as session:
                yield KopiaRepository(session, stages, ahead)


def _passwords(access: RepositoryAccess) -> list[bytes]:
    """The password in force and, while it is changed, the one that comes after it."""
    paths = [Path(path) for path in (access.password_path, access.spare_password_path) if path]
    return [trimmed(path.read_bytes()) for path in paths if path.exists()]


def _cache_bytes_max(access: RepositoryAccess) -> int:
    """Velero's `cacheLimitMB`; less on the pod's own disk, where too much of it gets the pod evicted."""
    if not access.cache_path:
        return min(access.cache_limit_mib or _CACHE_LIMIT_OWN_DISK_MIB, _CACHE_LIMIT_OWN_DISK_MIB) << 20
    return (access.cache_limit_mib or _CACHE_LIMIT_DEFAULT_MIB) << 20


def _inline_certificate(access: RepositoryAccess, scratch: Path) -> str:
    """Write the location's `caCert` (base64, not secret) into a file; empty if it has none."""
    text = (access.location.get("objectStorage") or {}).get("caCert")
    if not text:
        return ""
    path = scratch / "ca.pem"
    path.write_bytes(base64.b64decode(text))
    return str(path)


class KopiaRepository:
    """One open repository; one transfer."""

    def __init__(self, session: Session, stages: Stages, ahead: Ahead | None = None) -> None:
        self._session, self._stages, self._ahead = session, stages, ahead
        self._counters = repository.Progress()
        self._expected_bytes = 0

    def progress(self) -> Progress:
        """Read the engine's counters, and what it has told."""
        self._stages.hear()
        read = self._counters.read()
        moved = read["bytes_read"] + read["bytes_cached"] + read["bytes_written"]
        total = read["bytes_total"] or self._expected_bytes
        return Progress(
            total_bytes=max(total, moved) if total else 0,  # an estimate, but for restores
            done_bytes=moved,
            read_bytes=read["bytes_read"] + read["bytes_downloaded"],
            hashed_bytes=read["bytes_hashed"],
            uploaded_bytes=read["bytes_uploaded"],
            cached_bytes=read["bytes_cached"] + read["bytes_deduplicated"],
            files=read["files_done"],
            stage="moving" if moved else "scanning",
        )

    def backup(self, request: BackupRequest, cancel: CancelToken) -> Result:
        """Back the volume up, in the layout that the tags say."""
        if block_backup.is_block_layout(request):
            return self._backup_block(request, cancel)
        source = repository.Source(USER, HOST, request.source_path)
        with self._stages.stage("prepare"):
            self._ensure_policy(source, request.parallel)
            parents, full_because = self._parents(source, request)
        options = repository.BackupOptions(
            source=source,
            block_device=request.volume_mode == "Block",
            description=DESCRIPTION,
            tags=request.tags,
            checkpoint_tags=request.tags,
            pins=(PIN,),
            parallelism=request.parallel or None,
            parents=[parent.id for parent in parents],
            checkpoint_interval_seconds=_CHECKPOINT_SECONDS,
            parallel_upload_above_bytes=_PARALLEL_ABOVE_BYTES,
        )
        token = _native_token(cancel)
        with self._recorded(), self._stages.move(self._counters), self._expecting(request, parents):
            result = self._session.backup(
                request.path, options, progress=self._counters, cancel=token, ahead=self._ahead
            )
        if result.snapshot.incomplete_reason == "canceled":
            raise CanceledError(f"canceled; snapshot {result.snapshot.id} keeps what was stored")
        _refuse_failed_entries(result)
        way = {"hashedBytes": self._counters.read()["bytes_hashed"]} | self._stages.record()
        return _backup_result(result, parents, way | {"fullBecause": full_because}, options)

    def _backup_block(self, request: BackupRequest, cancel: CancelToken) -> Result:
        """Back a device up as Velero's block mover does; no policy is made for its source."""
        if request.volume_mode != "Block":
            raise InvalidRequestError(
                f"data mover {BLOCK_UPLOADER} reads devices; {request.path} is of mode {request.volume_mode}"
            )
        source = repository.Source(USER, HOST, request.source_path)
        with self._stages.stage("prepare"):
            parent = block_backup.choose_parent(self._session.snapshots(source), request)
        token = _native_token(cancel)
        with self._stages.stage("changes"):
            changes = find_changes(
                request.tracking,
                parent.change_id(request),
                has_parent=parent.snapshot is not None,
                device_bytes=_device_bytes(request.path),
                cancel=token,
            )
        # Allocated blocks say what is zero, not what changed since a parent.
        goes_on = parent.snapshot is not None and changes.goes_on
        options = repository.BlockBackupOptions(
            source=source,
            description=block_backup.DESCRIPTION,
            tags=request.tags,
            pins=(PIN,),
            parent=parent.snapshot.id if parent.snapshot and goes_on else None,
            reads_under_way=request.parallel or None,
        )
        with self._recorded(), self._stages.move(self._counters):
            result = self._session.backup_block(
                request.path, options, changed=changes.blocks, progress=self._counters, cancel=token
            )
        record = block_backup.block_record(result, parent, changes.known_by, changes.fallbacks)
        way = {"hashedBytes": self._counters.read()["bytes_hashed"]} | self._stages.record()
        return Result(result.device_bytes, result.snapshot.id, result.incremental_bytes, record | way)

    def restore(self, request: RestoreRequest, cancel: CancelToken) -> Result:
        """Restore the snapshot into the volume, over what is there, and sync it."""
        is_block = request.volume_mode == "Block"
        if not is_block:
            self._refuse_block_snapshot(request.snapshot_id)
        elif is_block_snapshot(self._session.snapshot(request.snapshot_id)):
            return self._restore_block(request, cancel)
        options = repository.RestoreOptions(
            format="device" if is_block else "tree",
            overwrite="always",
            ignore_permission_errors=True,
            parallelism=request.parallel or None,
            sparse=request.write_sparse_files,
            sync=True,
        )
        what = self._only_file(request.snapshot_id) if is_block else request.snapshot_id
        token = _native_token(cancel)
        with self._recorded(), self._stages.move(self._counters):
            restored = self._session.restore(
                what, request.path, options, progress=self._counters, cancel=token
            )
        record = {
            "files": restored.file_count,
            "writtenBytes": restored.file_bytes,
            "downloadedBytes": self._counters.read()["bytes_downloaded"],
        } | _refusals(restored)
        return Result(total_bytes=restored.file_bytes, record=record | self._stages.record())

    def _restore_block(self, request: RestoreRequest, cancel: CancelToken) -> Result:
        """Restore a device: every byte of it, its real size and no padding."""
        options = repository.BlockRestoreOptions(parallelism=request.parallel or None)
        token = _native_token(cancel)
        with self._recorded(), self._stages.move(self._counters):
            restored = self._session.restore_block(
                request.snapshot_id, request.path, options, progress=self._counters, cancel=token
            )
        record = {
            "layout": BLOCK_UPLOADER,
            "writtenBytes": restored.bytes_written,
            "deallocatedBytes": restored.bytes_deallocated,
            "downloadedBytes": self._counters.read()["bytes_downloaded"],
        }
        return Result(total_bytes=restored.device_bytes, record=record | self._stages.record())

    def _refuse_block_snapshot(self, snapshot_id: str) -> None:
        """Raise before anything is written: the volume would hold one image file in place of its data."""
        if is_block_snapshot(self._session.snapshot(snapshot_id)):
            raise InvalidRequestError(
                f"snapshot {snapshot_id} is the image of a block device (data mover {BLOCK_UPLOADER}): it "
                "cannot be restored into a volume of mode Filesystem; restore it into one of mode Block"
            )

    def _only_file(self, snapshot_id: str) -> str:
        """Return the object of a block snapshot's one file; its name is of no account."""
        files = [entry for entry in self._session.entries(snapshot_id) if not entry.is_directory]
        if len(files) != 1:
            raise repository.DataMoverError(
                f"snapshot {snapshot_id} is of no block device: it holds {len(files)} files"
            )
        return files[0].object_id

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """Leave a transfer record in the log of a move that fails too; a success hands its own over."""
        try:
            yield
        except Exception:
            moved = {key: value for key, value in asdict(self.progress()).items() if value}
            record = moved | self._stages.record()
            sys.stdout.write(json.dumps({"level": "info", "msg": "transfer record", "record": record}) + "\n")
            raise

    @contextmanager
    def _expecting(self, request: BackupRequest, parents: list[Snapshot]) -> Iterator[None]:
        """Say how much will come: a device's length, the last snapshot's, else what is counted beside it."""
        counting = repository.CancelToken()
        arguments = (request.path, self._counters, counting)
        counter = threading.Thread(target=measure_tree, args=arguments, name="measure", daemon=True)
        if request.volume_mode == "Block":
            self._expected_bytes = _device_bytes(request.path)
        elif parents and not parents[0].incomplete_reason:
            self._expected_bytes = int(parents[0].summary.get("size", 0))
        else:
            counter.start()
        try:
            yield
        finally:
            counting.cancel()
            if counter.is_alive():
                counter.join(_COUNTING_SECONDS_MAX)

    def _parents(self, source: Source, request: BackupRequest) -> tuple[list[Snapshot], str]:
        """Choose the parents as asked for; without any, say why every file is read."""
        wanted = {key: request.tags[key] for key in _PARENT_TAGS if key in request.tags}
        if request.parent_snapshot == NO_PARENT:
            return [], "full backup asked for"
        if request.parent_snapshot not in ("", _AUTOMATIC_PARENT):
            return self._given_parent(request.parent_snapshot, wanted)
        parents = self._newest_of_chain(source, wanted)
        return parents, "" if parents else "no earlier snapshot of this volume"

    def _given_parent(self, snapshot_id: str, wanted: dict[str, str]) -> tuple[list[Snapshot], str]:
        """Take the snapshot that was asked for; one that is not there, or of other make, is no parent.

        As upstream does, the backup is a full one then: its data is right in any case, and the server gave
        the ID some time ago. The path may be another: a pod volume's has the pod's name in it.
        """
        try:
            parent = self._session.snapshot(snapshot_id)
        except SnapshotNotFoundError:
            return [], f"the parent snapshot asked for, {snapshot_id[:64]}, does not exist"
        if parent.incomplete_reason not in ("", *_GONE_ON_FROM):
            return [], f"the parent snapshot asked for, {snapshot_id[:64]}, is not complete"
        if wanted.items() <= dict(parent.tags).items():
            return [parent], ""
        return [], f"the parent snapshot asked for, {snapshot_id[:64]}, was made by another uploader"

    def _newest_of_chain(self, source: Source, wanted: dict[str, str]) -> list[Snapshot]:
        """Choose the newest complete snapshot of the chain, and later checkpoints of runs that died."""
        chain = self._session.snapshots(source, wanted)
        complete = [snapshot for snapshot in chain if not snapshot.incomplete_reason][-1:]
        since = complete[0].started_at if complete else None
        later = [snapshot for snapshot in chain if since is None or snapshot.started_at > since]
        unfinished = [snapshot for snapshot in later if snapshot.incomplete_reason in _GONE_ON_FROM]
        return [*complete, *unfinished[-1:]]

    def _ensure_policy(self, source: Source, parallel: int) -> None:
        """Give the source a policy that keeps everything; one that is there stays."""
        target = Target(source.username, source.hostname, source.path)
        if not self._session.policy(target):
            self._session.set_policy(target, _policy(parallel))


def _policy(parallel: int) -> dict[str, Any]:
    kept = ("keepLatest", "keepHourly", "keepDaily", "keepWeekly", "keepMonthly", "keepAnnual")
    upload: dict[str, Any] = {"parallelUploadAboveSize": _PARALLEL_ABOVE_BYTES}
    if parallel:
        upload["maxParallelFileReads"] = parallel
    return {
        "retention": dict.fromkeys(kept, _KEEP_EVERYTHING),
        "files": {},
        "errorHandling": {"ignoreUnknownTypes": True},
        "scheduling": {"manual": True},
        "compression": {"compressorName": "none"},
        "metadataCompression": {},
        "splitter": {},
        "actions": {},
        "osSnapshots": {"volumeShadowCopy": {}},
        "logging": {"directories": {}, "entries": {}},
        "upload": upload,
    }


def _device_bytes(path: str) -> int:
    """Return a device's length; 0 where it cannot be told, which the backup will."""
    try:
        with Path(path).open("rb") as device:
            return device.seek(0, os.SEEK_END)
    except OSError:
        return 0


def _native_token(cancel: CancelToken) -> repository.CancelToken:
    token = repository.CancelToken()
    cancel.on_cancel(token.cancel)
    return token


def _refusals(restored: RestoreResult) -> dict[str, Any]:
    """Say what the volume refused: bytes are all there, but owners, permissions or times are not."""
    if not restored.refused_count:
        return {}
    first = restored.refused[0].error[:_REMARK_LENGTH_MAX]
    entries = "1 entry" if restored.refused_count == 1 else f"{restored.refused_count} entries"
    remark = f"the volume refused owner, permissions or times of {entries}; first: {first}"
    return {"refused": restored.refused_count, "remark": remark}


def _refuse_failed_entries(result: BackupResult) -> None:
    if not result.failed:
        return
    lines = [
        f"Error when processing {entry.path}: {entry.error}" for entry in result.failed[:_ERRORS_SHOWN_MAX]
    ]
    more = len(result.failed) - len(lines)
    if more > 0:
        lines.append(f"and {more} more")
    raise PartialSnapshotError("\n".join(lines), result.snapshot.id if result.saved else "")


def _backup_result(
    result: BackupResult,
    parents: list[Snapshot],
    way: dict[str, Any],
    options: repository.BackupOptions,
) -> Result:
    """Say what was moved. A device has no estimated total, so upstream's difference is 0 (contract 6.3)."""
    total = int(result.snapshot.summary.get("size", 0))
    record = {
        "files": int(result.snapshot.summary.get("files", 0)),
        "scannedBytes": total,
        "readBytes": result.bytes_read,
        "uploadedBytes": result.bytes_uploaded,
        "deduplicatedBytes": result.bytes_deduplicated,
        "unchangedBytes": result.bytes_cached,
        "parents": [parent.id for parent in parents],
    }
    if result.vanished_count:
        record["vanished"] = result.vanished_count
    if result.not_utf8_count:
        record["namesNotUTF8"] = result.not_utf8_count
    if result.lost_pack_count:
        record["lostPacks"] = result.lost_pack_count
    incremental = 0 if options.block_device else max(total - result.bytes_cached, 0)
    return Result(total, result.snapshot.id, incremental, record | way)
