"""A restore in a hosting pod: open → restore → done-file → result. One volume, once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mover.reporting import ProgressTicker, Reporter

if TYPE_CHECKING:
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

    A `.velero` that came with the data is from an earlier restore and goes first.
    """
    directory = volume / DONE_DIRECTORY
    if name in (".", "..") or "/" in name:
        raise DoneFileError(f"data is restored, but the restore's UID {name!r} cannot name a file")
    try:
        if directory.is_symlink() or directory.is_file():
            directory.unlink()
        elif directory.exists():
            shutil.rmtree(directory)
        directory.mkdir()
        directory.chmod(0o755)
        done = directory / name
        done.touch()
        done.chmod(0o644)
    except OSError as error:
        raise DoneFileError(f"data is restored, but {directory}/{name} cannot be written: {error}") from error
