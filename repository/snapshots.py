"""Snapshots and their entries as frozen values, read from the documents that the engine gives.

The documents themselves, with Kopia's field names, stay at hand in `document`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from repository.requests import Source

Document = Mapping[str, Any]
MICROSECOND_DIGITS = 6


def parse_time(text: str) -> datetime:
    """An RFC 3339 time of a manifest, in UTC; digits below a microsecond are dropped."""
    whole, dot, fraction = text.removesuffix("Z").partition(".")
    if dot:
        whole = f"{whole}.{fraction[:MICROSECOND_DIGITS]:0<{MICROSECOND_DIGITS}}"
    return datetime.fromisoformat(whole).replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a snapshot's tree. `path` is relative to where the walk began, empty for that itself."""

    path: str
    document: Document

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.document.get("name", ""))

    @property
    def type(self) -> str:
        """`f` file, `d` directory, `s` symbolic link."""
        return str(self.document.get("type", ""))

    @property
    def is_directory(self) -> bool:
        """Whether it has entries."""
        return self.type == "d"

    @property
    def mode(self) -> int:
        """Permission bits, with Go's places of setuid, setgid and sticky."""
        return int(str(self.document.get("mode", "0")), 8)

    @property
    def size_bytes(self) -> int:
        """Length of a file or of a link's target; of a directory everything below."""
        summary = self.document.get("summ") or {}
        return int(self.document.get("size", summary.get("size", 0)))

    @property
    def modified_at(self) -> datetime:
        """Time of its last change."""
        return parse_time(str(self.document.get("mtime", "1970-01-01T00:00:00Z")))

    @property
    def owner(self) -> tuple[int, int]:
        """User and group."""
        return int(self.document.get("uid", 0)), int(self.document.get("gid", 0))

    @property
    def object_id(self) -> str:
        """The object that holds it."""
        return str(self.document.get("obj", ""))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot manifest."""

    document: Document

    @property
    def id(self) -> str:
        """ID of the manifest."""
        return str(self.document["id"])

    @property
    def source(self) -> Source:
        """What it is of."""
        source = self.document["source"]
        return Source(source["userName"], source["host"], source["path"])

    @property
    def started_at(self) -> datetime:
        """Start of the backup."""
        return parse_time(self.document["startTime"])

    @property
    def ended_at(self) -> datetime:
        """End of the backup."""
        return parse_time(self.document["endTime"])

    @property
    def incomplete_reason(self) -> str:
        """Empty if it is complete, else `checkpoint`, `canceled` and the like."""
        return str(self.document.get("incomplete", ""))

    @property
    def root(self) -> Entry:
        """Its root entry; of an empty document for a manifest without one."""
        return Entry("", self.document.get("rootEntry") or {})

    @property
    def summary(self) -> Document:
        """Totals of the tree: `size`, `files`, `symlinks`, `dirs`, `numFailed`, `errors`."""
        summary: Document = self.root.document.get("summ") or {}
        return summary

    @property
    def stats(self) -> Document:
        """Statistics of the upload: `fileCount`, `cachedFiles`, `errorCount` and others."""
        stats: Document = self.document.get("stats") or {}
        return stats

    @property
    def tags(self) -> Mapping[str, str]:
        """Tags, with their `tag:` as Kopia's command line writes them."""
        return self.document.get("tags") or {}

    @property
    def pins(self) -> tuple[str, ...]:
        """Pins: with one it never expires."""
        return tuple(self.document.get("pins") or ())

    @property
    def description(self) -> str:
        """What the user said of it."""
        return str(self.document.get("description", ""))


