"""An object of the repository as a raw binary file, for `io.BufferedReader` and all that reads files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from repository.engine import File

if TYPE_CHECKING:
    from typing_extensions import Buffer


class ObjectFile(io.RawIOBase):
    """Reads an object; seekable, one chunk in memory."""

    def __init__(self, native: File) -> None:
        self._native = native

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Buffer) -> int:
        """Fills the beginning of `buffer`; 0 at the end."""
        return self._native.readinto(buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves; a position after the end is allowed and reads nothing."""
        return self._native.seek(offset, whence)

    def close(self) -> None:
        """Lets the object go."""
        self._native.close()
        super().close()


class FilePrefix(io.RawIOBase):
    """The first `length` bytes of an object, as if there were no more: an image without its padding."""

    def __init__(self, file: ObjectFile, length: int) -> None:
        self._file, self._length = file, length

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Buffer) -> int:
        """Fills the beginning of `buffer`; 0 at the end."""
        left = self._length - self._file.seek(0, io.SEEK_CUR)
        view = memoryview(buffer).cast("B")
        return self._file.readinto(view[:left]) if left > 0 else 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves; a position after the end is allowed and reads nothing."""
        if whence == io.SEEK_END:
            return self._file.seek(self._length + offset, io.SEEK_SET)
        return self._file.seek(offset, whence)

    def close(self) -> None:
        """Lets the object go."""
        self._file.close()
        super().close()
