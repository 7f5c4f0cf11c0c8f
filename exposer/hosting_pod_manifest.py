"""Pure builder of the hosting pod: the pod in which a mover works on one volume, once.

The mover gets its request through the downward API: `REQUEST_ANNOTATION` of its own pod is a file in
`REQUEST_DIRECTORY`, empty until the agent says start, and so is the wish to cancel. Where it can, the agent
writes the same into `SIGNAL_DIRECTORY`, a second earlier (`exposer/signal_file.py`). So the mover needs no
access to the API and no token. Credentials are Secrets mounted below `SECRETS_DIRECTORY`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from exposer.authority import AUTHORITY_KEY
from exposer.changed_blocks import token_mount, token_volume
from exposer.hosting_pod import CANCEL_ANNOTATION, MOVER_LABEL, REQUEST_ANNOTATION
from exposer.manifests import metadata
from exposer.signal_file import SIGNAL_VOLUME

if TYPE_CHECKING:
    from exposer.settings import ExposeSettings, LoadAffinity
    from exposer.template import Template
    from kube.api import OwnerReference

Json = dict[str, Any]

REQUEST_DIRECTORY = "/etc/kopia-data-mover"
SIGNAL_DIRECTORY = "/etc/kopia-data-mover-signal"
REQUEST_FILE, CANCEL_FILE = "request", "cancel"
SECRETS_DIRECTORY = "/var/run/kopia-data-mover"
AUTHORITY_DIRECTORY = f"{SECRETS_DIRECTORY}/authority"
AUTHORITY_PATH = f"{AUTHORITY_DIRECTORY}/{AUTHORITY_KEY}"
CACHE_DIRECTORY = "/cachedir"
TMP_DIRECTORY = "/tmp"  # noqa: S108 - an emptyDir in the pod
POD_GROUP_LABEL = "velero.io/exposer-pod-group"
HOSTNAME_LABEL = "kubernetes.io/hostname"
OS_LABEL = "kubernetes.io/os"
# A mover is not moved: evicted to save a node, it fails and its backup or restore with it.
_LEAVE_ALONE = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
_CORDON = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}
_NODE_NAME_FIELD = "metadata.name"  # the label kubernetes.io/hostname is another name on EKS or OKE
_GRACE_SECONDS = 30
# Reading and restoring files of any owner needs these of root's rights, no others. DAC_OVERRIDE reads too:
# DAC_READ_SEARCH beside it would put the pod outside of the pod security level `baseline`.
_CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP"]
_READING_CAPABILITIES = ["DAC_OVERRIDE"]


@dataclass(frozen=True, slots=True)
class SecretMount:
    """A key of a Secret of Velero's namespace, as a file `<SECRETS_DIRECTORY>/<name>/<key>` in the pod.

    `spare_key` is one that may come and go; its file does too.
    """

    name: str
    secret: str
    key: str
    spare_key: str = ""

    @property
    def path(self) -> str:
        """Where the mover reads it."""
        return f"{SECRETS_DIRECTORY}/{self.name}/{self.key}"

    @property
    def spare_path(self) -> str:
        """Where the mover finds the spare one while there is one; empty if there never is."""
        return f"{SECRETS_DIRECTORY}/{self.name}/{self.spare_key}" if self.spare_key else ""

    def volume(self) -> Json:
        """The entry of `spec.volumes`; optional as a whole where a key may be missing."""
        keys = [key for key in (self.key, self.spare_key) if key]
        items = [{"key": key, "path": key} for key in keys]
        source: Json = {"secretName": self.secret, "items": items}
        return {"name": self.name, "secret": source | ({"optional": True} if self.spare_key else {})}


@dataclass(frozen=True, slots=True)
class HostingVolume:
    """The volume to be moved: a claim or a path of the node, mounted or, as a device, handed over raw."""

    claim: str = ""
    host_path: str = ""
    is_block: bool = False
    read_only: bool = False

    def source(self, name: str) -> Json:
        """The entry of `spec.volumes`."""
        if self.host_path:
            return {"name": name, "hostPath": {"path": self.host_path}}
        return {"name": name, "persistentVolumeClaim": {"claimName": self.claim, "readOnly": self.read_only}}

    def access(self, name: str, path: str) -> Json:
        """The part of the container that mounts or maps it."""
        if self.is_block and not self.host_path:
            return {"volumeDevices": [{"name": name, "devicePath": path}]}
        mount: Json = {"name": name, "mountPath": path}
        if self.read_only:
            mount["readOnly"] = True
        if self.host_path:
            mount["mountPropagation"] = "HostToContainer"
        return {"volumeMounts": [mount]}


@dataclass(frozen=True, slots=True)
class HostingPodPlan:
    """All that shapes one hosting pod. `uid` names its container, its volume and the path `/<uid>`.

    `authority_map` is the ConfigMap with the location's CA certificates (`exposer/authority.py`), if they
    need one; it may be made after the pod. `notes` are annotations of ours. `token_audience`: of the
    changed-block service that the mover will ask (`exposer/changed_blocks.py`).
    """

    name: str
    namespace: str
    uid: str
    owner: OwnerReference
    command: tuple[str, ...]
    volume: HostingVolume
    labels: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    token_audience: str = ""
    pod_group: str = ""
    secrets: tuple[SecretMount, ...] = ()
    authority_map: str = ""
    cache_claim: str = ""
    node_name: str = ""
    selected_node: str = ""
    affinity: LoadAffinity | None = None
    topology: tuple[Json, ...] = ()
    avoid_nodes: tuple[str, ...] = ()
    privileged: bool = False
    reads_only: bool = False
    relabel: bool = True

    @property
    def path(self) -> str:
        """Where the volume is in the pod."""
        return f"/{self.uid}"


def hosting_pod(plan: HostingPodPlan, template: Template, settings: ExposeSettings) -> Json:
    """Build the pod."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(
            plan.name,
            plan.namespace,
            owner=plan.owner,
            labels=_labels(plan, template, settings),
            annotations=_LEAVE_ALONE | dict(settings.pod_annotations or template.annotations) | plan.notes,
        ),
        "spec": _spec(plan, template, settings),
    }


