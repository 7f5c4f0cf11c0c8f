"""What was exposed: where in the hosting pod the volume is, and in which mode."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from exposer.hosting_pod import mover_container, mover_container_name

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
    """Where a hosting pod has its volume: at `/<uid>`, as planned; `path` is empty where it has none there.

    The mover's own container is asked, and no other, in which way the volume is at that path. Webhooks put
    containers, mounts and devices of their own in any place.
    """
    container, path = mover_container(pod), f"/{mover_container_name(pod)}"
    if any(device["devicePath"] == path for device in container.get("volumeDevices") or []):
        return AccessPoint(path, VolumeMode.BLOCK)
    if any(mount["mountPath"] == path for mount in container.get("volumeMounts") or []):
        return AccessPoint(path, VolumeMode.FILESYSTEM)
    return AccessPoint("", VolumeMode.FILESYSTEM)


def volume_mode_of(claim: Json) -> VolumeMode:
    """Read the mode that a PVC asks for; absent means Filesystem."""
    return VolumeMode(claim["spec"].get("volumeMode") or "Filesystem")
