"""What a backup in Velero's block layout goes on from, and what its record says. Pure.

Upstream drops a parent without a change ID; ours still compares with it: pieces that are equal are not stored
again, changed-block tracking or not (Velero `pkg/uploader/block/snapshot.go`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from repository.block_image import BLOCK_UPLOADER, UPLOADER_TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mover.protocol import BackupRequest
    from repository.snapshots import BlockBackupResult, Snapshot

DESCRIPTION = "Block Uploader"
CHANGE_TAG, VOLUME_TAG = "cbt-change-id", "cbt-volume-id"
NO_PARENT, AUTOMATIC_PARENT = "none", "auto"
_FALLBACK_LENGTH_MAX = 300  # a termination message has 4096 bytes for all
_CHAIN_TAGS = ("snapshot-requester", UPLOADER_TAG)


@dataclass(frozen=True, slots=True)
class ChosenParent:
    """The snapshot to go on from, if any; else why the backup is a full one."""

    snapshot: Snapshot | None
    full_because: str = ""

    def change_id(self, request: BackupRequest) -> str:
        """What a changed-block service can be asked since; empty if the parent is of another volume."""
        if self.snapshot is None:
            return ""
        tags, volume = self.snapshot.tags, request.tags.get(VOLUME_TAG, "")
        return tags.get(CHANGE_TAG, "") if volume and tags.get(VOLUME_TAG) == volume else ""


def is_block_layout(request: BackupRequest) -> bool:
    """Whether the backup is to be written as Velero's block mover writes it."""
    return request.tags.get(UPLOADER_TAG) == BLOCK_UPLOADER


def choose_parent(chain: Sequence[Snapshot], request: BackupRequest) -> ChosenParent:
    """Choose among the snapshots of the source path, given by start time, as the request asks.

    A parent that was asked for and is not there makes a full backup, as upstream's does.
    """
    if request.parent_snapshot == NO_PARENT:
        return ChosenParent(None, "full backup asked for")
    wanted = {key: request.tags.get(key, "") for key in _CHAIN_TAGS}
    usable = [one for one in chain if not one.incomplete_reason and wanted.items() <= dict(one.tags).items()]
    if request.parent_snapshot not in ("", AUTOMATIC_PARENT):
        named = [one for one in usable if one.id == request.parent_snapshot]
        why = f"the parent snapshot asked for, {request.parent_snapshot[:64]}, is none of this volume's"
        return ChosenParent(named[0]) if named else ChosenParent(None, why)
    if not usable:
        return ChosenParent(None, "no earlier snapshot of this volume")
    same = [one for one in usable if one.tags.get(VOLUME_TAG) == request.tags.get(VOLUME_TAG, "")]
    return ChosenParent((same or usable)[-1])


def block_record(
    result: BlockBackupResult, parent: ChosenParent, tracking: str, fallbacks: Sequence[str]
) -> dict[str, Any]:
    """Say what was moved, how its reading was decided, and every fallback."""
    lost = (
        [f"{result.lost_pieces} pieces of the parent are lost and were read again"]
        if result.lost_pieces
        else []
    )
    refused = [result.parent_refused] if result.parent_refused else []
    return {
        "layout": BLOCK_UPLOADER,
        "scannedBytes": result.device_bytes,
        "readBytes": result.bytes_read,
        "unreadBytes": result.bytes_unread,
        "zeroBytes": result.bytes_zero,
        "uploadedBytes": result.bytes_uploaded,
        "deduplicatedBytes": result.bytes_deduplicated,
        "parents": [result.parent] if result.parent else [],
        "fullBecause": parent.full_because or result.parent_refused or _dropped(result, fallbacks),
        "changedBlocks": tracking,
        "fallbacks": [text[:_FALLBACK_LENGTH_MAX] for text in (*fallbacks, *refused, *lost)],
    }


def _dropped(result: BlockBackupResult, fallbacks: Sequence[str]) -> str:
    return fallbacks[0][:_FALLBACK_LENGTH_MAX] if fallbacks and not result.parent else ""
