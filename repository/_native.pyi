"""The contract of the extension: the engine as Python sees it.

Structured requests and results cross as JSON texts; their shapes are `native/src/requests.rs` and
`native/src/documents.rs`, their Python side `repository/requests.py` and `repository/snapshots.py`.
Every call that may block lets the GIL go; objects may be used from several threads. Rust calls no
Python. Every call may raise what `repository.errors` draws.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Final, Self, final

from typing_extensions import Buffer

__all__ = [
    "BUILD_PROFILE",
    "Ahead",
    "Batches",
    "CancelToken",
    "ChangedBlocks",
    "File",
    "ObjectStore",
    "Progress",
    "Repository",
    "__version__",
    "ask_changed_blocks",
    "change_password",
    "check_policy",
    "copy_snapshots",
    "drain_events",
    "error_kinds",
    "health",
    "maintain",
    "maintenance_info",
    "measure_tree",
    "repair",
    "roll_back_upgrade",
    "set_maintenance_owner",
    "set_parameters",
    "sync_to",
    "upgrade",
    "validate_upgrade",
    "verify_repository",
]

__version__: Final[str]
"""Version of the engine; the same as of this package."""

BUILD_PROFILE: Final[str]
"""`release` or `debug`; a debug build warns when it is imported."""

def error_kinds() -> list[tuple[str, str]]:
    """Every kind of error of the engine, with the name of its class in `repository.errors`."""

def drain_events() -> list[tuple[str, str]]:
    """What the engine told since the last call: level (`error`, `warning`, `info`) and text.

    At most the newest 4096 are kept.
    """

def copy_snapshots(
    source: Repository, target: Repository, request: str, progress: Progress, cancel: CancelToken
) -> str:
    """Copies snapshots that `target` lacks; `request` is a `SnapshotCopyOptions`: a `SnapshotCopyReport`."""

def maintain(repository: Repository, request: str, progress: Progress, cancel: CancelToken) -> str:
    """Runs a maintenance cycle; `request` is a `MaintainOptions`, the answer a `MaintenanceReport`."""

def maintenance_info(repository: Repository) -> str:
    """Owner, schedule and run history."""

def set_maintenance_owner(repository: Repository, owner: str) -> None:
    """Makes `user@host` the one who maintains, and flushes."""

def health(repository: Repository) -> str:
    """Sizes by kind, indexes, what is not freed yet, and complaints."""

def change_password(url: str, old: str | bytes, new: str | bytes, request: str) -> str:
    """Seals the format blobs under the new password; goes on with a change that was cut off."""

def set_parameters(url: str, password: str | bytes, request: str, changes: str) -> str:
    """Changes what may change while a repository lives: a `ParameterReport`."""

def upgrade(url: str, password: str | bytes, request: str, upgrade: str) -> str:
    """Takes an upgrade to format 3 as far as it goes now: an `UpgradeState`. Call again while it drains."""

def roll_back_upgrade(url: str, password: str | bytes, request: str, owner_id: str, force: bool) -> None:
    """Ends an upgrade that is not committed; the repository is as it was."""

def validate_upgrade(url: str, password: str | bytes, request: str) -> int:
    """Compares the indexes of before an upgrade with those of after it; the number of entries."""

def ask_changed_blocks(request: str, blocks: ChangedBlocks, cancel: CancelToken) -> str:
    """Marks what a service tells; `request` is a `ChangedBlocksQuery`, the answer `ranges` and `resumed`."""

def check_policy(document: str) -> None:
    """Refuses a policy that no upload could obey: names and ignore rules that do not exist."""

def measure_tree(path: str | bytes | PathLike[str], progress: Progress, cancel: CancelToken) -> None:
    """Counts the files below a directory and their bytes into `files_total` and `bytes_total`.

    An estimate for a display, made beside a first upload. What cannot be read is left out; canceled before
    its end it tells nothing.
    """

def repair(url: str, password: str | bytes, request: str, progress: Progress, cancel: CancelToken) -> str:
    """Looks for damage and, unless it is a dry run, repairs it: whether all was sound; `RepairReport`."""

def sync_to(url: str, target: str, request: str, progress: Progress, cancel: CancelToken) -> str:
    """Copies the blobs of a repository that `target` lacks: a `SyncToReport`."""

def verify_repository(repository: Repository, request: str, progress: Progress, cancel: CancelToken) -> str:
    """Checks every index entry against its pack and reads packs back, the longest unread first.

    Damage is told in the result, and so is a cancellation.
    """

@final
class Progress:
    """Counters of one piece of work; read them at any time, from any thread. They only grow."""

    def __new__(cls) -> Self: ...
    def read(self) -> dict[str, int]:
        """All counters by name.

        `files_scanned`, `bytes_scanned` (seen), `files_done`, `files_cached`, `bytes_cached` (taken from the
        parent), `bytes_read`, `bytes_hashed`, `bytes_deduplicated`, `bytes_uploaded`, `bytes_downloaded`,
        `bytes_written`, `directories_done`, `entries_failed`, `entries_ignored`, `files_total`, `bytes_total`
        (0 while not known). Times of all workers together: `nanoseconds_scanning`, `nanoseconds_reading`,
        `nanoseconds_hashing`, `nanoseconds_storing`; and of the end of an upload, `nanoseconds_flushing`.
        """

@final
class CancelToken:
    """By which one thread ends the work of another."""

    def __new__(cls) -> Self: ...
    def cancel(self) -> None:
        """Asks for the end; the work ends soon, in good order."""

    @property
    def is_canceled(self) -> bool:
        """Whether the end was asked for."""

@final
class Ahead:
    """Looks at the directory at a path in a thread of its own, while its repository is being opened.

    What it has seen (at most 3 MiB of it) spares an `upload` of the same path system calls; the upload ends
    it. What has changed since is looked at again, and the snapshot counts from the beginning of the look.
    """

    def __new__(cls, path: str | bytes | PathLike[str]) -> Self: ...

@final
class Batches:
    """A long listing: an iterator of lists of JSON texts, read ahead by a thread, never held whole."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> list[str]: ...
    def close(self) -> None:
        """Ends the listing. May be called twice."""

