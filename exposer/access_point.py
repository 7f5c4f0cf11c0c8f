"""What was exposed: where in the hosting pod the volume is, and in which mode."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Json = dict[str, Any]


class VolumeMode(StrEnum):
    """Kubernetes' two volume modes."""

    FILESYSTEM = "Filesystem"
    BLOCK = "Block"


@dataclass(frozen=True, slots=True)
class AccessPoint:
    """`path` is a directory (Filesystem) or a device (Block) inside the hosting pod."""

    path: str
    volume_mode: VolumeMode


def access_point(pod: Json) -> AccessPoint:
    """Read it back from a hosting pod: its first container's first device, else its first mount."""
    container = pod["spec"]["containers"][0]
    devices = container.get("volumeDevices") or []
    if devices:
        return AccessPoint(devices[0]["devicePath"], VolumeMode.BLOCK)
    mounts = container.get("volumeMounts") or [{"mountPath": ""}]
    return AccessPoint(mounts[0]["mountPath"], VolumeMode.FILESYSTEM)


def volume_mode_of(claim: Json) -> VolumeMode:
    """Read the mode that a PVC asks for; absent means Filesystem."""
    return VolumeMode(claim["spec"].get("volumeMode") or "Filesystem")
