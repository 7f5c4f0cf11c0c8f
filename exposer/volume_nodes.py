"""Where a volume is: the nodes it is attached to, and the operating system that its files belong to."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from exposer.access_point import VolumeMode, volume_mode_of
from exposer.manifests import SELECTED_NODE_ANNOTATION
from kube.api import (
    NODE,
    STORAGE_CLASS,
    VOLUME_ATTACHMENT,
    ForbiddenError,
    Kube,
    KubeError,
    Selection,
    find,
    list_all,
)
from kube.waiting import wait_gone

if TYPE_CHECKING:
    from collections.abc import Iterable

Json = dict[str, Any]

log = logging.getLogger(__name__)

OS_LABEL = "kubernetes.io/os"
WINDOWS, LINUX = "windows", "linux"


async def attached_nodes(kube: Kube, volume: str) -> list[str] | None:
    """Nodes that have the PV attached; `None` where attachments cannot be listed."""
    try:
        attachments = await list_all(kube, VOLUME_ATTACHMENT)
    except KubeError as error:
        log.warning("nodes of a volume are unknown", extra={"volume": volume, "error": str(error)})
        return None
    return _nodes_of(attachments, volume)


async def wait_detached(kube: Kube, volume: str, *, timeout_seconds: float) -> None:
    """Wait until the PV is attached nowhere: what was written may leave a node's cache as late as that.

    Every attachment that is there now is waited for. An agent that may not read them (roles of before) says
    so and does not wait.

    Raises:
        WaitTimeoutError: one is still there.
    """
    end = time.monotonic() + timeout_seconds
    try:
        attachments = await list_all(kube, VOLUME_ATTACHMENT)
        for name in [a["metadata"]["name"] for a in attachments if _volume_of(a) == volume]:
            left = max(end - time.monotonic(), 0.0)
            await wait_gone(kube, VOLUME_ATTACHMENT, "", name, timeout_seconds=left)
    except ForbiddenError as error:
        log.warning("detaching is not waited for", extra={"volume": volume, "error": str(error)})


def _volume_of(attachment: Json) -> str:
    return str(attachment["spec"]["source"].get("persistentVolumeName", ""))


def _nodes_of(attachments: Iterable[Json], volume: str) -> list[str]:
    return sorted({a["spec"]["nodeName"] for a in attachments if _volume_of(a) == volume})


async def has_windows_nodes(kube: Kube) -> bool:
    """Whether the cluster has any; if not, nobody need ask for a volume's system."""
    page = await kube.list(NODE, "", Selection(labels=f"{OS_LABEL}={WINDOWS}"), limit=1)
    return bool(page.items)


async def volume_os(kube: Kube, claim: Json) -> str:
    """`windows` or `linux`: by the node that has the volume, by the one chosen for it, by its file system."""
    if volume_mode_of(claim) is VolumeMode.BLOCK:
        return LINUX
    nodes = await attached_nodes(kube, claim["spec"].get("volumeName", "")) or []
    selected = (claim["metadata"].get("annotations") or {}).get(SELECTED_NODE_ANNOTATION)
    for name in [*nodes, *([selected] if selected else [])]:
        node = await find(kube, NODE, "", name)
        if node is not None:
            return node_os(node)
    return await _os_by_file_system(kube, claim["spec"].get("storageClassName") or "")


def node_os(node: Json) -> str:
    """Read the system of a node; whatever does not say windows is linux."""
    return WINDOWS if (node["metadata"].get("labels") or {}).get(OS_LABEL) == WINDOWS else LINUX


async def _os_by_file_system(kube: Kube, storage_class: str) -> str:
    body = await find(kube, STORAGE_CLASS, "", storage_class) if storage_class else None
    file_system = ((body or {}).get("parameters") or {}).get("csi.storage.k8s.io/fstype", "")
    return WINDOWS if file_system == "ntfs" else LINUX
