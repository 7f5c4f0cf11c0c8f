"""A file that is written beside its place and takes it when it is whole; till then what is there stays."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from repository.errors import FilesystemError

_MODE = 0o600


@contextmanager
def archive_file(target: str, *, replace: bool, sync: bool) -> Iterator[int]:
    """Gives a descriptor to write to; at the end of the block, if it ends well, `target` is what was written.

    What is there and no regular file (a tape, a pipe) is written to as it is. A link is followed. `sync`: the
    new name is on stable storage too.

    Raises:
        FilesystemError: It cannot be written, or is there already and must not be replaced.
    """
    path = Path(target).resolve()
    there = _found(path)
    if there is not None and not replace:
        raise FilesystemError(f"cannot write {target}: it exists already")
    if there is not None and not stat.S_ISREG(there.st_mode):
        descriptor = _opened(target, path, os.O_WRONLY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
        return
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    descriptor = _opened(target, temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW)
    try:
        try:
            if there is not None:
                os.fchmod(descriptor, stat.S_IMODE(there.st_mode))
            yield descriptor
        finally:
            os.close(descriptor)
        _publish(target, temporary, path, replace=replace, sync=sync)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _found(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _opened(target: str, path: Path, flags: int) -> int:
    try:
        return os.open(path, flags, _MODE)
    except OSError as error:
        raise _refused(target, error) from None


def _publish(target: str, temporary: Path, path: Path, *, replace: bool, sync: bool) -> None:
    try:
        if replace:
            temporary.replace(path)
        else:
            path.hardlink_to(temporary)
        if sync:
            directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
    except OSError as error:
        raise _refused(target, error) from None


def _refused(target: str, error: OSError) -> FilesystemError:
    return FilesystemError(f"cannot write {target}: {(error.strerror or str(error)).lower()}")
