"""A location's CA certificates, where they are too many for the mover's request: a ConfigMap beside the pod.

The request travels in an annotation, and Kubernetes allows 256 KiB for all annotations of an object; a
bundle of a Linux distribution is larger than that. The ConfigMap belongs to the hosting pod, so the garbage
collector takes it away with the pod, whoever deletes that. It is made right after the pod, whose UID it
needs: a kubelet that is faster tries the mount again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exposer.manifests import metadata
from kube.api import OwnerReference

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]

AUTHORITY_KEY = "ca.crt"


def authority_name(pod_name: str) -> str:
    """Name the ConfigMap of a hosting pod."""
    return f"{pod_name}-ca"


def authority_config_map(pod: Mapping[str, Any], certificates: str) -> Json:
    """Build it; `certificates` is PEM in base64, as the location's `caCert` has it."""
    meta = pod["metadata"]
    owner = OwnerReference("v1", "Pod", meta["name"], meta["uid"])
    name = authority_name(meta["name"])
    return {
        "metadata": metadata(name, meta["namespace"], owner=owner),
        "binaryData": {AUTHORITY_KEY: certificates},
    }
