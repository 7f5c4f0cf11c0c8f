"""The protocol `kopia` of fsspec: `fsspec.open("kopia://SNAPSHOT/path", repo="/srv/backups", password="…")`.

Needs the extra `fsspec`. Below the root are all snapshots by their IDs; `SNAPSHOT` may be an object ID too.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from repository import connection
from repository.errors import InvalidRequestError
from repository.password_bytes import of_file
from repository.readonly_filesystem import Info, ReadOnlyFileSystem, below, info_of, read_password
from repository.requests import ConnectionOptions, OpenOptions
from repository.session import Session, open_repository
from repository.streams import ObjectFile


class KopiaFileSystem(ReadOnlyFileSystem):
    """Snapshots of a repository as directories.

    `repo` is its URL or path; without it the connection in force is used (`mover repo connect`, or Kopia's
    own). The password is `password`, else `password_file`, `KOPIA_PASSWORD`, or that of the connection: what
    is pickled are these arguments, so that a file or the variable keeps it out of what goes to workers.
    `options` are `OpenOptions`.
    """

    protocol = "kopia"

    def __init__(
        self,
        repo: str | None = None,
        password: str | bytes | None = None,
        password_file: str | None = None,
        options: OpenOptions | None = None,
        **storage_options: Any,
    ) -> None:
        super().__init__(**storage_options)
        self._repo, self._password, self._password_file = repo, password, password_file
        self._options = options or OpenOptions()
        self._opening = threading.Lock()
        self._opened: tuple[int, Session] | None = None

    @property
    def session(self) -> Session:
        """The open repository, for reading only; one for each process."""
        with self._opening:
            if self._opened is None or self._opened[0] != os.getpid():
                session = self._open_session()
                self._opened = os.getpid(), session
                # Not at the end of a process: a child that was forked would end what its parent uses.
                weakref.finalize(self, session.close).atexit = False
            return self._opened[1]

    def _open_session(self) -> Session:
        found = connection.Connection(url=self._repo) if self._repo else connection.find()
        password = read_password(self._password, self._password_file)
        if password is None and found.password_file:
            password = of_file(Path(found.password_file))
        if password is None:
            raise InvalidRequestError("no password: give password, password_file or KOPIA_PASSWORD")
        used: ConnectionOptions = replace(self._options.connection, read_only=True)
        options = replace(self._options, connection=used)
        return open_repository(found.url, password, options)

    def children(self, path: str) -> Iterator[Info]:
        """Snapshots, or what is in a directory of one."""
        if not path:
            for snapshot in self.session.snapshots():
                yield {**info_of(snapshot.id, snapshot.root), "modified": snapshot.started_at}
            return
        for entry in self.session.entries(self.info(path)["object_id"]):
            yield info_of(f"{path}/{entry.name}", entry)

    def node(self, path: str) -> Info:
        """A snapshot, or what is in one."""
        root, _, inside = path.partition("/")
        return info_of(path, below(self.session, root, inside))

    def open_node(self, info: Info) -> ObjectFile:
        """The object of a file."""
        return ObjectFile(self.session.native.open_object(info["object_id"]))

    def may_change(self, path: str) -> bool:
        """The list of snapshots may."""
        return not path

    def _same_tree(self, one: str, other: str) -> bool:
        return one.split("/", maxsplit=1)[0] == other.split("/", maxsplit=1)[0]

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forgets listings, and sees what others have added since."""
        self.dircache.clear()
        if self._opened is not None and self._opened[0] == os.getpid():
            self.session.native.refresh()
        super().invalidate_cache(path)
