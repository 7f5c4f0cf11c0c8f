"""The Kopia repository for Python programs.

    import repository

    with repository.open_repository("/srv/backups", password) as session:
        result = session.backup("/home/me")
        for entry in session.walk(result.snapshot.id):
            print(entry.path, entry.size_bytes)
        with session.open_file(f"{result.snapshot.id}/notes.txt") as file:
            file.seek(100)
            print(file.read(10))

Long calls let other threads run, take a `Progress` whose counters can be read meanwhile, and a `CancelToken`.
Names are imported when they are first used: the command line's start-up is part of its speed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from repository.engine import CancelToken, ChangedBlocks, Progress
    from repository.errors import CanceledError, DataMoverError
    from repository.requests import (
        BackupOptions,
        BlockBackupOptions,
        BlockRestoreOptions,
        ConnectionOptions,
        CreateOptions,
        OpenOptions,
        RestoreOptions,
        Source,
        Stream,
        Throttle,
        VerifyOptions,
    )
    from repository.session import Session, create_repository, open_repository
    from repository.snapshots import (
        BackupResult,
        BlockBackupResult,
        BlockRestoreResult,
        Damage,
        Difference,
        Entry,
        FailedEntry,
        RestoreResult,
        Snapshot,
        VerifyResult,
    )

__all__ = [
    "BackupOptions",
    "BackupResult",
    "BlockBackupOptions",
    "BlockBackupResult",
    "BlockRestoreOptions",
    "BlockRestoreResult",
    "CancelToken",
    "CanceledError",
    "ChangedBlocks",
    "ConnectionOptions",
    "CreateOptions",
    "Damage",
    "DataMoverError",
    "Difference",
    "Entry",
    "FailedEntry",
    "OpenOptions",
    "Progress",
    "RestoreOptions",
    "RestoreResult",
    "Session",
    "Snapshot",
    "Source",
    "Stream",
    "Throttle",
    "VerifyOptions",
    "VerifyResult",
    "create_repository",
    "open_repository",
]

_MODULES = {
    "engine": ("CancelToken", "ChangedBlocks", "Progress"),
    "errors": ("CanceledError", "DataMoverError"),
    "requests": (
        "BackupOptions",
        "BlockBackupOptions",
        "BlockRestoreOptions",
        "ConnectionOptions",
        "CreateOptions",
        "OpenOptions",
        "RestoreOptions",
        "Source",
        "Stream",
        "Throttle",
        "VerifyOptions",
    ),
    "session": ("Session", "create_repository", "open_repository"),
    "snapshots": (
        "BackupResult",
        "BlockBackupResult",
        "BlockRestoreResult",
        "Damage",
        "Difference",
        "Entry",
        "FailedEntry",
        "RestoreResult",
        "Snapshot",
        "VerifyResult",
    ),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module  # noqa: PLC0415 - on first use only

    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"repository.{module}"), name)
    raise AttributeError(f"module 'repository' has no attribute {name!r}")
