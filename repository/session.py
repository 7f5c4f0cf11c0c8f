"""An open repository in Python words: `with open_repository(...) as session`.

Each method is one call of the engine, or a few; no thread, no retry and no decision about formats is
here. What is deleted or set is flushed before the method returns.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from types import TracebackType
from typing import Any, Self, TypeVar

from repository import engine, requests
from repository.errors import InvalidRequestError
from repository.identity import identified
from repository.policies import Policy, Target
from repository.requests import (
    BackupOptions,
    BlockBackupOptions,
    BlockRestoreOptions,
    CreateOptions,
    OpenOptions,
    RestoreOptions,
    Source,
    Throttle,
    VerifyOptions,
    encode,
)
from repository.snapshots import (
    BackupResult,
    BlockBackupResult,
    BlockRestoreResult,
    Difference,
    Entry,
    RestoreResult,
    Snapshot,
    VerifyResult,
)
from repository.streams import ObjectFile

BUFFER_BYTES = 1 << 20
Budgeted = TypeVar(
    "Budgeted", BackupOptions, BlockBackupOptions, BlockRestoreOptions, RestoreOptions, VerifyOptions
)


def create_repository(url: str, password: str | bytes, options: CreateOptions | None = None) -> None:
    """Makes a repository at `url` (a plain path or a URL).

    Raises:
        RepositoryExistsError: A repository, or anything else, is there.
        UnsupportedFormatError: An algorithm is not known.
    """
    engine.Repository.create(url, password, encode(options or CreateOptions()))


def open_repository(url: str, password: str | bytes, options: OpenOptions | None = None) -> Session:
    """Opens the repository at `url`. User and host are this process's unless `options` says otherwise.

    Raises:
        RepositoryNotFoundError: There is none.
        InvalidPasswordError: The password does not open it.
    """
    options = identified(options or OpenOptions())
    return Session(engine.Repository.open(url, password, encode(options)), options)


class Session:
    """An open repository. May be used from several threads; a context manager that closes it."""

    def __init__(self, native: engine.Repository, options: OpenOptions) -> None:
        self._native = native
        self.options = options

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def native(self) -> engine.Repository:
        """The engine's object, for the other modules of this package."""
        return self._native

    def close(self) -> None:
        """Lets the repository go; may be called twice."""
        self._native.close()

    def status(self) -> dict[str, Any]:
        """Format and location, with the names of `kopia repository status --json`."""
        status: dict[str, Any] = json.loads(self._native.status())
        return status

    def set_throttle(self, throttle: Throttle) -> None:
        """Changes the limits, also for what is under way."""
        self._native.set_throttle(encode(throttle))

    def storage_metrics(self) -> list[dict[str, Any]]:
        """What the storage was asked for so far: requests, bytes and seconds by operation and result."""
        readings: list[dict[str, Any]] = json.loads(self._native.storage_metrics())
        return readings

    def source_of(self, path: str) -> Source:
        """The source that a backup of `path` is recorded as, by default."""
        return Source(self.options.username or "", self.options.hostname or "", path)

    def snapshots(
        self, source: Source | None = None, tags: Mapping[str, str] | None = None
    ) -> list[Snapshot]:
        """Snapshots of a source (all if `None`) with all `tags`, by start time; incomplete ones too."""
        wanted = None if source is None else encode(source)
        return [Snapshot(one) for one in json.loads(self._native.list_snapshots(wanted, dict(tags or {})))]

    def snapshot(self, snapshot_id: str) -> Snapshot:
        """One snapshot.

        Raises:
            SnapshotNotFoundError: There is none of this ID.
        """
        return Snapshot(json.loads(self._native.snapshot(snapshot_id)))

    def delete_snapshots(self, snapshot_ids: Sequence[str]) -> None:
        """Deletes snapshots: all of them or, if one is missing, none."""
        for snapshot_id in snapshot_ids:
            self._native.delete_snapshot(snapshot_id)
        self._native.flush()

    def pin_snapshot(self, snapshot_id: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> str:
        """Adds and removes pins; gives the snapshot's ID, which is a new one if anything changed."""
        changed = self._native.pin_snapshot(snapshot_id, list(add), list(remove))
        self._native.flush()
        return changed

    def save_snapshot(self, manifest: Mapping[str, Any]) -> str:
        """Saves a snapshot manifest (Kopia's document) under a new ID, which is given."""
        saved = self._native.save_snapshot(json.dumps(manifest))
        self._native.flush()
        return saved

    def expire_snapshots(self, source: Source, *, dry_run: bool = False) -> list[str]:
        """Deletes snapshots of a source that its retention policy does not keep; gives their IDs."""
        expired = self._native.expire_snapshots(encode(source), dry_run)
        if expired and not dry_run:
            self._native.flush()
        return expired

    def expired_by(self, source: Source, retention: Mapping[str, int]) -> list[str]:
        """IDs of the snapshots of a source that would expire under this retention (`keepDaily`: 7) alone.

        The session must be able to write, and is closed: the engine's own rule looks at a policy that is put
        and never flushed, so that nobody else ever sees it.
        """
        periods = ("Latest", "Hourly", "Daily", "Weekly", "Monthly", "Annual")
        rule = {f"keep{period}": retention.get(f"keep{period}", 0) for period in periods}
        target = Target(source.username, source.hostname, source.path)
        self._native.replace_manifest(target.labels(), json.dumps({"retention": rule}))
        try:
            return self._native.expire_snapshots(encode(source), True)
        finally:
            self.close()

    def retention_reasons(self, source: Source) -> dict[str, list[str]]:
        """Why each snapshot of a source is kept: `latest-1`, `daily-3`; nothing keeps what would expire."""
        return dict(self._native.retention_reasons(encode(source)))

    def backup(
        self,
        path: str | PathLike[str],
        options: BackupOptions | None = None,
        *,
        progress: engine.Progress | None = None,
        cancel: engine.CancelToken | None = None,
        ahead: engine.Ahead | None = None,
    ) -> BackupResult:
        """Backs up the directory, file, block device or stream, and saves its snapshot.

        Nothing is visible to others before it is complete and durable. Entries that cannot be read are told
        in the result. After `cancel` the snapshot is saved as incomplete and the next backup goes on from it.
        `ahead` has looked at the same `path` meanwhile.

        Raises:
            FilesystemError: The source itself cannot be read.
            StorageError: The storage kept failing; `.temporary` says whether to try later.
        """
        options = self._within_budget(options or BackupOptions(), requests.upload_buffers_bytes)
        progress, cancel = progress or engine.Progress(), cancel or engine.CancelToken()
        request = _upload_request(options)
        return BackupResult.of(json.loads(self._native.upload(path, request, progress, cancel, ahead)))

    def backup_block(
        self,
        path: str | PathLike[str],
        options: BlockBackupOptions,
        *,
        changed: engine.ChangedBlocks | None = None,
        progress: engine.Progress | None = None,
        cancel: engine.CancelToken | None = None,
    ) -> BlockBackupResult:
        """Backs up a block device, or an image file, in the layout of Velero's block uploader, and flushes.

        `changed` says what to read: with a parent what changed since it, without what is allocated (the rest
        is zero); `None` is everything. After `cancel`, or a failure, no snapshot is saved.

        Raises:
            CanceledError: `cancel` was set.
            FilesystemError: The device cannot be read.
            StorageError: The storage kept failing; `.temporary` says whether to try later.
        """
        options = self._within_budget(options, requests.upload_buffers_bytes)
        progress, cancel = progress or engine.Progress(), cancel or engine.CancelToken()
        document = self._native.upload_block(path, encode(options), changed, progress, cancel)
        return BlockBackupResult.of(json.loads(document))

    def restore_block(
        self,
        snapshot_id: str,
        target: str | PathLike[str],
        options: BlockRestoreOptions | None = None,
        *,
        progress: engine.Progress | None = None,
        cancel: engine.CancelToken | None = None,
    ) -> BlockRestoreResult:
        """Restores the device of a snapshot to a block device or image file: every byte, then synced.

        Nothing is written before all sizes and pieces were found to be right.

        Raises:
            CanceledError: `cancel` was set.
            NoSpaceError: The device is too small.
            CorruptedError: Stored bytes, or sizes, are not what they should be.
        """
        options = self._within_budget(options or BlockRestoreOptions(), requests.restore_buffers_bytes)
        progress, cancel = progress or engine.Progress(), cancel or engine.CancelToken()
        document = self._native.restore_block(snapshot_id, target, encode(options), progress, cancel)
        return BlockRestoreResult.of(json.loads(document))

    def restore(
        self,
        what: str,
        target: str | PathLike[str],
        options: RestoreOptions | None = None,
        *,
        progress: engine.Progress | None = None,
        cancel: engine.CancelToken | None = None,
    ) -> RestoreResult:
        """Restores `ID`, or `ID/SUB/PATH`, to `target`; nothing outside of it is ever written.

        A file that fails is removed, never left with wrong bytes. After `cancel` the same call with
        `overwrite="skip"` goes on with what is missing.

        Raises:
            CanceledError: `cancel` was set.
            CorruptedError: Stored bytes are not what they should be (unless errors are ignored).
        """
        options = self._within_budget(options or RestoreOptions(), requests.restore_buffers_bytes)
        progress, cancel = progress or engine.Progress(), cancel or engine.CancelToken()
        return RestoreResult.of(
            json.loads(self._native.restore(what, target, encode(options), progress, cancel))
        )

    def verify(
        self,
        options: VerifyOptions | None = None,
        *,
        progress: engine.Progress | None = None,
        cancel: engine.CancelToken | None = None,
    ) -> VerifyResult:
        """Checks that snapshots can be read back whole. Damage is in the result, never raised.

        Raises:
            CanceledError: `cancel` was set.
            SnapshotNotFoundError: One of the snapshots is not there.
        """
        options = self._within_budget(options or VerifyOptions(), requests.restore_buffers_bytes)
        progress, cancel = progress or engine.Progress(), cancel or engine.CancelToken()
        return VerifyResult.of(json.loads(self._native.verify(encode(options), progress, cancel)))

    def _within_budget(
        self, options: Budgeted, buffers_bytes: Callable[[int | None], int | None]
    ) -> Budgeted:
        """The options with this session's share of buffers, unless they say how much."""
        if options.memory_budget_bytes is not None:
            return options
        return replace(options, memory_budget_bytes=buffers_bytes(self.options.memory_limit_bytes))

    def entry(self, path: str) -> Entry:
        """The entry that `ID/SUB/PATH` names; `ID` is a snapshot or an object.

        Raises:
            SnapshotNotFoundError: There is no such snapshot.
            ObjectNotFoundError: There is no such path in it.
        """
        return Entry("", json.loads(self._native.entry(path)))

    def entries(self, path: str) -> Iterator[Entry]:
        """What is in the directory at `ID/SUB/PATH`, directories first; of a file the file itself."""
        entry = self.entry(path)
        if not entry.is_directory:
            yield Entry(entry.name, entry.document)
            return
        for document in _documents(self._native.list_directory(entry.object_id)):
            yield Entry(document.get("name", ""), document)

    def walk(self, path: str) -> Iterator[Entry]:
        """Everything at `ID/SUB/PATH` and below, parents first; the path of the first is empty."""
        for found in _documents(self._native.walk(path)):
            yield Entry(found["path"], found["entry"])

    def diff(self, before: str, after: str) -> Iterator[Difference]:
        """What is not the same in the trees at `ID/SUB/PATH` and another."""
        return map(Difference.of, _documents(self._native.diff(before, after)))

    def open_file(self, path: str) -> io.BufferedReader:
        """The bytes of the file at `ID/SUB/PATH` as a seekable stream.

        Raises:
            InvalidRequestError: It is a directory.
        """
        entry = self.entry(path)
        if entry.is_directory:
            raise InvalidRequestError(f"{path} is a directory")
        return self.open_object(entry.object_id)

    def open_object(self, object_id: str) -> io.BufferedReader:
        """The bytes of an object as a seekable stream."""
        return io.BufferedReader(ObjectFile(self._native.open_object(object_id)), BUFFER_BYTES)

    def policies(self) -> list[Policy]:
        """All policies that are defined."""
        found = json.loads(self._native.find_manifests({"type": "policy"}))
        return [Policy.of(one, json.loads(self._native.manifest(one["id"]))) for one in found]

    def policy(self, target: Target) -> dict[str, Any]:
        """The policy that is defined for exactly this target; empty if there is none."""
        found = json.loads(self._native.find_manifests(target.labels()))
        exact = [one for one in found if one["labels"] == target.labels()]
        return dict(json.loads(self._native.manifest(exact[-1]["id"]))) if exact else {}

    def effective_policy(self, target: Target) -> dict[str, Any]:
        """What is in force for a target: its policy merged with those above it and the defaults."""
        source = Source(target.username, target.hostname, target.path)
        policy: dict[str, Any] = json.loads(self._native.effective_policy(encode(source)))
        return policy

    def set_policy(self, target: Target, document: Mapping[str, Any], *, check: bool = True) -> None:
        """Defines the policy of this target, in place of an earlier one; without `check` whatever it says.

        Raises:
            InvalidRequestError: No backup could obey it: a name or an ignore rule that does not exist.
        """
        if check:
            engine.check_policy(json.dumps(document))
        self._native.replace_manifest(target.labels(), json.dumps(document))
        self._native.flush()

    def delete_policy(self, target: Target) -> None:
        """Deletes the policy that is defined for exactly this target; nothing happens if there is none."""
        found = json.loads(self._native.find_manifests(target.labels()))
        for one in found:
            if one["labels"] == target.labels():
                self._native.delete_manifest(one["id"])
        self._native.flush()

    def contents(self, prefix: str = "", *, include_deleted: bool = False) -> Iterator[dict[str, Any]]:
        """Contents by their IDs, as `kopia content list --json` names them."""
        return _documents(self._native.list_contents(prefix, include_deleted))

    def content_info(self, content_id: str) -> dict[str, Any]:
        """Where a content is and how it is stored."""
        info: dict[str, Any] = json.loads(self._native.content_info(content_id))
        return info

    def content(self, content_id: str) -> bytes:
        """The plain bytes of a content."""
        return self._native.content(content_id)

    def blobs(self, prefix: str = "") -> Iterator[dict[str, Any]]:
        """Blobs of the storage, as `kopia blob list --json` names them."""
        return _documents(self._native.list_blobs(prefix))

    def index_entries(self, blob_id: str) -> Iterator[dict[str, Any]]:
        """The entries of one index blob."""
        return _documents(self._native.index_entries(blob_id))

    def blob(self, blob_id: str) -> bytes:
        """The bytes of a blob, as stored."""
        return self._native.blob(blob_id)


def _upload_request(options: BackupOptions) -> str:
    return encode(options)


def _documents(batches: engine.Batches) -> Iterator[dict[str, Any]]:
    try:
        for batch in batches:
            yield from map(json.loads, batch)
    finally:
        batches.close()
