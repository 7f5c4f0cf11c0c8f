"""What a mover pod needs of the repository: open it where a request says, move one volume, say how far it is.

A seam: `repository` stands behind it in production (`load_engine`), a directory copier in tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mover.cancel import CancelToken
    from mover.protocol import BackupRequest, Progress, RepositoryAccess, RestoreRequest, Result


class PartialSnapshotError(Exception):
    """Files failed, but a snapshot of the others was saved; `snapshot_id` names it."""

    temporary = False

    def __init__(self, message: str, snapshot_id: str) -> None:
        super().__init__(message)
        self.snapshot_id = snapshot_id


class OpenRepository(Protocol):
    """One open repository, used for one transfer."""

    def progress(self) -> Progress:
        """Return how far the transfer is; safe from another thread."""
        ...

    def backup(self, request: BackupRequest, cancel: CancelToken) -> Result:
        """Back the volume up and flush; raises `CanceledError`, `PartialSnapshotError`, or what failed."""
        ...

    def restore(self, request: RestoreRequest, cancel: CancelToken) -> Result:
        """Restore the volume and sync it; raises `CanceledError` or what failed."""
        ...


class Engine(Protocol):
    """Opens repositories."""

    def open(self, access: RepositoryAccess, source: str = "") -> AbstractContextManager[OpenRepository]:
        """Open the repository, with its credentials read from the files named.

        `source` is the directory that will be backed up, if one will: it may be looked at meanwhile.
        """
        ...