def _labels(plan: HostingPodPlan, template: Template, settings: ExposeSettings) -> dict[str, str]:
    labels = dict(settings.pod_labels or template.labels) | plan.labels | {MOVER_LABEL: "true"}
    return labels | ({POD_GROUP_LABEL: plan.pod_group} if plan.pod_group else {})


def _spec(plan: HostingPodPlan, template: Template, settings: ExposeSettings) -> Json:
    spec: Json = dict(template.pod) | {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "os": {"name": "linux"},
        "containers": [_container(plan, template, settings)],
        "volumes": _volumes(plan, template),
        "tolerations": _tolerations(plan, template),
        "securityContext": {"runAsUser": 0, "seccompProfile": {"type": "RuntimeDefault"}} | _selinux(plan),
    }
    if plan.node_name:
        spec["nodeName"] = plan.node_name
    else:
        spec |= _placement(plan)
    if plan.token_audience and settings.changed_block_account:
        spec["serviceAccountName"] = settings.changed_block_account
    if settings.priority_class:
        spec["priorityClassName"] = settings.priority_class
    return spec


def _tolerations(plan: HostingPodPlan, template: Template) -> list[Json]:
    """Tolerate on the one node that is possible what its agent tolerates, a cordon too."""
    if plan.node_name or plan.selected_node:
        return [*template.node_tolerations, _CORDON]
    return list(template.tolerations)


def _selinux(plan: HostingPodPlan) -> Json:
    return {} if plan.relabel else {"seLinuxOptions": {"type": "spc_t"}}


def _container(plan: HostingPodPlan, template: Template, settings: ExposeSettings) -> Json:
    container: Json = dict(template.container) | plan.volume.access(plan.uid, plan.path)
    extra: list[Json] = [
        {"name": "request", "mountPath": REQUEST_DIRECTORY, "readOnly": True},
        {"name": SIGNAL_VOLUME, "mountPath": SIGNAL_DIRECTORY, "readOnly": True},
        {"name": "tmp", "mountPath": TMP_DIRECTORY},
    ]
    extra += [
        {"name": s.name, "mountPath": f"{SECRETS_DIRECTORY}/{s.name}", "readOnly": True} for s in plan.secrets
    ]
    if plan.authority_map:
        extra.append({"name": "authority", "mountPath": AUTHORITY_DIRECTORY, "readOnly": True})
    if plan.token_audience:
        extra.append(token_mount())
    if plan.cache_claim:
        extra.append({"name": "cache", "mountPath": CACHE_DIRECTORY})
    return container | {
        "name": plan.uid,
        "image": template.image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(plan.command),
        "volumeMounts": [*container.get("volumeMounts", []), *_inherited_mounts(template, extra), *extra],
        "resources": settings.resources,
        "securityContext": _security(plan),
        "terminationMessagePolicy": "File",
    }


