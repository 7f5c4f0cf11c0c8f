"""The truth about the data: disks, storage snapshots, volumes of pods and the repository are bytes (here: words).

Kubernetes' objects only name them. Whatever deletes or writes goes through here, so that every loss is seen in
the moment in which it happens (`watch_losses`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class NoDataError(Exception):
    """What should be read or written is not there."""


@dataclass(slots=True)
class Disk:
    """A volume of the storage system. `owner` says whose it is: `source`, `foreign` or `made` (by the driver)."""

    handle: str
    data: str
    owner: str = "made"
    writes: int = 0


@dataclass(slots=True)
class StorageSnapshot:
    """The bytes of a disk at a moment."""

    handle: str
    data: str


class Storage:
    """All bytes there are."""

    def __init__(self) -> None:
        self.disks: dict[str, Disk] = {}
        self.snapshots: dict[str, StorageSnapshot] = {}
        self.pod_volumes: dict[tuple[str, str], str] = {}
        self.repository: dict[str, str] = {}
        self.done_files: dict[tuple[str, str], set[str]] = {}
        self.on_snapshot_deleted: Callable[[StorageSnapshot], None] = lambda _: None
        self.on_disk_deleted: Callable[[Disk], None] = lambda _: None
        self.on_disk_written: Callable[[Disk, str], None] = lambda _disk, _before: None
        self._saved = 0

    def disk(self, handle: str) -> Disk:
        """A disk that is there."""
        if handle not in self.disks:
            raise NoDataError(f"disk {handle} does not exist")
        return self.disks[handle]

    def snapshot(self, handle: str) -> StorageSnapshot:
        """A storage snapshot that is there."""
        if handle not in self.snapshots:
            raise NoDataError(f"storage snapshot {handle} does not exist")
        return self.snapshots[handle]

    def take(self, handle: str, disk: str) -> None:
        """Take a snapshot: the bytes of now."""
        self.snapshots[handle] = StorageSnapshot(handle, self.disk(disk).data)

    def write(self, handle: str, data: str) -> None:
        """Write a disk over."""
        disk = self.disk(handle)
        before, disk.data = disk.data, data
        disk.writes += 1
        self.on_disk_written(disk, before)

    def delete_disk(self, handle: str) -> None:
        """What the driver does for a PV that is to be deleted."""
        disk = self.disks.pop(handle, None)
        if disk is not None:
            self.on_disk_deleted(disk)

    def delete_snapshot(self, handle: str) -> None:
        """What the driver does for a content that is to be deleted."""
        snapshot = self.snapshots.pop(handle, None)
        if snapshot is not None:
            self.on_snapshot_deleted(snapshot)

    def save(self, data: str) -> str:
        """Store bytes in the repository; the ID of their snapshot."""
        self._saved += 1
        self.repository[f"k{self._saved:05d}"] = data
        return f"k{self._saved:05d}"
