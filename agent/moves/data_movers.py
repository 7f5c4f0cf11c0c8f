"""The names in `spec.datamover` that Velero's own server writes, and which of them can be served. Pure.

Until 1.18 the server left the field empty or wrote `velero`; since 1.19 it writes `velero-fs` or
`velero-block` into every DataUpload and DataDownload (Velero `pkg/util/datamover/datamover.go`,
`pkg/controller/backup_controller.go`). Empty and `velero` mean the default of the release that wrote them,
which has been the file system mover in every release.
"""

from __future__ import annotations

FILE_SYSTEM_MOVERS = frozenset({"", "velero", "velero-fs"})
BLOCK_MOVER = "velero-block"
BUILT_IN_MOVERS = FILE_SYSTEM_MOVERS | {BLOCK_MOVER}

# The one place to lift the refusal: a name that is not in here is served.
_REFUSED = {
    BLOCK_MOVER: (
        f"data mover {BLOCK_MOVER} is not supported by this node-agent, which would write another layout "
        "than asked for; set Backup.spec.datamover (or the volume policy's dataMover) to velero-fs"
    )
}


class UnsupportedMoverError(ValueError):
    """A move asks for a data mover of Velero's that this one cannot stand in for."""

    temporary = False


def mover_refusal(name: str) -> str:
    """Why a data mover of Velero's that we answer to cannot be served; empty if it can."""
    return _REFUSED.get(name, "")


def check_mover(name: str) -> None:
    """Refuse before anything is written.

    Raises:
        UnsupportedMoverError: what would be written, or read, has another layout than asked for.
    """
    refusal = mover_refusal(name)
    if refusal:
        raise UnsupportedMoverError(refusal)
