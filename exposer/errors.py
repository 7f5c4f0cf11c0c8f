"""What exposing a volume can go wrong with.

ExposeError                     .temporary: bool   .context: dict
├── VolumeNotFoundError         the PVC, PV, snapshot or pod that should be exposed is not there
├── SnapshotNotReadyError       (temporary) the driver has not finished, or says why it cannot
├── NotRetainedError            (temporary) what must outlive its object is not set to Retain
├── NameTakenError              (temporary) an object of the name that ours is to have is there
├── CopyTakenError              a Secret of somebody else is where the copy of a volume's must be
├── ForeignVolumeError          a claim of ours got a volume that was there before and is somebody's
├── TargetBoundError            the target of a restore already has a volume
├── TargetMisfitError           the target of a restore asks for what the restored volume is not
├── RebindError                 the data is restored, but its PV could not be given to the target
└── UnsupportedVolumeError      nothing of ours can reach such a volume

The API's own errors are `kube.api.KubeError`, with the same two attributes; a wait in vain is
`kube.waiting.WaitTimeoutError`. `exposer` may not import
`repository`, hence a root of its own; the agent joins both trees.
"""

from __future__ import annotations

from typing import ClassVar


class ExposeError(Exception):
    """The root. `temporary` says whether trying again can help."""

    temporary: ClassVar[bool] = False

    def __init__(self, message: str, **context: str) -> None:
        super().__init__(message)
        self.context = context


class VolumeNotFoundError(ExposeError):
    """What should be exposed does not exist."""


class SnapshotNotReadyError(ExposeError):
    """The CSI driver has not made the snapshot ready."""

    temporary = True


class NotRetainedError(ExposeError):
    """The API server does not show the policy Retain that was asked for: nothing may be deleted yet."""

    temporary = True


class NameTakenError(ExposeError):
    """Somebody else's object, or one of an earlier namesake of the move, is in the place of ours."""

    temporary = True


class CopyTakenError(ExposeError):
    """A Secret or ConfigMap of somebody's own is where the copy of a volume's must be."""


class ForeignVolumeError(ExposeError):
    """A claim of ours was bound to a PV that was not made for it: it is not read, written or deleted."""


class TargetBoundError(ExposeError):
    """The target PVC of a restore is bound already."""


class TargetMisfitError(ExposeError):
    """Kubernetes would leave the target Pending for ever beside the restored volume."""


class RebindError(ExposeError):
    """The restored PV could not be bound to the target PVC; the PV is kept and named."""


class UnsupportedVolumeError(ExposeError):
    """A kind of volume that cannot be reached."""
