"""The protocol `velero` of fsspec: `fsspec.open("velero:///backups/B/NS/PVC/file", store="s3://bucket/prefix")`.

Needs the extra `fsspec`. The tree is that of `mover velero restore --all`, below the names of the backups:

    /backups/BACKUP/NAMESPACE/PVC/…               of a block device PVC.img, a file
    /backups/BACKUP/NAMESPACE/pods/POD/VOLUME/…   what has no claim
    /backups/BACKUP/.velero/volumes.json          all volumes, also those that cannot be read, and why

`latest` and `latest:SCHEDULE` are backups too, though not listed. The bucket's own URL is an option, never a
part of the path, so that chains like `zip://x::velero:///…` work.
"""

from __future__ import annotations

import errno
import io
import json
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Any

from repository.errors import DataMoverError, InvalidRequestError
from repository.readonly_filesystem import (
    FILE,
    NOT_THERE,
    Info,
    ReadOnlyFileSystem,
    below,
    directory_info,
    info_of,
    read_password,
)
from repository.requests import OpenOptions
from repository.snapshots import Entry
from velero_store.reader import VolumeReader
from velero_store.store import VeleroStore, open_velero_store
from velero_store.targets import target_paths

BACKUPS = "backups"
ABOUT = ".velero"
ABOUT_FILE = "volumes.json"
TREES_MAX = 100  # backups whose volumes are remembered
BACKUP_DEPTH = 2  # `backups/B`


