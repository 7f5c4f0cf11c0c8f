"""Snapshots that Velero's block mover made: one file, the image of a device, padded to whole pieces.

Their tags are Velero's (`pkg/uploader/block`): who made it, and the device's real size, since the file in the
snapshot is as long as the next multiple of 1 MiB.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from repository.errors import CorruptedError, SnapshotNotFoundError

if TYPE_CHECKING:
    from repository.session import Session
    from repository.snapshots import Snapshot

UPLOADER_TAG, BLOCK_UPLOADER = "snapshot-uploader", "velero-block"
SIZE_TAG = "bdev-source-size"


@dataclass(frozen=True, slots=True)
class BlockImage:
    """The one file of such a snapshot, and how many bytes of it are the device's."""

    name: str
    size_bytes: int


def is_block_snapshot(snapshot: Snapshot) -> bool:
    """Whether Velero's block mover made it."""
    return snapshot.tags.get(UPLOADER_TAG) == BLOCK_UPLOADER


def find_block_image(session: Session, what: str) -> BlockImage | None:
    """Return the image that `ID` or `ID/NAME` is; `None` if it is anything else.

    Raises:
        CorruptedError: the snapshot holds no single file, or its tags claim more bytes than that has.
    """
    snapshot_id = what.split("/", 1)[0]
    try:
        snapshot = session.snapshot(snapshot_id)
    except SnapshotNotFoundError:
        return None  # an object, or nothing: what restores it will say so
    if not is_block_snapshot(snapshot):
        return None
    entries = list(session.entries(snapshot_id))
    if len(entries) != 1 or entries[0].is_directory:
        raise CorruptedError(f"block snapshot {snapshot_id} holds {len(entries)} entries instead of one file")
    stored = entries[0].size_bytes
    return BlockImage(entries[0].name, _device_bytes(snapshot, stored))


def _device_bytes(snapshot: Snapshot, stored_bytes: int) -> int:
    text = snapshot.tags.get(SIZE_TAG, "")
    if not text:
        return stored_bytes
    size = int(text) if text.isascii() and text.isdigit() and len(text) < len(str(1 << 64)) else -1
    if not 0 <= size <= stored_bytes:
        message = f"block snapshot {snapshot.id}: tag {SIZE_TAG} is {text[:64]!r}, not {stored_bytes} or less"
        raise CorruptedError(message)
    return size


def cut_to_device_size(path: Path, image: BlockImage) -> None:
    """Take the padding off a restored image; what is no regular file, or shorter already, is left."""
    if path.is_file() and not path.is_symlink() and path.stat().st_size > image.size_bytes:
        os.truncate(path, image.size_bytes)