@dataclass(frozen=True, slots=True)
class FailedEntry:
    """An entry that failed, why, and the name of the class in `repository.errors` ."""

    path: str
    error: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """An entry that is not the same in two trees: `added`, `removed` or `modified`."""

    path: str
    change: str
    before: Entry | None
    after: Entry | None

    @classmethod
    def of(cls, document: Document) -> Difference:
        """From the engine's document."""
        path = document["path"]
        sides = [document["before"], document["after"]]
        before, after = (None if side is None else Entry(path, side) for side in sides)
        return cls(path, document["change"], before, after)


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What a restore came to; of the failed entries the first thousand are named.

    `storage_bytes` were read for file data, `needed_bytes` of them were wanted. `refused_count` entries are
    there, but the system refused to set their owner, permissions or times; the first of them are named.
    """

    file_count: int
    directory_count: int
    symlink_count: int
    skipped_count: int
    deleted_count: int
    file_bytes: int
    storage_requests: int
    storage_bytes: int
    needed_bytes: int
    failed_count: int
    failures: tuple[FailedEntry, ...]
    refused_count: int
    refused: tuple[FailedEntry, ...]

    @classmethod
    def of(cls, document: Document) -> RestoreResult:
        """From the engine's document."""
        named = {
            name: tuple(FailedEntry(**one) for one in document[name]) for name in ("failures", "refused")
        }
        return cls(**{**document, **named})


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that cannot be read back. `snapshot` may be empty; `context` names content and blob."""

    snapshot: str
    path: str
    error: str
    kind: str
    context: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What a verification came to; of the damages the first are named."""

    file_count: int
    directory_count: int
    content_count: int
    read_count: int
    read_bytes: int
    damage_count: int
    damages: tuple[Damage, ...]

    @classmethod
    def of(cls, document: Document) -> VerifyResult:
        """From the engine's document."""
        damages = tuple(Damage(**{**one, "snapshot": one["snapshot"] or ""}) for one in document["damages"])
        return cls(**{**document, "damages": damages})


@dataclass(frozen=True, slots=True)
class BackupResult:
    """What a backup came to. `saved` is false if nothing changed and the policy wants no such snapshots.

    `vanished_count` entries were listed and deleted before their turn came; they were passed over.
    `not_utf8_count` names are not UTF-8: the format cannot hold them, and they come back changed.
    `lost_pack_count` packs are gone, if it was looked; what this backup read of them is stored again.
    """

    snapshot: Snapshot
    saved: bool
    parents: tuple[str, ...]
    failed: tuple[FailedEntry, ...]
    vanished_count: int
    not_utf8_count: int
    lost_pack_count: int
    files_cached: int
    bytes_cached: int
    bytes_read: int
    bytes_uploaded: int
    bytes_deduplicated: int

    @classmethod
    def of(cls, document: Document) -> BackupResult:
        """From the engine's document."""
        counters = (
            *("vanished_count", "not_utf8_count", "lost_pack_count", "files_cached", "bytes_cached"),
            *("bytes_read", "bytes_uploaded", "bytes_deduplicated"),
        )
        return cls(
            Snapshot(document["snapshot"]),
            document["saved"],
            tuple(document["parents"]),
            tuple(FailedEntry(one["path"], one["error"]) for one in document["errors"]),
            **{name: document[name] for name in counters},
        )


@dataclass(frozen=True, slots=True)
class BlockBackupResult:
    """What the backup of a device came to, in bytes of the device but for `bytes_uploaded`.

    `incremental_bytes` differ from the parent (without one: from a device of zeroes). `parent_refused` says
    why a parent that was asked for was not used; `lost_pieces` of it were missing in the repository and were
    read again.
    """

    snapshot: Snapshot
    device_bytes: int
    incremental_bytes: int
    bytes_read: int
    bytes_unread: int
    bytes_zero: int
    bytes_uploaded: int
    bytes_deduplicated: int
    lost_pieces: int
    parent: str
    parent_refused: str

    @classmethod
    def of(cls, document: Document) -> BlockBackupResult:
        """From the engine's document."""
        return cls(**{**document, "snapshot": Snapshot(document["snapshot"])})


@dataclass(frozen=True, slots=True)
class BlockRestoreResult:
    """What the restore of a device did; `bytes_deallocated` were zeroed without writing."""

    device_bytes: int
    bytes_written: int
    bytes_deallocated: int
    storage_bytes: int

    @classmethod
    def of(cls, document: Document) -> BlockRestoreResult:
        """From the engine's document."""
        return cls(**document)
