"""What a hosting pod inherits from the node-agent DaemonSet. Pure, apart from `read_template`.

Image, environment, credentials, accounts and DNS come from there, so that an operator configures one object.
Host paths do not: a mover that reads a CSI volume needs none, and fewer rights are better (upstream's main
branch does the same). Third-party labels, annotations and tolerations are upstream's short lists; a mover
that its volume binds to a node tolerates there whatever the agent does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from exposer.errors import ExposeError
from kube.api import DAEMON_SET, Kube, find

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]

DAEMON_SET_DEFAULT = "node-agent"
_INHERITED_OF_POD = (
    "serviceAccountName",
    "dnsPolicy",
    "dnsConfig",
    "hostAliases",
    "imagePullSecrets",
    "runtimeClassName",
)
_INHERITED_LABELS = ("azure.workload.identity/use",)
_INHERITED_ANNOTATIONS = ("iam.amazonaws.com/role",)
_INHERITED_TOLERATIONS = ("kubernetes.azure.com/scalesetpriority", "CriticalAddonsOnly")


class TemplateError(ExposeError):
    """The node-agent DaemonSet cannot serve as a template."""


@dataclass(frozen=True, slots=True)
class Template:
    """The inherited parts, as the API spells them; `host_pods_path` is what `/host_pods` shows.

    `node_tolerations` are all that the DaemonSet has: for movers that can run on one node alone.
    """

    image: str
    container: Json = field(default_factory=dict)
    pod: Json = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Json, ...] = ()
    node_tolerations: tuple[Json, ...] = ()
    volumes: tuple[Json, ...] = ()
    mounts: tuple[Json, ...] = ()
    host_pods_path: str = ""


def template_from_daemon_set(body: Json) -> Template:
    """Take the parts out of the DaemonSet.

    Raises:
        TemplateError: it has not exactly one container.
    """
    meta, spec = body["spec"]["template"].get("metadata") or {}, body["spec"]["template"]["spec"]
    containers = spec["containers"]
    if len(containers) != 1:
        raise TemplateError(
            f"DaemonSet {body['metadata']['name']} must have exactly one container, not {len(containers)}"
        )
    container = containers[0]
    volumes = [volume for volume in spec.get("volumes") or [] if "hostPath" not in volume]
    names = {volume["name"] for volume in volumes}
    return Template(
        image=container["image"],
        container=_picked(container, "env", "envFrom"),
        pod=_picked(spec, *_INHERITED_OF_POD),
        labels=_picked(meta.get("labels") or {}, *_INHERITED_LABELS),
        annotations=_picked(meta.get("annotations") or {}, *_INHERITED_ANNOTATIONS),
        tolerations=tuple(t for t in spec.get("tolerations") or [] if t.get("key") in _INHERITED_TOLERATIONS),
        node_tolerations=tuple(spec.get("tolerations") or []),
        volumes=tuple(volumes),
        mounts=tuple(mount for mount in container.get("volumeMounts") or [] if mount["name"] in names),
        host_pods_path=_host_pods_path(spec),
    )


def _picked(source: Mapping[str, Any], *keys: str) -> Json:
    return {key: source[key] for key in keys if source.get(key)}


def _host_pods_path(spec: Json) -> str:
    paths = (
        v["hostPath"]["path"]
        for v in spec.get("volumes") or []
        if v["name"] == "host-pods" and "hostPath" in v
    )
    return next(paths, "")


async def read_template(kube: Kube, namespace: str, name: str) -> Template:
    """Read the DaemonSet and take its parts; done anew for each pod, so that a change needs no restart."""
    body = await find(kube, DAEMON_SET, namespace, name)
    if body is None:
        raise TemplateError(f"DaemonSet {namespace}/{name} does not exist; hosting pods are modelled on it")
    return template_from_daemon_set(body)
