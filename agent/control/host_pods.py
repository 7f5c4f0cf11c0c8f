"""Whether `/host_pods` is the kubelet's pods directory: looked at once at start, said, and not insisted on.

Upstream's agent ends where a running pod has no directory; but a pod that starts or ends at the same moment
has none either, so here it is a warning. What cannot be found later fails with its own message.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from exposer.host_path import pod_directory
from kube.api import POD, Kube, KubeError, Selection, list_all

if TYPE_CHECKING:
    from pathlib import Path

Json = dict[str, Any]

log = logging.getLogger(__name__)

_SHOWN_MAX = 5


async def check_host_pods(kube: Kube, node: str, host_pods: Path) -> None:
    """Warn if running pods of the node have no directory there."""
    if not await asyncio.to_thread(host_pods.exists):
        return
    try:
        pods = await list_all(kube, POD, "", Selection(fields=f"spec.nodeName={node},status.phase=Running"))
    except KubeError as error:
        log.warning("host-pods volume was not checked", extra={"error": str(error)})
        return
    names = await asyncio.to_thread(_without_directory, pods, host_pods)
    if names:
        log.warning(
            "unexpected directory structure for host-pods volume, ensure that the host-pods volume "
            "corresponds to the pods subdirectory of the kubelet root directory",
            extra={"pods": names[:_SHOWN_MAX]},
        )


def _without_directory(pods: list[Json], host_pods: Path) -> list[str]:
    return [pod["metadata"]["name"] for pod in pods if not (host_pods / pod_directory(pod)).exists()]
