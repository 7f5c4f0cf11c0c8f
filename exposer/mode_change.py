"""A restored device for a target of mode Filesystem: the same volume of the driver under a new PV object.

A PV's mode cannot be changed. The new object is written in full, and read back, before the old one is
deleted; both are `Retain` until then, so at no moment the volume's handle is only in memory (upstream deletes
first). Its name follows from the move, so that a successor of a crashed agent finds it.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from exposer.access_point import VolumeMode, volume_mode_of
from exposer.errors import NotRetainedError
from exposer.ownership import BOUND_BY_CONTROLLER
from exposer.removal import RESTORED_LABEL
from kube.api import PV, ensure_created
from kube.waiting import wait_gone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exposer.exposure import Exposure

Json = dict[str, Any]

# Says which process provisioned a volume: the new object was provisioned by nobody (as upstream drops it).
_PROVISIONER_IDENTITY = "storage.kubernetes.io/csiProvisionerIdentity"
_OF_THE_OBJECT = ("claimRef", "volumeMode", "persistentVolumeReclaimPolicy")


def changed_name(uid: str) -> str:
    """Name the PV that takes the place of the one that a restore was made on."""
    return f"restored-{uid}"


def needs_change(volume: Json, claim: Json) -> bool:
    """Whether a restored device is wanted as a volume of files."""
    return volume_mode_of(volume) is VolumeMode.BLOCK and volume_mode_of(claim) is VolumeMode.FILESYSTEM


def changed_volume(volume: Json, claim: Json, fs_type: str, uid: str) -> Json:
    """The PV of the target's mode for the same volume, meant for the target alone. Pure.

    Annotations are kept: without `pv.kubernetes.io/provisioned-by` nobody would delete the volume when the
    claim goes. The reclaim policy is Retain; what it is to be is noted on it as on the old one.
    """
    meta, spec = volume["metadata"], copy.deepcopy(volume["spec"])
    for key in _OF_THE_OBJECT:
        spec.pop(key, None)
    driver = spec.get("csi") or {}
    driver.get("volumeAttributes", {}).pop(_PROVISIONER_IDENTITY, None)
    if fs_type and driver:
        driver["fsType"] = fs_type
    annotations = {k: v for k, v in (meta.get("annotations") or {}).items() if k != BOUND_BY_CONTROLLER}
    wanted = (claim["spec"].get("selector") or {}).get("matchLabels") or {}
    target = {key: claim["metadata"][key] for key in ("namespace", "name")}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": changed_name(uid),
            "labels": wanted | (meta.get("labels") or {}),
            "annotations": annotations,
        },
        "spec": spec
        | {
            "volumeMode": VolumeMode.FILESYSTEM.value,
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim"} | target,
        },
    }


async def change_mode(exposure: Exposure, wanted: Json) -> None:
    """Make the new object, or find it made.

    Raises:
        NotRetainedError: what the API server has under its name is not what was asked for, in full.
    """
    await ensure_created(exposure.kube, PV, "", wanted)
    name = wanted["metadata"]["name"]
    made = await exposure.kube.get(PV, "", name)
    label = (made["metadata"].get("labels") or {}).get(RESTORED_LABEL)
    same = label == wanted["metadata"]["labels"].get(RESTORED_LABEL)
    if not same or _handle(made) != _handle(wanted) or not _handle(made):
        raise NotRetainedError(f"PV {name} is there and does not hold the volume that was restored")


async def drop_replaced(exposure: Exposure, marked: Sequence[Json]) -> None:
    """Delete the objects that the new one has taken the place of; the volume itself stays with it.

    Raises:
        NotRetainedError: to delete one would delete the volume.
    """
    kept = [one for one in marked if one["metadata"]["name"] == changed_name(exposure.uid)]
    for volume in marked:
        name, uid = volume["metadata"]["name"], volume["metadata"]["uid"]
        if not kept or volume in kept or _handle(volume) != _handle(kept[0]):
            continue
        if volume["spec"].get("persistentVolumeReclaimPolicy") != "Retain":
            raise NotRetainedError(f"PV {name} is not set to Retain any more; it is left")
        exposure.tell(f"PV {name} makes room for PV {changed_name(exposure.uid)}, of mode Filesystem")
        await exposure.kube.delete(PV, "", name, uid=uid)
        await wait_gone(exposure.kube, PV, "", name, uid=uid, timeout_seconds=exposure.operation_seconds)


def _handle(volume: Json) -> tuple[str, str]:
    driver = volume["spec"].get("csi") or {}
    return driver.get("driver", ""), driver.get("volumeHandle", "")
