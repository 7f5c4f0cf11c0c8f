"""What was exposed: where in the hosting pod the volume is, and in which mode."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from exposer.changed_blocks import ChangedBlockService, noted_service
from exposer.hosting_pod import (
    CHANGE_ID_ANNOTATION,
    VOLUME_ID_ANNOTATION,
    mover_container,
    mover_container_name,
)

Json = dict[str, Any]


class VolumeMode(StrEnum):
    """Kubernetes' two volume modes."""

    FILESYSTEM = "Filesystem"
    BLOCK = "Block"


@dataclass(frozen=True, slots=True)
class AccessPoint:
    """`path` is a directory (Filesystem) or a device (Block) inside the hosting pod.

    `change_id` and `volume_id` are the driver's handles of snapshot and source volume, `service` its
    changed-block service, of a block backup.
    """

    path: str
    volume_mode: VolumeMode
    change_id: str = ""
    volume_id: str = ""
    service: ChangedBlockService | None = None


def access_point(pod: Json) -> AccessPoint:
    """Where a hosting pod has its volume: at `/<uid>`, as planned; `path` is empty where it has none there.

    The mover's own container is asked, and no other, in which way the volume is at that path. Webhooks put
    containers, mounts and devices of their own in any place.
    """
    container, path = mover_container(pod), f"/{mover_container_name(pod)}"
    if any(device["devicePath"] == path for device in container.get("volumeDevices") or []):
        notes = pod["metadata"].get("annotations") or {}
        change_id, volume_id = (notes.get(note, "") for note in (CHANGE_ID_ANNOTATION, VOLUME_ID_ANNOTATION))
        return AccessPoint(path, VolumeMode.BLOCK, change_id, volume_id, noted_service(notes))
    if any(mount["mountPath"] == path for mount in container.get("volumeMounts") or []):
        return AccessPoint(path, VolumeMode.FILESYSTEM)
    return AccessPoint("", VolumeMode.FILESYSTEM)


def volume_mode_of(claim: Json) -> VolumeMode:
    """Read the mode that a PVC asks for; absent means Filesystem."""
    return VolumeMode(claim["spec"].get("volumeMode") or "Filesystem")
