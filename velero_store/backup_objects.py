"""The objects of one backup below `backups/NAME/`, and what is read of them.

Names: Velero `pkg/persistence/object_store_layout.go`. Which of them there are depends on the version that
wrote the backup (1.7 to now); one that is missing is none, one that is damaged is told and counts as missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from repository.errors import CorruptedError
from velero_store.bucket import Bucket
from velero_store.fields import Document
from velero_store.join import Sources
from velero_store.tarball import TarFindings, read_tarball

BACKUPS_FOLDER = "backups/"
METADATA = "velero-backup.json"
# field of `Sources` -> how its object's name goes on after the backup's
LISTS: Mapping[str, str] = {
    "pod_volume_backups": "-podvolumebackups.json.gz",
    "volume_info": "-volumeinfo.json.gz",
    "operations": "-itemoperations.json.gz",
}
# of these it is of account whether they are there
MAY_BE_NONE = frozenset({"pod_volume_backups", "volume_info"})
# only of use where `volumeinfo` is missing
OLD_LISTS: Mapping[str, str] = {
    "native_snapshots": "-volumesnapshots.json.gz",
    "csi_snapshots": "-csi-volumesnapshots.json.gz",
}
TARBALL = ".tar.gz"
RESULTS = "-results.gz"
RESOURCES = "-resource-list.json.gz"


def metadata_key(backup: str) -> str:
    """The object that makes a folder a backup."""
    return f"{BACKUPS_FOLDER}{backup}/{METADATA}"


@dataclass(slots=True)
class BackupObjects:
    """Reads the objects of a backup that are there: one listing, then one request an object."""

    bucket: Bucket
    backup: str
    lengths: dict[str, int] = field(default_factory=dict)

    def look(self) -> None:
        """Looks which objects there are."""
        self.lengths = self.bucket.lengths(f"{BACKUPS_FOLDER}{self.backup}/")

    def sources(self) -> Sources:
        """What all objects but the tarball say of volumes; read at the same time."""
        sources = Sources(backup=self.backup)
        wanted = dict(LISTS)
        if not self._has(LISTS["volume_info"]):
            wanted |= OLD_LISTS
        with ThreadPoolExecutor(len(wanted)) as pool:
            lists = pool.map(lambda ending: self._list_or_damage(sources, ending), wanted.values())
            for name, found in zip(wanted, lists, strict=True):
                setattr(sources, name, found if found is not None or name in MAY_BE_NONE else [])
        return sources

    def tarball(self) -> TarFindings:
        """What the tarball says; one that is missing is damaged."""
        if not self._has(TARBALL):
            return TarFindings(damage="there is none")
        with self.bucket.stream(self._key(TARBALL)) as stream:
            return read_tarball(stream)

    def document(self, ending: str) -> Any:
        """The document of this ending; `None` if it is not there."""
        return self.bucket.document(self._key(ending)) if self._has(ending) else None

    def _has(self, ending: str) -> bool:
        return f"{self.backup}{ending}" in self.lengths

    def _key(self, ending: str) -> str:
        return f"{BACKUPS_FOLDER}{self.backup}/{self.backup}{ending}"

    def _list_or_damage(self, sources: Sources, ending: str) -> list[Document] | None:
        try:
            found = self.document(ending)
        except CorruptedError as error:
            sources.damage.append(str(error))
            return None
        if isinstance(found, list):
            return [one for one in found if isinstance(one, Mapping)]
        # `null` is an empty list of Go; an object that is missing is none
        return [] if found is None and self._has(ending) else None
