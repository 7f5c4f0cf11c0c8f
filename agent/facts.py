"""What the agent keeps in mind of pods and nodes: small facts read from the API's JSON. Pure.

Three views of pods: hosting pods and node-agents in Velero's namespace, and on this node the pods that wait
for a restore. Everything else is dropped on arrival, so memory does not grow with the cluster.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from exposer.access_point import AccessPoint, VolumeMode, access_point
from exposer.hosting_pod import MOVER_LABEL, HostingPod, PodState, mover_container, view_hosting_pod

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]

RESTORE_WAIT_CONTAINER = "restore-wait"
AGENT_ROLE = "node-agent"
# On agents that the server must not take for those that serve pod volumes: deploy/beside-upstream.
AGENT_LABEL = "kopia-data-mover.io/agent"
WINDOWS_AGENT_NAME = "node-agent-windows"
_UPSTREAM_MOVER_LABELS = (
    "velero.io/data-upload",
    "velero.io/data-download",
    "velero.io/pod-volume-backup",
    "velero.io/pod-volume-restore",
)


@dataclass(frozen=True, slots=True)
class VeleroPod:
    """A pod of Velero's namespace that matters: a hosting pod, or a node-agent (`agent_name`)."""

    hosting: HostingPod
    access: AccessPoint = field(default_factory=lambda: AccessPoint("", VolumeMode.FILESYSTEM))
    agent_name: str = ""
    node: str = ""
    mount_paths: tuple[str, ...] = ()

    @property
    def is_running_agent(self) -> bool:
        """Whether a node-agent of ours or of upstream's works on its node."""
        return bool(self.agent_name) and self.hosting.state is PodState.RUNNING


def read_velero_pod(body: Json) -> VeleroPod | None:
    """Keep hosting pods and node-agents."""
    labels = body["metadata"].get("labels") or {}
    node = body.get("spec", {}).get("nodeName", "")
    if AGENT_ROLE in (labels.get("role"), labels.get("name")) or AGENT_LABEL in labels:
        return VeleroPod(view_hosting_pod(body), agent_name=labels.get("name", AGENT_ROLE), node=node)
    if MOVER_LABEL in labels or any(label in labels for label in _UPSTREAM_MOVER_LABELS):
        mounts = mover_container(body).get("volumeMounts") or []
        paths = tuple(mount["mountPath"] for mount in mounts)
        return VeleroPod(view_hosting_pod(body), access=access_point(body), node=node, mount_paths=paths)
    return None


@dataclass(frozen=True, slots=True)
class WaitingPod:
    """A pod of this node with an init container that waits for restores.

    `waits`: it is running now. `is_first`: nothing runs before it that might miss what is not restored yet.
    """

    uid: str
    waits: bool
    is_first: bool = True


def read_waiting_pod(body: Json) -> WaitingPod | None:
    """Keep pods with the container `restore-wait`; its status is found by its place, as upstream does."""
    containers = body.get("spec", {}).get("initContainers") or []
    places = [place for place, c in enumerate(containers) if c["name"] == RESTORE_WAIT_CONTAINER]
    if not places:
        return None
    statuses = (body.get("status") or {}).get("initContainerStatuses") or []
    state = statuses[places[0]].get("state") or {} if places[0] < len(statuses) else {}
    waits = state.get("running") is not None
    return WaitingPod(uid=body["metadata"]["uid"], waits=waits, is_first=places[0] == 0)


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node: its labels decide on slots, its system on who may serve it.

    `is_silent`: its kubelet has not been heard of for so long that the control plane gave it up; what the API
    says of its pods is old.
    """

    labels: Mapping[str, str]
    is_silent: bool = False

    @property
    def is_windows(self) -> bool:
        """Whether only a Windows agent can work there."""
        return self.labels.get("kubernetes.io/os") == "windows"


def read_node(body: Json) -> NodeFacts:
    """Keep the labels, and whether the node reports."""
    conditions = (body.get("status") or {}).get("conditions") or []
    silent = any(one.get("type") == "Ready" and one.get("status") == "Unknown" for one in conditions)
    return NodeFacts(dict(body["metadata"].get("labels") or {}), is_silent=silent)