def _security(plan: HostingPodPlan) -> Json:
    if plan.privileged:
        return {"privileged": True}
    return {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": _READING_CAPABILITIES if plan.reads_only else _CAPABILITIES},
    }


def _inherited_mounts(template: Template, own: list[Json]) -> list[Json]:
    """What the DaemonSet mounts, but for what we mount there ourselves: its own `/tmp`, for instance."""
    names, paths = {mount["name"] for mount in own}, {mount["mountPath"] for mount in own}
    return [m for m in template.mounts if m["name"] not in names and m["mountPath"] not in paths]


def _volumes(plan: HostingPodPlan, template: Template) -> list[Json]:
    """List our own volumes and those of the DaemonSet that do not bear one of our names."""
    own = _own_volumes(plan)
    names = {volume["name"] for volume in own}
    first, *rest = own
    return [first, *(volume for volume in template.volumes if volume["name"] not in names), *rest]


def _own_volumes(plan: HostingPodPlan) -> list[Json]:
    volumes = [plan.volume.source(plan.uid), _request_volume()]
    volumes += [{"name": name, "emptyDir": {}} for name in (SIGNAL_VOLUME, "tmp")]
    volumes += [secret.volume() for secret in plan.secrets]
    if plan.authority_map:
        items = [{"key": AUTHORITY_KEY, "path": AUTHORITY_KEY}]
        volumes.append({"name": "authority", "configMap": {"name": plan.authority_map, "items": items}})
    if plan.token_audience:
        volumes.append(token_volume(plan.token_audience))
    if plan.cache_claim:
        volumes.append({"name": "cache", "persistentVolumeClaim": {"claimName": plan.cache_claim}})
    return volumes


def _request_volume() -> Json:
    items = [
        {"path": path, "fieldRef": {"fieldPath": f"metadata.annotations['{annotation}']"}}
        for path, annotation in ((REQUEST_FILE, REQUEST_ANNOTATION), (CANCEL_FILE, CANCEL_ANNOTATION))
    ]
    return {"name": "request", "downwardAPI": {"items": items}}


def _placement(plan: HostingPodPlan) -> Json:
    placement: Json = {"affinity": {"nodeAffinity": _node_affinity(plan)}}
    if plan.pod_group:
        placement["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": HOSTNAME_LABEL,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {POD_GROUP_LABEL: plan.pod_group}},
            }
        ]
    return placement


def _node_affinity(plan: HostingPodPlan) -> Json:
    """What is wanted of the node, appended to each term of the volume's topology, or as one term."""
    wanted: list[Json] = []
    if plan.affinity is not None:
        labels = plan.affinity.match_labels.items()
        wanted += [{"key": key, "operator": "In", "values": [value]} for key, value in labels]
        wanted += plan.affinity.match_expressions
    wanted.append({"key": OS_LABEL, "operator": "NotIn", "values": ["windows"]})
    names = _node_names(plan)
    terms = []
    for term in plan.topology or ({},):
        joined = term | {"matchExpressions": [*(term.get("matchExpressions") or []), *wanted]}
        if names:
            joined["matchFields"] = [*(term.get("matchFields") or []), *names]
        terms.append(joined)
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}


def _node_names(plan: HostingPodPlan) -> list[Json]:
    """Name the node that is wanted and those that are not; the API takes one value in each."""
    wanted = [("In", plan.selected_node)] if plan.selected_node else []
    wanted += [("NotIn", node) for node in plan.avoid_nodes]
    return [{"key": _NODE_NAME_FIELD, "operator": operator, "values": [node]} for operator, node in wanted]
