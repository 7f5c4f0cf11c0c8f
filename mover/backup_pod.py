"""A backup in a hosting pod: open → upload → result. One volume, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mover.protocol import NO_PARENT
from mover.reporting import ProgressTicker, Reporter

if TYPE_CHECKING:
    from mover.cancel import CancelToken
    from mover.engine import Engine
    from mover.protocol import BackupRequest, Result


def run_backup(request: BackupRequest, engine: Engine, reporter: Reporter, cancel: CancelToken) -> Result:
    """Back the volume up; when this returns, the snapshot is visible to everybody.

    Raises:
        CanceledError: the token was set; what is stored already spares the next run work.
        PartialSnapshotError: some files failed.
    """
    # Of a device nothing can be seen ahead, and without a parent it spares nothing.
    looks = request.volume_mode == "Filesystem" and request.parent_snapshot != NO_PARENT
    source = request.path if looks else ""
    with (
        engine.open(request.repository, source) as repository,
        ProgressTicker(repository.progress, reporter, request.progress_seconds),
    ):
        return repository.backup(request, cancel)
