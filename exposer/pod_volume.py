"""Exposes a volume of a running pod through its host path on the pod's node (contract 2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exposer.access_point import VolumeMode
from exposer.errors import UnsupportedVolumeError, VolumeNotFoundError
from exposer.exposure import cache_name
from exposer.host_path import is_unmounted, locate, on_node, pod_directory, volume_directory
from exposer.hosting_pod_manifest import HostingVolume
from exposer.removal import remove_claim, remove_pod
from exposer.template import read_template
from exposer.volume_nodes import WINDOWS, node_os
from kube.api import NODE, POD, find

if TYPE_CHECKING:
    from exposer.exposure import Exposure

Json = dict[str, Any]

HOST_PODS = Path("/host_pods")


@dataclass(frozen=True, slots=True)
class PodVolume:
    """A volume of one pod; `uid` is the pod's, empty where it is not known (hand-made resources).

    `read_only`: it is to be backed up, while its application works on it.
    """

    namespace: str
    pod: str
    uid: str
    volume: str
    read_only: bool = False


async def expose_pod_volume(exposure: Exposure, wanted: PodVolume, *, host_pods: Path = HOST_PODS) -> None:
    """Make the volume reachable by a hosting pod on the same node, created when this returns.

    Raises:
        ExposeError: the pod or its volume is not there, is another of its name, or not on a linux node.
    """
    namespace, pod_name, volume = wanted.namespace, wanted.pod, wanted.volume
    pod = await _scheduled_pod(exposure, wanted)
    node = pod["spec"]["nodeName"]
    directory, mode = await volume_directory(exposure.kube, pod, volume)
    if mode is VolumeMode.BLOCK:
        raise UnsupportedVolumeError(f"volume {volume} of pod {namespace}/{pod_name} is a block device")
    template = await read_template(exposure.kube, exposure.namespace, exposure.daemon_set)
    if not template.host_pods_path:
        raise UnsupportedVolumeError(
            "the node-agent DaemonSet has no volume host-pods: fs-backup is switched off"
        )
    path = locate(host_pods, pod_directory(pod), directory, mode)
    if directory.endswith("/mount") and is_unmounted(_read_mounts(), host_pods, path):
        raise VolumeNotFoundError(
            f"nothing is mounted at {path}: the CSI driver has not mounted volume {volume} of pod "
            f"{namespace}/{pod_name}, or has lost it; an empty directory is not taken for it"
        )
    await exposure.create_cache(node)
    await exposure.create_pod(
        exposure.plan(
            HostingVolume(
                host_path=on_node(path, host_pods, template.host_pods_path), read_only=wanted.read_only
            ),
            node_name=node,
            privileged=exposure.settings.privileged_fs_backup,
            reads_only=wanted.read_only,
        )
    )


def _read_mounts() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text(errors="replace")
    except OSError:
        return ""


async def _scheduled_pod(exposure: Exposure, wanted: PodVolume) -> Json:
    namespace, name = wanted.namespace, wanted.pod
    pod = await find(exposure.kube, POD, namespace, name)
    if pod is None or not pod["spec"].get("nodeName"):
        raise VolumeNotFoundError(f"pod {namespace}/{name} does not exist or runs on no node")
    if wanted.uid not in ("", pod["metadata"]["uid"]):
        raise VolumeNotFoundError(
            f"pod {namespace}/{name} was made anew: its UID is {pod['metadata']['uid']} and not "
            f"{wanted.uid}; another pod's volume is not taken for it"
        )
    phase = (pod.get("status") or {}).get("phase", "")
    if phase in ("Succeeded", "Failed"):
        raise VolumeNotFoundError(
            f"pod {namespace}/{name} has ended ({phase}): its node has unmounted its volumes"
        )
    node = await find(exposure.kube, NODE, "", pod["spec"]["nodeName"])
    if node is not None and node_os(node) == WINDOWS:
        raise UnsupportedVolumeError(
            f"pod {namespace}/{name} runs on Windows, which this node-agent does not serve"
        )
    return pod


async def hide_pod_volume(exposure: Exposure) -> None:
    """Take back the hosting pod and its cache; the volume itself was never ours."""
    await remove_pod(exposure.kube, exposure.namespace, exposure.name, exposure.uid)
    await remove_claim(exposure.kube, exposure.namespace, cache_name(exposure.name), exposure.uid)
