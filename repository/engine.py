"""The one door to the extension `repository._native`; nothing else may import it.

Here only names and types. The prose of each name is in `_native.pyi`.
"""

from __future__ import annotations

from repository._native import (
    BUILD_PROFILE,
    Ahead,
    Batches,
    CancelToken,
    ChangedBlocks,
    File,
    Progress,
    Repository,
    __version__,
    change_password,
    check_policy,
    copy_snapshots,
    drain_events,
    error_kinds,
    health,
    maintain,
    maintenance_info,
    measure_tree,
    repair,
    roll_back_upgrade,
    set_maintenance_owner,
    set_parameters,
    sync_to,
    upgrade,
    validate_upgrade,
    verify_repository,
)

__all__ = [
    "BUILD_PROFILE",
    "Ahead",
    "Batches",
    "CancelToken",
    "ChangedBlocks",
    "File",
    "Progress",
    "Repository",
    "__version__",
    "change_password",
    "check_policy",
    "copy_snapshots",
    "drain_events",
    "error_kinds",
    "health",
    "maintain",
    "maintenance_info",
    "measure_tree",
    "repair",
    "roll_back_upgrade",
    "set_maintenance_owner",
    "set_parameters",
    "sync_to",
    "upgrade",
    "validate_upgrade",
    "verify_repository",
]
