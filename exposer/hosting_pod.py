"""What a hosting pod is at, read from its JSON: waiting and why, running and where, ended and how.

Pure. The one place that decides which troubles of a pod can heal by themselves (an image that is being
pulled, a node that an autoscaler brings) and which cannot. Who acts on it is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Json = dict[str, Any]

REQUEST_ANNOTATION = "kopia-data-mover.io/request"
CANCEL_ANNOTATION = "kopia-data-mover.io/cancel"
# Of a block backup: the driver's handles of the snapshot (what the next backup asks for changes since) and of
# the source volume. On the pod, since the agent that starts the mover may not be the one that exposed it.
CHANGE_ID_ANNOTATION = "kopia-data-mover.io/change-id"
VOLUME_ID_ANNOTATION = "kopia-data-mover.io/volume-id"
MOVER_LABEL = "kopia-data-mover.io/mover"

# A waiting container that will not start whatever one waits for. Pulls and missing Secrets are not among
# them.
_HOPELESS_WAITING = frozenset({"ErrImageNeverPull", "InvalidImageName"})
_ORDINARY_WAITING = frozenset({"", "ContainerCreating", "PodInitializing"})


class PodState(StrEnum):
    """Where a hosting pod stands."""

    ABSENT = "absent"
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class HostingPod:
    """One hosting pod. `reason` is for people and may be empty; `heals` says whether waiting can help."""

    state: PodState
    name: str = ""
    uid: str = ""
    owner_uid: str = ""
    node: str = ""
    os: str = ""
    reason: str = ""
    heals: bool = True
    deleting: bool = False
    termination_message: str = ""
    request_sent: bool = False
    cancel_sent_at: str = ""
    is_ours: bool = True

    @property
    def has_ended(self) -> bool:
        """The mover process is over, one way or the other."""
        return self.state in (PodState.SUCCEEDED, PodState.FAILED)


ABSENT = HostingPod(PodState.ABSENT)


def view_hosting_pod(body: Json | None) -> HostingPod:
    """Read a pod as the API gives it; `None` is a pod that is not there."""
    if body is None:
        return ABSENT
    state, reason, heals = _standing(body)
    meta = body["metadata"]
    annotations = meta.get("annotations") or {}
    return HostingPod(
        state=state,
        name=meta["name"],
        uid=meta.get("uid", ""),
        owner_uid=mover_container_name(body),
        node=body.get("spec", {}).get("nodeName", ""),
        os=(body.get("spec", {}).get("os") or {}).get("name", ""),
        reason=reason,
        heals=heals,
        deleting="deletionTimestamp" in meta,
        termination_message=_mover_ended(body).get("message", ""),
        request_sent=bool(annotations.get(REQUEST_ANNOTATION)),
        cancel_sent_at=annotations.get(CANCEL_ANNOTATION, ""),
        is_ours=MOVER_LABEL in (meta.get("labels") or {}),
    )


def mover_container_name(pod: Json) -> str:
    """Name the container in which the mover is: the UID of the move, which is the pod's controller."""
    owners = pod["metadata"].get("ownerReferences") or []
    controllers = [owner["uid"] for owner in owners if owner.get("controller")]
    return str(next(iter([*controllers, *(owner["uid"] for owner in owners)]), ""))


def mover_container(pod: Json) -> Json:
    """Return the mover's container as the pod specifies it; empty if it is not there (any more)."""
    name = mover_container_name(pod)
    containers = (pod.get("spec") or {}).get("containers") or []
    return next((container for container in containers if container.get("name") == name), {})


def _standing(body: Json) -> tuple[PodState, str, bool]:
    status = body.get("status") or {}
    phase = status.get("phase", "Pending")
    ended = _mover_ended(body)
    # A pod is over when its mover is: a sidecar may stay alive, or fail when it is stopped.
    if ended.get("exitCode") == 0 or (phase == "Succeeded" and not ended):
        return PodState.SUCCEEDED, "", True
    if ended or phase == "Failed":
        return PodState.FAILED, _failure(body), False
    if phase == "Unknown":
        return PodState.FAILED, "pod phase is Unknown: its node does not report", False
    if phase == "Running":
        return PodState.RUNNING, "", True
    return _waiting(status)


def _waiting(status: Json) -> tuple[PodState, str, bool]:
    for container in _container_statuses(status):
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if reason not in _ORDINARY_WAITING:
            return (
                PodState.PENDING,
                _joined(reason, waiting.get("message", "")),
                reason not in _HOPELESS_WAITING,
            )
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return (
                PodState.PENDING,
                _joined(condition.get("reason", "Unschedulable"), condition.get("message", "")),
                True,
            )
    return PodState.PENDING, "", True


def _failure(body: Json) -> str:
    """Why a pod failed, from the pod and from its containers; never empty."""
    status = body.get("status") or {}
    parts = [_joined(status.get("reason", ""), status.get("message", ""))]
    ended = _mover_ended(body)
    if ended:
        parts.append(_ending("mover", ended))
    else:
        parts += [
            _ending(f"container {name}", state) for name, state in _terminated(status) if _failed(state)
        ]
    if ended.get("reason") == "OOMKilled":
        parts.append("raise podResources.memoryLimit in the node-agent ConfigMap")
    return "; ".join(part for part in parts if part) or "pod failed without a reason"


def _ending(who: str, terminated: Json) -> str:
    reason = terminated.get("reason", "")
    told = f" ({reason})" if reason not in ("", "Error") else ""
    return f"{who} ended with exit code {terminated.get('exitCode')}{told}"


def _failed(terminated: Json) -> bool:
    return terminated.get("exitCode") != 0


def _container_statuses(status: Json) -> list[Json]:
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _terminated(status: Json) -> list[tuple[str, Json]]:
    states = (
        (container.get("name", ""), (container.get("state") or {}).get("terminated"))
        for container in _container_statuses(status)
    )
    return [(name, terminated) for name, terminated in states if terminated]


def _mover_ended(body: Json) -> Json:
    """How the mover's own container ended; empty while it has not. Others' words are not the mover's."""
    mover = mover_container_name(body)
    return next((state for name, state in _terminated(body.get("status") or {}) if name == mover), {})


def _joined(reason: str, message: str) -> str:
    return f"{reason}: {message}" if reason and message else reason or message
