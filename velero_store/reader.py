"""The bytes of one volume: a tree of files, or one image of a block device.

A block device is backed up as a directory with exactly one file, whose name is a device's path, or one that
velero-block makes of the volume: of no account, and never a path. Here it is `CLAIM.img`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import islice
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

from repository.block_image import (
    BLOCK_UPLOADER,
    BlockImage,
    cut_to_device_size,
    find_block_image,
    is_block_snapshot,
)
from repository.engine import CancelToken, Progress
from repository.errors import CorruptedError, ObjectNotFoundError, UnsupportedFormatError
from repository.requests import RestoreOptions
from repository.session import BUFFER_BYTES, Session
from repository.snapshots import Entry, RestoreResult
from repository.streams import FilePrefix, ObjectFile
from velero_store.volumes import Method, State, Volume

BLOCK = "Block"
IMAGE_SUFFIX = ".img"
NOTHING = RestoreResult(0, 1, 0, 0, 0, 0, 0, 0, 0, 0, (), 0, ())


def only_file(session: Session, snapshot_id: str) -> Entry | None:
    """The one file of a snapshot that holds nothing else."""
    root = session.entry(snapshot_id)
    if not root.is_directory:
        return root
    first = list(islice(session.entries(snapshot_id), 2))
    return first[0] if len(first) == 1 and first[0].type == "f" else None


class VolumeReader:
    """Reads a volume. Its repository stays open as long as the store does."""

    def __init__(self, volume: Volume, session: Callable[[], Session], mode: Callable[[], str]) -> None:
        """`session` gives the open repository, `mode` the volume's mode by the tarball, which takes long."""
        self.volume = volume
        self._session = session
        self._mode = mode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held: the session is the store's."""

    @cached_property
    def is_block(self) -> bool:
        """Whether the volume is one image."""
        volume = self.volume
        if volume.mode or not volume.is_readable:
            return volume.mode == BLOCK
        if volume.uploader == BLOCK_UPLOADER:
            return True
        only = only_file(self.session(), volume.snapshot_id)
        if only is None or volume.method is not Method.DATA_MOVEMENT:
            return False
        # A name with a slash is a device's; else only the claim tells a device from a volume with one file.
        is_marked = "/" in only.name or is_block_snapshot(self.session().snapshot(volume.snapshot_id))
        return is_marked or self._mode() == BLOCK

    @cached_property
    def _image(self) -> Entry | None:
        """The one file of a block device, as long as it: velero-block stores whole pieces of 1 MiB."""
        if not self.is_block:
            return None
        session, snapshot_id = self.session(), self.volume.snapshot_id
        found = only_file(session, snapshot_id)
        if found is None:
            raise CorruptedError(f"{self.volume.path} is of a block device, and does not hold one file alone")
        marked = find_block_image(session, snapshot_id)
        size = found.size_bytes if marked is None else marked.size_bytes
        return Entry(self.image_name, {**found.document, "name": self.image_name, "size": size})

    @property
    def image_name(self) -> str:
        """Name of the image."""
        return f"{self.volume.claim or self.volume.pod_volume}{IMAGE_SUFFIX}"

    def session(self) -> Session:
        """The repository.

        Raises:
            UnsupportedFormatError: Another data mover, or restic, wrote it.
            ObjectNotFoundError: Nothing of it is in the bucket.
        """
        volume = self.volume
        if volume.is_readable:
            return self._session()
        message = f"{volume.path} of backup {volume.backup} is {volume.state}: {volume.reason}"
        if volume.state in (State.FOREIGN, State.UNREADABLE):
            raise UnsupportedFormatError(message)
        raise ObjectNotFoundError(message)

    @property
    def is_empty(self) -> bool:
        """Whether it was backed up with nothing in it."""
        return self.volume.state is State.EMPTY

    def what(self, path: str = "") -> str:
        """The path as the repository knows it: `SNAPSHOT/PATH`, or the object of the image.

        Raises:
            ObjectNotFoundError: An image has no files in it.
        """
        self.session()
        inside = path.strip("/")
        if self._image is None:
            return f"{self.volume.snapshot_id}/{inside}" if inside else self.volume.snapshot_id
        if inside not in ("", self.image_name):
            raise ObjectNotFoundError(
                f"{self.volume.path} is a block device: it has {self.image_name} and no {path}"
            )
        return self._image.object_id

    def entry(self, path: str = "") -> Entry:
        """The entry at a path; of a block device the image."""
        what = self.what(path)
        return self.session().entry(what) if self._image is None else self._image

    def entries(self, path: str = "") -> Iterator[Entry]:
        """What is in a directory; of an empty volume nothing, of a block device its image."""
        if self.is_empty:
            return
        what = self.what(path)
        if self._image is not None:
            yield self._image
        else:
            yield from self.session().entries(what)

    def walk(self, path: str = "") -> Iterator[Entry]:
        """Everything at a path and below, parents first."""
        if self.is_empty:
            return
        what = self.what(path)
        if self._image is not None:
            yield self._image
        else:
            yield from self.session().walk(what)

    def open_file(self, path: str = "") -> io.BufferedReader:
        """The bytes of a file, or of the image, as a seekable stream."""
        what = self.what(path)
        if self._image is None:
            return self.session().open_file(what)
        return io.BufferedReader(self.open_object(self._image), BUFFER_BYTES)

    def open_object(self, entry: Entry) -> io.RawIOBase:
        """The bytes of an entry of this volume, of an image as many as the device has."""
        file = ObjectFile(self.session().native.open_object(entry.object_id))
        return file if self._image is None else FilePrefix(file, self._image.size_bytes)

    def restore(
        self,
        path: str,
        target: str | PathLike[str],
        options: RestoreOptions,
        *,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> RestoreResult:
        """Restores the volume, or what is at a path in it; an image as a sparse file or over a device.

        An empty volume becomes an empty directory, with success.
        """
        if self.is_empty and not path.strip("/"):
            if options.format == "tree":
                Path(target).mkdir(parents=True, exist_ok=True)
            return NOTHING
        session, what = self.session(), self.what(path)
        result = session.restore(what, target, options, progress=progress, cancel=cancel)
        if self._image is not None and options.format == "tree" and not result.failed_count:
            cut_to_device_size(Path(target), BlockImage(self.image_name, self._image.size_bytes))
        return result
