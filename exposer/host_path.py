"""Where a pod's volume is on the node: the kubelet's directory, as the agent sees it and as the node does.

Reads the directory tree below `/host_pods`; everything else is pure.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from exposer.access_point import VolumeMode, volume_mode_of
from exposer.errors import UnsupportedVolumeError, VolumeNotFoundError
from kube.api import CSI_DRIVER, PV, PVC, Kube, find

if TYPE_CHECKING:
    from pathlib import Path

Json = dict[str, Any]

_MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
_FIXED = 6  # fields of mountinfo before the optional ones (proc(5))
_DRIVER_ANNOTATIONS = ("pv.kubernetes.io/provisioned-by", "pv.kubernetes.io/migrated-to")


async def volume_directory(kube: Kube, pod: Json, volume_name: str) -> tuple[str, VolumeMode]:
    """Name the volume's directory below the pod's `volumes/<plugin>/`, and say its mode.

    Raises:
        VolumeNotFoundError: the pod has no such volume, or its PVC no PV.
    """
    volume = next((v for v in pod["spec"].get("volumes") or [] if v["name"] == volume_name), None)
    meta = pod["metadata"]
    if volume is None:
        raise VolumeNotFoundError(f"pod {meta['namespace']}/{meta['name']} has no volume {volume_name}")
    claim_name = _claim_name(pod, volume)
    if not claim_name:
        return (f"{volume_name}/mount" if "csi" in volume else volume_name), VolumeMode.FILESYSTEM
    return await _claim_directory(kube, meta["namespace"], claim_name)


def _claim_name(pod: Json, volume: Json) -> str:
    if "ephemeral" in volume:
        return f"{pod['metadata']['name']}-{volume['name']}"
    return str((volume.get("persistentVolumeClaim") or {}).get("claimName", ""))


async def _claim_directory(kube: Kube, namespace: str, claim_name: str) -> tuple[str, VolumeMode]:
    claim = await find(kube, PVC, namespace, claim_name)
    name = (claim or {}).get("spec", {}).get("volumeName", "")
    volume = await find(kube, PV, "", name) if name else None
    if claim is None or volume is None:
        raise VolumeNotFoundError(f"PVC {namespace}/{claim_name} does not exist or has no PV")
    mode = volume_mode_of(claim)
    mounted = mode is VolumeMode.FILESYSTEM and await _is_csi(kube, volume)
    return (f"{name}/mount" if mounted else name), mode


async def _is_csi(kube: Kube, volume: Json) -> bool:
    if volume["spec"].get("csi"):
        return True
    annotations = volume["metadata"].get("annotations") or {}
    drivers = [annotations[key] for key in _DRIVER_ANNOTATIONS if annotations.get(key)]
    return any([await find(kube, CSI_DRIVER, "", driver) is not None for driver in drivers])


def pod_directory(pod: Json) -> str:
    """Name a pod's directory: its UID, or of a static pod the hash that the kubelet knows it by."""
    meta = pod["metadata"]
    return str((meta.get("annotations") or {}).get(_MIRROR_ANNOTATION) or meta["uid"])


def locate(host_pods: Path, pod_name: str, directory: str, mode: VolumeMode) -> Path:
    """Find the one path below `host_pods` that is the volume; `pod_name` as `pod_directory` names it.

    Raises:
        VolumeNotFoundError: there is none (the kubelet's directory is elsewhere, or the volume is not
        mounted). UnsupportedVolumeError: more than one matches.
    """
    kind = "volumeDevices" if mode is VolumeMode.BLOCK else "volumes"
    found = sorted((host_pods / pod_name / kind).glob(f"*/{directory}"))
    if not found:
        raise VolumeNotFoundError(
            f"no volume at {host_pods}/{pod_name}/{kind}/*/{directory}: is volume host-pods of the "
            "node-agent DaemonSet the kubelet's pods directory?"
        )
    if len(found) > 1:
        raise UnsupportedVolumeError(
            f"more than one path for volume {directory}: {', '.join(map(str, found))}"
        )
    return found[0]


def is_unmounted(mounts: str, host_pods: Path, path: Path) -> bool:
    """Whether nothing is mounted at a CSI volume's directory: it looks like a volume that is empty.

    `mounts` is this process's `/proc/self/mountinfo`. A volume may be a bind mount of the same file system,
    so devices say nothing; and what the kubelet mounts is seen here only where `/host_pods` follows
    the node's mounts (`mountPropagation: HostToContainer`). Else nothing is known, and the answer is False.
    """
    points = {fields[4]: fields[6:] for line in mounts.splitlines() if len(fields := line.split()) > _FIXED}
    optional = itertools.takewhile(lambda field: field != "-", points.get(str(host_pods), []))
    follows = any(field.startswith("master:") for field in optional)
    return follows and str(path) not in points


def on_node(path: Path, host_pods: Path, node_path: str) -> str:
    """Translate the agent's path into the node's: `host_pods` is mounted from `node_path`."""
    return f"{node_path.rstrip('/')}/{path.relative_to(host_pods)}"
