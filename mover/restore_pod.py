"""A restore in a hosting pod: open → restore → done-file → result. One volume, once."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mover.reporting import ProgressTicker, Reporter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mover.cancel import CancelToken
    from mover.engine import Engine
    from mover.protocol import RestoreRequest, Result

DONE_DIRECTORY = ".velero"


class DoneFileError(Exception):
    """The data is restored, but the waiting pod cannot be told; it would wait for ever."""

    temporary = False


def run_restore(request: RestoreRequest, engine: Engine, reporter: Reporter, cancel: CancelToken) -> Result:
    """Restore the volume; when this returns, the data is synced and a waiting pod has been told.

    Raises:
        CanceledError: the token was set; the volume holds a part of the data.
        DoneFileError: the done-file could not be written.
    """
    with (
        engine.open(request.repository) as repository,
        ProgressTicker(repository.progress, reporter, request.progress_seconds),
    ):
        result = repository.restore(request, cancel)
    if request.done_file:
        write_done_file(Path(request.path), request.done_file)
    return result


def write_done_file(volume: Path, name: str) -> None:
    """Write what the init container `restore-wait` polls for: `.velero/<restore UID>`, in a fresh directory.

    A `.velero` that came with the data is from an earlier restore and goes first. Who owns the volume may
    swap what is in it at any moment, so each step is taken from an open directory and none through a link.
    """
    if name in (".", "..") or "/" in name:
        raise DoneFileError(f"data is restored, but the restore's UID {name!r} cannot name a file")
    try:
        with _opened(volume, os.O_RDONLY | os.O_DIRECTORY) as root:
            _remove(DONE_DIRECTORY, root)
            os.mkdir(DONE_DIRECTORY, 0o755, dir_fd=root)
            with _opened(DONE_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, root) as directory:
                os.fchmod(directory, 0o755)
                new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                with _opened(name, new, directory) as done:
                    os.fchmod(done, 0o644)
    except OSError as error:
        place = volume / DONE_DIRECTORY / name
        raise DoneFileError(f"data is restored, but {place} cannot be written: {error}") from error


@contextmanager
def _opened(path: str | Path, flags: int, directory: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o644, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove(name: str, directory: int) -> None:
    """Remove whatever has this name in an open directory; a link goes, what it leads to stays."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass
    except (IsADirectoryError, PermissionError):  # POSIX names the second for a directory
        shutil.rmtree(name, dir_fd=directory)