class VeleroFileSystem(ReadOnlyFileSystem):
    """Volumes of backups as directories.

    `store` is the URL or directory of the store. The password is `password`, else `password_file`,
    `KOPIA_PASSWORD`, or Velero's default. What is pickled are the arguments. `options` are `OpenOptions`.
    """

    protocol = "velero"

    def __init__(
        self,
        store: str = "",
        password: str | None = None,
        password_file: str | None = None,
        options: OpenOptions | None = None,
        **storage_options: Any,
    ) -> None:
        super().__init__(**storage_options)
        self._url, self._password, self._password_file = store, password, password_file
        self._options = options
        self._opening = threading.RLock()
        self._opened: tuple[int, VeleroStore] | None = None
        self._trees: dict[str, _BackupTree] = {}

    @property
    def store(self) -> VeleroStore:
        """The open store; one for each process."""
        with self._opening:
            if self._opened is None or self._opened[0] != os.getpid():
                password = read_password(self._password, self._password_file)
                store = open_velero_store(self._url, password=password, options=self._options)
                self._opened = os.getpid(), store
                self._trees.clear()
                # Not at the end of a process: a child that was forked would end what its parent uses.
                weakref.finalize(self, store.close).atexit = False
            return self._opened[1]

    def _tree(self, backup: str) -> _BackupTree:
        store = self.store
        with self._opening:
            if backup not in self._trees:
                try:
                    self._trees[backup] = _BackupTree(store, backup)
                except (InvalidRequestError, *NOT_THERE) as error:
                    raise FileNotFoundError(errno.ENOENT, str(error), f"{BACKUPS}/{backup}") from None
            while len(self._trees) > TREES_MAX:
                self._trees.pop(next(iter(self._trees)))
            return self._trees[backup]

    def children(self, path: str) -> Iterator[Info]:
        """Backups, the folders down to volumes, or what is in a directory of a volume."""
        parts = path.split("/") if path else []
        if not parts:
            yield directory_info(BACKUPS)
        elif len(parts) == 1:
            yield from (directory_info(f"{path}/{name}") for name in self.store.backup_names())
        else:
            tree = self._tree(parts[1])
            inside = "/".join(parts[BACKUP_DEPTH:])
            yield from ({**one, "name": f"{path}/{one['name']}"} for one in tree.children(inside))

    def node(self, path: str) -> Info:
        """What is at a path."""
        parts = path.split("/")
        if parts[0] != BACKUPS:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if len(parts) == 1:
            return directory_info(path)
        return {**self._tree(parts[1]).node("/".join(parts[BACKUP_DEPTH:])), "name": path}

    def open_node(self, info: Info) -> Any:
        """The object of a file, in the repository of its namespace; or what is told of the volumes."""
        parts = info["name"].split("/")
        if parts[BACKUP_DEPTH] == ABOUT:
            return io.BytesIO(self._tree(parts[1]).about())
        reader, _ = self._tree(parts[1]).volume("/".join(parts[BACKUP_DEPTH:]))
        return reader.open_object(Entry("", {"obj": info["object_id"]}))

    def may_change(self, path: str) -> bool:
        """The list of backups may."""
        return path.count("/") < BACKUP_DEPTH - 1 or path.split("/")[1].startswith("latest")

    def _same_tree(self, one: str, other: str) -> bool:
        return self._volume_of(one) is not None and self._volume_of(one) is self._volume_of(other)

    def _volume_of(self, path: str) -> VolumeReader | None:
        """The volume that a path is in."""
        parts = path.split("/")
        if len(parts) <= BACKUP_DEPTH or parts[0] != BACKUPS:
            return None
        try:
            return self._tree(parts[1]).volume("/".join(parts[BACKUP_DEPTH:]))[0]
        except FileNotFoundError:
            return None

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forgets listings and backups."""
        self.dircache.clear()
        with self._opening:
            self._trees.clear()
        super().invalidate_cache(path)


class _BackupTree:
    """The volumes of one backup by their paths."""

    def __init__(self, store: VeleroStore, name: str) -> None:
        backup = store.backup(name)
        volumes = [store.resolved(one) for one in backup.volumes(detail=True)]
        self._about = {
            "backup": backup.summary(),
            "volumes": [one.document() for one in volumes],
            "damages": backup.damages(),
        }
        readers = [
            reader for reader in map(store.reader, volumes) if reader.volume.is_readable or reader.is_empty
        ]
        paths = target_paths([(one.volume, _is_block(one)) for one in readers])
        self._volumes = {str(path): reader for path, reader in zip(paths, readers, strict=True)}

    def about(self) -> bytes:
        """The document at `.velero/volumes.json`."""
        return json.dumps(self._about, indent=2, ensure_ascii=False).encode() + b"\n"

    def volume(self, path: str) -> tuple[VolumeReader, str]:
        """The volume at or above a path, and the path in it."""
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            reader = self._volumes.get("/".join(parts[:count]))
            if reader is not None:
                return reader, "/".join(parts[count:])
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def _folder(self, path: str) -> set[str]:
        """Names right below a folder that is above the volumes; empty if there is no such folder."""
        above = f"{path}/" if path else ""
        names = {name.removeprefix(above).split("/")[0] for name in self._volumes if name.startswith(above)}
        return names | ({ABOUT} if not path else set())

    def children(self, path: str) -> Iterator[Info]:
        """What is in a directory, with names relative to it."""
        if path == ABOUT:
            yield {**self.node(f"{ABOUT}/{ABOUT_FILE}"), "name": ABOUT_FILE}
            return
        for name in sorted(self._folder(path)):
            yield {**self.node(f"{path}/{name}" if path else name), "name": name}
        if not self._folder(path):
            reader, inside = self.volume(path)
            for entry in reader.entries(inside):
                yield info_of(entry.name, entry)

    def node(self, path: str) -> Info:
        """What is at a path."""
        if path == f"{ABOUT}/{ABOUT_FILE}":
            return {"name": path, "type": FILE, "size": len(self.about())}
        if path == ABOUT or self._folder(path):
            return directory_info(path)
        reader, inside = self.volume(path)
        if reader.is_empty and not inside:
            return directory_info(path)
        if reader.is_block:
            if inside:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            return info_of(path, reader.entry())
        if reader.is_empty:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return info_of(path, below(reader.session(), reader.volume.snapshot_id, inside))


def _is_block(reader: VolumeReader) -> bool:
    """A repository that cannot be opened is told when the volume is read."""
    try:
        return reader.is_block
    except DataMoverError:
        return False
