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
# Reasons for which a container that waits to be started is given up, as by upstream.
_NEVER_STARTS = frozenset(
    {
        "ImagePullBackOff",
        "ErrImagePull",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "InvalidImageName",
    }
)
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
    is_unready: bool = False

    @property
    def serves(self) -> bool:
        """Whether a node-agent works on its node and is heard of.

        The control plane sets the condition `Ready` of all pods of a node that is silent to False, so nobody
        need watch nodes for that.
        """
        return self.is_running_agent and not self.is_unready

    @property
    def is_running_agent(self) -> bool:
        """Whether a node-agent of ours or of upstream's works on its node."""
        return bool(self.agent_name) and self.hosting.state is PodState.RUNNING


def read_velero_pod(body: Json) -> VeleroPod | None:
    """Keep hosting pods and node-agents."""
    labels = body["metadata"].get("labels") or {}
    node = body.get("spec", {}).get("nodeName", "")
    if AGENT_ROLE in (labels.get("role"), labels.get("name")) or AGENT_LABEL in labels:
        return VeleroPod(
            view_hosting_pod(body),
            agent_name=labels.get("name", AGENT_ROLE),
            node=node,
            is_unready=_is_unready(body),
        )
    if MOVER_LABEL in labels or any(label in labels for label in _UPSTREAM_MOVER_LABELS):
        mounts = mover_container(body).get("volumeMounts") or []
        paths = tuple(mount["mountPath"] for mount in mounts)
        return VeleroPod(view_hosting_pod(body), access=access_point(body), node=node, mount_paths=paths)
    return None


def _is_unready(body: Json) -> bool:
    conditions = (body.get("status") or {}).get("conditions") or []
    return any(one.get("type") == "Ready" and one.get("status") == "False" for one in conditions)


@dataclass(frozen=True, slots=True)
class WaitingPod:
    """A pod of this node with an init container that waits for restores.

    `waits`: it is running now. `is_first`: nothing runs before it that might miss what is not restored yet.
    `hopeless`: why it never will run (again), as far as anybody can tell; empty while it may.
    """

    uid: str
    waits: bool
    is_first: bool = True
    hopeless: str = ""


def read_waiting_pod(body: Json) -> WaitingPod | None:
    """Keep pods with the container `restore-wait`; its status is found by its place, as upstream does."""
    place = _restore_wait_place(body)
    if place is None:
        return None
    waits = _restore_wait_state(body, place).get("running") is not None
    uid: str = body["metadata"]["uid"]
    return WaitingPod(uid=uid, waits=waits, is_first=place == 0, hopeless=why_never_waits(body))


def _restore_wait_place(body: Json) -> int | None:
    containers = body.get("spec", {}).get("initContainers") or []
    return next((i for i, c in enumerate(containers) if c["name"] == RESTORE_WAIT_CONTAINER), None)


def _restore_wait_state(body: Json, place: int) -> Json:
    statuses = (body.get("status") or {}).get("initContainerStatuses") or []
    return (statuses[place].get("state") or {}) if place < len(statuses) else {}


def why_never_waits(body: Json) -> str:
    """Why a pod will never wait for a restore (contract of Velero 1.19); empty while it may yet.

    Source: Velero `pkg/controller/pod_volume_restore_controller.go`; behaviour only.
    """
    phase, message = (
        (body.get("status") or {}).get("phase", ""),
        (body.get("status") or {}).get("message", ""),
    )
    if phase in ("Failed", "Unknown"):
        return f"it is {phase}" + (f": {message}" if message else "")
    place = _restore_wait_place(body)
    if place is None:
        return f"it has no init container {RESTORE_WAIT_CONTAINER}"
    state = _restore_wait_state(body, place)
    if state.get("terminated"):
        code = state["terminated"].get("exitCode")
        return f"init container {RESTORE_WAIT_CONTAINER} is over already (exit code {code})"
    waiting = state.get("waiting") or {}
    if waiting.get("reason") not in _NEVER_STARTS:
        return ""
    said = ": ".join(text for text in (waiting["reason"], waiting.get("message", "")) if text)
    return f"init container {RESTORE_WAIT_CONTAINER} cannot start: {said}"


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