@final
class ChangedBlocks:
    """Which pieces (1 MiB) of a device may have changed: one bit each."""

    def __new__(cls, device_bytes: int) -> Self: ...
    def mark(self, offset: int, length: int) -> None:
        """Marks every piece that a range touches; what lies beyond the device is left out."""

    @property
    def count(self) -> int:
        """Marked pieces."""

@final
class File:
    """The bytes of an object, seekable. Holds one chunk of it."""

    @property
    def length(self) -> int:
        """Length in bytes."""

    def readinto(self, buffer: Buffer) -> int:
        """Fills the beginning of `buffer`, without another copy; the number of bytes, 0 at the end."""

    def seek(self, offset: int, whence: int) -> int:
        """Moves as `io.IOBase.seek`; the new position."""

    def close(self) -> None:
        """Lets the object go. May be called twice."""

@final
class ObjectStore:
    """Objects of a bucket, or of a directory with its copy, that are no blobs of a repository. Only reads."""

    @staticmethod
    def open(url: str, request: str) -> ObjectStore:
        """Connects; `request` is a `ConnectionRequest`, of which caches count for nothing here."""

    def read(self, key: str, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`, fewer where the object ends; it must be there."""

    def list_folder(self, prefix: str) -> Batches:
        """`id`, `length`, `timestamp` of what is right below `prefix`; folders' names end in `/`."""

    def describe(self) -> str:
        """Where it is: a URL without secrets."""

    def storage_metrics(self) -> str:
        """What the storage was asked for so far: an array, one object for each operation and result."""

@final
class Repository:
    """An open repository. What is put is pending, and invisible to others, until it is flushed."""

    @staticmethod
    def create(url: str, password: str | bytes, request: str) -> None:
        """Makes a repository; `request` is a `CreateRequest`."""

    @staticmethod
    def open(url: str, password: str | bytes, request: str) -> Repository:
        """Opens a repository; `request` is an `OpenRequest`. Derives the key: some 64 MiB for a moment.

        What is read later is authenticated, and with `check_hashes` also hashed.
        """

    def close(self) -> None:
        """Lets the repository go; what was not flushed is lost. May be called twice."""

    def set_throttle(self, request: str) -> None:
        """Changes limits, also for what waits at this moment; `request` is a `ThrottleRequest`."""

    def storage_metrics(self) -> str:
        """What the storage was asked for so far: an array, one object for each operation and result."""

    def status(self) -> str:
        """Format and location, as `kopia repository status --json` names it."""

    def flush(self) -> None:
        """Makes everything that was put durable and visible."""

    def refresh(self) -> None:
        """Reads indexes again: what others wrote becomes visible."""

    def list_snapshots(self, source: str | None, tags: Mapping[str, str]) -> str:
        """Snapshots of a `SourceRequest` (or all) with all these labels, by start time: an array."""

    def snapshot(self, snapshot_id: str) -> str:
        """The manifest of a snapshot."""

    def delete_snapshot(self, snapshot_id: str) -> None:
        """Deletes a manifest; data goes with maintenance. Pending until flush."""

    def pin_snapshot(self, snapshot_id: str, add: Sequence[str], remove: Sequence[str]) -> str:
        """Adds and removes pins; the snapshot's new ID. Pending until flush."""

    def tag_snapshot(self, snapshot_id: str, changes: Sequence[tuple[str, str | None]]) -> str:
        """Sets tags, or removes those with `None`; the snapshot's new ID. Pending until flush."""

    def save_snapshot(self, manifest: str) -> str:
        """Saves a snapshot manifest under a new ID, which is given. Pending until flush."""

    def expire_snapshots(self, source: str, dry_run: bool) -> list[str]:
        """Deletes what the policy of a `SourceRequest` does not keep; the IDs. Pending until flush."""

    def retention_reasons(self, source: str) -> list[tuple[str, list[str]]]:
        """IDs of the snapshots of a `SourceRequest`, and why each is kept (`daily-3`, `incomplete`)."""

    def effective_policy(self, source: str) -> str:
        """The policy in force for a `SourceRequest`; its parts may be empty."""

    def find_manifests(self, labels: Mapping[str, str]) -> str:
        """ID, labels, `mtime` and length of manifests with all `labels`, oldest first: an array."""

    def manifest(self, manifest_id: str) -> str:
        """The payload of a manifest, as stored."""

    def replace_manifest(self, labels: Mapping[str, str], payload: str) -> str:
        """Puts a manifest and deletes all others with these labels; its ID. Pending until flush."""

    def delete_manifest(self, manifest_id: str) -> None:
        """Deletes a manifest. Pending until flush."""

    def upload(
        self,
        path: str | bytes | PathLike[str],
        request: str,
        progress: Progress,
        cancel: CancelToken,
        ahead: Ahead | None = None,
    ) -> str:
        """Backs up what is at `path`, saves the snapshot and flushes; `request` is an `UploadRequest`.

        Entries that cannot be read do not fail it; they are told. After `cancel` the snapshot is saved as
        incomplete, and the next upload goes on from it.
        """

    def upload_block(
        self,
        path: str | bytes | PathLike[str],
        request: str,
        changed: ChangedBlocks | None,
        progress: Progress,
        cancel: CancelToken,
    ) -> str:
        """Backs a device up in Velero's block layout; `request` is a `BlockBackupRequest`.

        With a parent, `changed` says what changed since; without, what is allocated; `None`: all is read.
        """

    def restore_block(
        self,
        snapshot_id: str,
        target: str | bytes | PathLike[str],
        request: str,
        progress: Progress,
        cancel: CancelToken,
    ) -> str:
        """Restores the device of a snapshot, every byte of it; `request` is a `BlockRestoreRequest`."""

    def entry(self, path: str) -> str:
        """The entry that `ID/SUB/PATH` names; `ID` is a snapshot or an object."""

    def list_directory(self, object_id: str) -> Batches:
        """The entries of a directory, in stored order."""

    def walk(self, path: str) -> Batches:
        """`path` and `entry` of everything at `ID/SUB/PATH` and below, parents before their children."""

    def diff(self, before: str, after: str) -> Batches:
        """`path`, `change` (`added`, `removed`, `modified`), `before` and `after` of what differs."""

    def restore(
        self,
        what: str,
        target: str | bytes | PathLike[str],
        request: str,
        progress: Progress,
        cancel: CancelToken,
    ) -> str:
        """Restores `ID/SUB/PATH`; `request` is a `RestoreRequest`. Nothing outside of `target` is written."""

    def verify(self, request: str, progress: Progress, cancel: CancelToken) -> str:
        """Reads snapshots back; `request` is a `VerifyRequest`. Damage is told in the result."""

    def open_object(self, object_id: str) -> File:
        """Opens an object for reading."""

    def list_contents(self, prefix: str, include_deleted: bool) -> Batches:
        """Contents of one prefix (all if empty), in order of their IDs."""

    def content_info(self, content_id: str) -> str:
        """Where a content is and how it is stored."""

    def content(self, content_id: str) -> bytes:
        """The plain bytes of a content, hashed and compared with its ID in any case."""

    def list_blobs(self, prefix: str) -> Batches:
        """Blobs of the storage whose names begin with `prefix`, in no promised order."""

    def index_entries(self, blob_id: str) -> Batches:
        """The entries of an index blob, in order."""

    def blob(self, blob_id: str) -> bytes:
        """The bytes of a blob, as stored."""
