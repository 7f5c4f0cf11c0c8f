"""What the file systems `kopia` and `velero` of fsspec have in common: reading only, at any place of a file.

A file is opened by the object ID that its directory names, so that names that are no UTF-8 (shown with the
replacement sign) can be read too. Symbolic links are listed as such and followed when they are opened, within
the tree only. Listings are kept; what they name does not change. After a fork a new repository is opened.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import posixpath
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from repository.errors import InvalidRequestError, ObjectNotFoundError, SnapshotNotFoundError
from repository.session import BUFFER_BYTES, Session
from repository.snapshots import Entry

try:
    from fsspec import AbstractFileSystem
except ImportError:
    raise ImportError("fsspec is not installed: pip install 'kopia-data-mover[fsspec]'") from None

LISTINGS_MAX = 1000  # directories whose listings are kept
LINKS_MAX = 40  # of Linux, for one path
FILE, DIRECTORY, LINK = "file", "directory", "link"
NOT_THERE = (ObjectNotFoundError, SnapshotNotFoundError)
Info = dict[str, Any]
logger = logging.getLogger("fsspec.kopia")


class SnapshotFile(io.BufferedReader):
    """A file of a snapshot: seekable, one chunk of it and a megabyte in memory."""

    def __init__(self, filesystem: ReadOnlyFileSystem, info: Info, raw: io.RawIOBase) -> None:
        super().__init__(raw, BUFFER_BYTES)
        self.fs, self.path, self.size, self.details = filesystem, info["name"], info["size"], info

    def info(self) -> Info:
        """What `info` says of the path."""
        return self.details

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _reopen, (self.fs, self.path, self.tell())


def _reopen(filesystem: ReadOnlyFileSystem, path: str, position: int) -> SnapshotFile:
    file = filesystem.open(path)
    file.seek(position)
    return file  # type: ignore[no-any-return]


def info_of(path: str, entry: Entry) -> Info:
    """An entry of a snapshot as fsspec shows it; `path` is its own."""
    kind = DIRECTORY if entry.is_directory else LINK if entry.type == "s" else FILE
    return {
        "name": path,
        "type": kind,
        "size": 0 if entry.is_directory else entry.size_bytes,
        "mode": entry.mode & 0o777,
        "uid": entry.owner[0],
        "gid": entry.owner[1],
        "mtime": entry.modified_at.timestamp(),
        "modified": entry.modified_at,
        "object_id": entry.object_id,
        "islink": kind == LINK,
    }


def directory_info(path: str) -> Info:
    """A directory that is in no snapshot."""
    return {"name": path, "type": DIRECTORY, "size": 0}


def read_password(password: str | bytes | None, password_file: str | None) -> str | bytes | None:
    """The password of the arguments, else of `KOPIA_PASSWORD`; `None` if there is none."""
    from repository.password_bytes import of_file, of_variable  # noqa: PLC0415 - rarely

    if password is not None:
        return password
    return of_file(Path(password_file)) if password_file else of_variable("KOPIA_PASSWORD")


class ReadOnlyFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """A tree of files that does not change. What writes raises `OSError` with `EROFS`."""

    root_marker = ""
    cachable = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_paths": LISTINGS_MAX, **options})

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        text = os.fspath(path)
        for protocol in (cls.protocol,) if isinstance(cls.protocol, str) else cls.protocol:
            text = text.removeprefix(f"{protocol}://")
        return "/".join(part for part in text.split("/") if part)

    def children(self, path: str) -> Iterator[Info]:
        """What is in the directory at a stripped path; `FileNotFoundError`, `NotADirectoryError`."""
        raise NotImplementedError

    def node(self, path: str) -> Info:
        """What is at a stripped path; `FileNotFoundError`."""
        raise NotImplementedError

    def open_node(self, info: Info) -> io.RawIOBase:
        """The bytes of a file."""
        raise NotImplementedError

    def may_change(self, path: str) -> bool:
        """Whether the listing at a path may be another one later: it is not kept then."""
        raise NotImplementedError

    def ls(self, path: str, detail: bool = True, **_options: Any) -> list[Any]:
        """Entries of a directory in one read of it; of a file the file itself."""
        stripped = self._strip_protocol(path)
        # Not `_ls_from_cache`: that gives the parent's entry for a directory that was not listed yet.
        found = self.dircache.get(stripped) if self.dircache.use_listings_cache else None
        if found is None:
            found = self._list(stripped)
        return found if detail else sorted(one["name"] for one in found)

    def _list(self, path: str) -> list[Info]:
        info = self.info(path)
        if info["type"] != DIRECTORY:
            return [info]
        found = list(self.children(path))
        if not self.may_change(path):
            self.dircache[path] = found
        return found

    def info(self, path: str, **_options: Any) -> Info:
        """Name, type, size, mode, owner, time and object of what is at a path."""
        stripped = self._strip_protocol(path)
        if not stripped:
            return directory_info("")
        for one in self.dircache.get(self._parent(stripped)) or ():
            if one["name"] == stripped:
                return one  # type: ignore[no-any-return]
        return self.node(stripped)

    def _open(self, path: str, mode: str = "rb", **_options: Any) -> SnapshotFile:
        if mode != "rb":
            self._refuse(path)
        info = self._followed(path)
        if info["type"] == DIRECTORY:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return SnapshotFile(self, info, self.open_node(info))

    def _followed(self, path: str) -> Info:
        """What is at a path, at the end of links."""
        info = self.info(path)
        for _ in range(LINKS_MAX):
            if info["type"] != LINK:
                return info
            with io.BufferedReader(self.open_node(info)) as link:
                target = link.read().decode(errors="surrogateescape")
            joined = posixpath.normpath(posixpath.join(self._parent(info["name"]), target))
            if target.startswith("/") or joined.startswith("..") or not self._same_tree(info["name"], joined):
                raise FileNotFoundError(errno.ENOENT, "a link that leads out of the snapshot", path)
            info = self.info(joined)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def _same_tree(self, one: str, other: str) -> bool:
        """Whether two paths are in the same snapshot."""
        raise NotImplementedError

    def get_file(self, rpath: str, lpath: Any, **options: Any) -> None:
        """Copies a file; a link by what it leads to, which is told and left out where that is no file."""
        if self.info(rpath)["type"] == LINK:
            try:
                is_file = self._followed(rpath)["type"] == FILE
            except OSError:
                is_file = False
            if not is_file:
                logger.warning("not copied: %s is a link that leads to no file of the snapshot", rpath)
                return
        super().get_file(rpath, lpath, **options)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_options: Any) -> bytes:
        """The bytes from `start` to before `end`; negative ones count from the end."""
        with self.open(path, "rb") as file:
            return _range(file, start, end)

    def cat_ranges(
        self,
        paths: Sequence[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,  # noqa: ARG002 - fsspec's; one file is read where it is wanted
        on_error: str = "return",
        **_options: Any,
    ) -> list[Any]:
        """Ranges of files, each file opened once."""
        starts = starts if isinstance(starts, list) else [starts] * len(paths)
        ends = ends if isinstance(ends, list) else [ends] * len(paths)
        if not len(paths) == len(starts) == len(ends):
            raise ValueError("there must be as many starts and ends as paths")
        found: list[Any] = [b""] * len(paths)
        order = sorted(range(len(paths)), key=lambda index: (paths[index], starts[index] or 0))
        opened: dict[str, Any] = {}
        try:
            for index in order:
                found[index] = self._range_or_error(
                    opened, paths[index], (starts[index], ends[index]), on_error
                )
        finally:
            for file in opened.values():
                file.close()
        return found

    def _range_or_error(
        self, opened: dict[str, Any], path: str, limits: tuple[int | None, int | None], on_error: str
    ) -> Any:
        try:
            if path not in opened:
                while opened:
                    opened.popitem()[1].close()
                opened[path] = self.open(path, "rb")
            return _range(opened[path], *limits)
        except Exception as error:
            if on_error == "return":
                return error
            raise

    def modified(self, path: str) -> datetime:
        """Time of the last change of a file."""
        info = self.info(path)
        if "modified" not in info:
            raise FileNotFoundError(errno.ENOENT, "no time is known", path)
        return info["modified"]  # type: ignore[no-any-return]

    def checksum(self, path: str) -> str:
        """The object ID: equal where the bytes, or the whole directories, are the same in one repository."""
        return str(self.info(path).get("object_id", path))

    def ukey(self, path: str) -> str:
        """As `checksum`."""
        return self.checksum(path)

    def _refuse(self, *_arguments: Any, **_options: Any) -> NoReturn:
        raise OSError(errno.EROFS, f"{self.protocol}: backups are only read")

    mkdir = makedirs = rmdir = rm = rm_file = _rm = cp_file = touch = pipe_file = put_file = mv = _refuse


def _range(file: io.BufferedReader, start: int | None, end: int | None) -> bytes:
    size = file.seek(0, io.SEEK_END)
    first, last = (size + one if one is not None and one < 0 else one for one in (start, end))
    first = max(first or 0, 0)
    last = size if last is None else min(last, size)
    file.seek(first)
    return file.read(max(last - first, 0))


def below(session: Session, root: str, path: str) -> Entry:
    """The entry at `path` below the snapshot or object `root`, also where its name is no UTF-8.

    Raises:
        FileNotFoundError: There is none.
    """
    try:
        return session.entry(f"{root}/{path}" if path else root)
    except NOT_THERE as error:
        found = _by_listing(session, root, path) if "\ufffd" in path else None
        if found is None:
            raise FileNotFoundError(errno.ENOENT, str(error), path) from None
        return found
    except InvalidRequestError as error:
        raise FileNotFoundError(errno.ENOENT, str(error), path) from None


def _by_listing(session: Session, root: str, path: str) -> Entry | None:
    """Name by name through the listings, whose names are shown with the replacement sign."""
    entry = session.entry(root)
    for name in path.split("/"):
        if not entry.is_directory:
            return None
        found = next((one for one in session.entries(entry.object_id) if one.name == name), None)
        if found is None:
            return None
        entry = found
    return entry
