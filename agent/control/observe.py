"""Observe: all that the phase machine may look at for one move, from caches and, rarely, the API."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent.moves.cluster_facts import why_never_waits
from agent.moves.custom_resources import (
    DataDownloadSpec,
    DataUploadSpec,
    Move,
    Phase,
    PodVolumeRestoreSpec,
    parse_time,
)
from agent.moves.outcome import read_outcome
from agent.moves.phases import is_ours, owner_node, static_refusal
from agent.moves.status_patch import recorded_outcome
from agent.moves.steps import Job, JobState, Observed, Outcome, OwnerState
from exposer.hosting_pod import ABSENT, HostingPod, PodState, view_hosting_pod
from exposer.rebind import restored_volumes
from exposer.volume_nodes import WINDOWS, volume_os
from kube.api import POD, PVC, find
from kube.pod_warnings import newest_warning

if TYPE_CHECKING:
    from datetime import datetime

    from agent.control.world import World

Json = dict[str, Any]


async def observe(move: Move, world: World) -> Observed:
    """Gather the facts about one move."""
    pod = world.hosting_pod(move)
    hosting = await _explained(pod.hosting if pod else ABSENT, move, world)
    recorded = recorded_outcome(move)
    owner = owner_node(move)
    now = world.now()
    waited = world.waits.seconds(move.uid, _waits_since(move), now)
    turn = _turn_in_seconds(move, waited, world)
    newcomer = await _newcomer(move, turn, world)
    owner_state = await _owner_state(owner, turn, world)
    return Observed(
        move=move,
        node=world.node,
        now=now,
        mover_names=world.config.mover_names,
        candidate=newcomer.candidate,
        sole_candidate=newcomer.sole,
        admission=newcomer.admission,
        admission_is_near=newcomer.is_near,
        refusal=newcomer.refusal,
        queue_open=newcomer.queue_open,
        turn_in_seconds=0.0 if newcomer.sole else turn,
        has_slot=move.uid in world.slots.holders,
        pod=hosting,
        outcome=recorded or _outcome(move, hosting, world),
        outcome_recorded=recorded is not None,
        jobs=world.jobs.views(move.uid),
        waited_seconds=waited,
        owner=owner_state,
        owner_missing_seconds=world.missing_seconds(owner),
        cancel_sent_seconds=_cancel_sent_seconds(move, hosting, now, world),
        restored_volume=await _restored_volume(move, owner_state, world) if recorded and not turn else "",
        limits=world.limits,
    )


def _turn_in_seconds(move: Move, waited_seconds: float, world: World) -> float:
    """When it is for this agent to act, where that is nobody's or the owner is not at work; else 0.

    The situation is what, once changed, asks somebody to act anew: the first in rank does so at once.
    """
    owner = owner_node(move)
    served = world.serves(owner)
    if not is_ours(move, world.config.mover_names) or (owner and served):
        world.turns.forget(move.uid)
        return 0.0
    missing, limits = world.missing_seconds(owner), world.limits
    situation = (
        move.phase,
        move.cancel_wanted,
        move.has_finalizer,
        served,
        move.phase is Phase.NEW and world.queue_is_full(),
        waited_seconds >= limits.prepare_seconds,
        missing >= limits.agent_missing_seconds,
        missing >= limits.cancel_grace_seconds,
    )
    return world.turn_in_seconds(move, situation)


async def _owner_state(owner: str, turn_in_seconds: float, world: World) -> OwnerState:
    """What is known of the owner; before it is our turn nothing is asked, since nothing follows from it."""
    if turn_in_seconds:
        return OwnerState.ALIVE if world.serves(owner) else OwnerState.AGENT_MISSING
    return await world.owner_state(owner)


async def _explained(hosting: HostingPod, move: Move, world: World) -> HostingPod:
    """Add why a hosting pod does not get on: its claim is lost, or the cluster warns of something."""
    pending = move.phase is Phase.ACCEPTED and hosting.state is PodState.PENDING
    if not pending or owner_node(move) != world.node:
        return hosting
    lost = await _lost_claim(move, world)
    if lost:
        return replace(hosting, reason=lost, heals=False)
    warning = await newest_warning(world.kube, move.namespace, move.name)
    return replace(hosting, reason="; ".join(text for text in (hosting.reason, warning) if text))


async def _lost_claim(move: Move, world: World) -> str:
    """Say that the claim of an exposed volume is gone, or its volume is; empty: it is not, or has none."""
    exposed = world.jobs.views(move.uid).get(Job.EXPOSE)
    if move.kind.is_pod_volume or exposed is None or exposed.state is not JobState.DONE:
        return ""
    claim = await find(world.kube, PVC, move.namespace, move.name)
    name = f"PVC {move.namespace}/{move.name} of the hosting pod"
    if claim is None:
        return f"{name} was deleted"
    if (claim.get("status") or {}).get("phase") != "Lost":
        return ""
    return f"{name} is Lost: its PV {claim['spec'].get('volumeName', '')} does not exist any more"


async def _restored_volume(move: Move, owner: OwnerState, world: World) -> str:
    """Name the PV that a lost owner has restored and not given to its target."""
    lost = owner is not OwnerState.ALIVE and move.phase is Phase.IN_PROGRESS
    if not lost or not isinstance(move.spec, DataDownloadSpec):
        return ""
    volumes = await restored_volumes(world.kube, move.uid)
    return ", ".join(volume["metadata"]["name"] for volume in volumes)


def _waits_since(move: Move) -> datetime:
    return (move.accepted_at if move.phase is not Phase.NEW else None) or move.created_at


def _outcome(move: Move, hosting: HostingPod, world: World) -> Outcome | None:
    """How the mover ended: by its pod, or by the last that was seen of a pod deleted since."""
    if move.phase not in (Phase.IN_PROGRESS, Phase.CANCELING):
        return None
    return read_outcome(move.kind, hosting) or world.last_words.get(move.uid)


def _cancel_sent_seconds(move: Move, hosting: HostingPod, now: datetime, world: World) -> float:
    """Seconds since the mover was told to stop; a time that somebody else has scribbled counts as now."""
    if not hosting.cancel_sent_at:
        return 0.0
    try:
        sent_at = parse_time(hosting.cancel_sent_at)
    except (ValueError, OverflowError):
        return 0.0
    return world.waits.seconds(move.uid, sent_at, now)


@dataclass(frozen=True, slots=True)
class _Newcomer:
    """A `New` move: may we take it, may nobody else, why not yet (and is that on its way), why never."""

    candidate: bool = True
    sole: bool = False
    admission: str = ""
    is_near: bool = False
    refusal: str = ""
    queue_open: bool = True


_NO_QUESTIONS = _Newcomer()


async def _newcomer(move: Move, turn_in_seconds: float, world: World) -> _Newcomer:
    """Ask what must be known before a `New` move is accepted; of others nothing.

    The prepare queue first, out of memory: a move that waits there costs no request. Who has a place and is
    kept out by something else gives it back.
    """
    newcomer = await _admitted(move, turn_in_seconds, world)
    kept_out = newcomer.refusal or newcomer.admission or not newcomer.candidate
    if kept_out or newcomer is _NO_QUESTIONS:
        world.line.leave(move.uid)
    return newcomer


async def _admitted(move: Move, turn_in_seconds: float, world: World) -> _Newcomer:
    ours = is_ours(move, world.config.mover_names) and owner_node(move) in ("", world.node)
    if move.phase is not Phase.NEW or move.cancel_wanted or not ours:
        return _NO_QUESTIONS
    refusal = static_refusal(move)
    if refusal:
        return _Newcomer(refusal=refusal)
    if isinstance(move.spec, PodVolumeRestoreSpec):
        restore = await _pod_volume_restore(move.spec, turn_in_seconds, world)
        return replace(restore, queue_open=restore.candidate and world.queue_has_room(move))
    has_room = world.queue_has_room(move)
    if not has_room or turn_in_seconds:
        return _Newcomer(queue_open=has_room)
    return await _data_move(move, world)


async def _data_move(move: Move, world: World) -> _Newcomer:
    if await _is_windows(move, world):
        windows = "windows volumes are not supported by this node-agent; run node-agent-windows beside it"
        return _Newcomer(candidate=False) if world.agents.has_windows else _Newcomer(refusal=windows)
    return _Newcomer(admission=await _missing_target(move, world))


async def _pod_volume_restore(spec: PodVolumeRestoreSpec, turn_in_seconds: float, world: World) -> _Newcomer:
    """A restore into a pod belongs to the agent of the node where the pod's init container waits for it."""
    waiting = world.waiting_pods.get(spec.pod_namespace, spec.pod_name)
    if waiting is not None and spec.pod_uid in ("", waiting.uid):
        name = f"pod {spec.pod_namespace}/{spec.pod_name}"
        if waiting.hopeless:
            return _Newcomer(sole=True, refusal=_not_ready(name, waiting.hopeless))
        admission = "" if waiting.waits else f"init container restore-wait of {name} is not running"
        return _Newcomer(sole=True, admission=admission, is_near=True)
    if turn_in_seconds:
        return _Newcomer(candidate=False)
    pod = await find(world.kube, POD, spec.pod_namespace, spec.pod_name)
    never = _why_never_restored(spec, pod)
    if never or pod is None:
        missing = f"pod {spec.pod_namespace}/{spec.pod_name} does not exist"
        return _Newcomer(candidate=False, refusal=never, admission=missing)
    node = pod["spec"].get("nodeName", "")
    why = await _why_not_yet_restored(spec, pod, world)
    return _Newcomer(candidate=False, admission=why, is_near=not node)


def _not_ready(pod: str, why: str) -> str:
    """What upstream says in front, and why, of a restore whose pod can never take it."""
    return f"Pod for this PVR is not ready: {pod}: {why}"


def _why_never_restored(spec: PodVolumeRestoreSpec, pod: Json | None) -> str:
    """Say what of a pod will never change and keeps everybody from restoring into it; empty: nothing."""
    if pod is None:
        return ""
    name = f"pod {spec.pod_namespace}/{spec.pod_name}"
    if spec.pod_uid not in ("", pod["metadata"]["uid"]):
        return f"{name} was made anew since the restore: its UID is not {spec.pod_uid}"
    if (pod.get("status") or {}).get("phase") == "Succeeded":
        return _not_ready(name, "it has ended (Succeeded); nothing reads its volumes any more")
    why = why_never_waits(pod)
    return _not_ready(name, why) if why else ""


async def _why_not_yet_restored(spec: PodVolumeRestoreSpec, pod: Json, world: World) -> str:
    """Say why no node's agent takes a restore into a pod yet; empty if one will."""
    name = f"pod {spec.pod_namespace}/{spec.pod_name}"
    node = pod["spec"].get("nodeName", "")
    if not node:
        reason = view_hosting_pod(pod).reason
        return f"{name} runs on no node yet" + (f": {reason}" if reason else "")
    if await world.owner_state(node) is OwnerState.ALIVE:
        return ""
    return f"no node-agent runs on node {node} of {name}"


async def _is_windows(move: Move, world: World) -> bool:
    if isinstance(move.spec, DataDownloadSpec):
        return move.spec.node_os == WINDOWS and await world.other_nodes.has_windows()
    if not isinstance(move.spec, DataUploadSpec) or not await world.other_nodes.has_windows():
        return False
    claim = await find(world.kube, PVC, move.spec.source_namespace, move.spec.source_pvc)
    return claim is not None and await volume_os(world.kube, claim) == WINDOWS


async def _missing_target(move: Move, world: World) -> str:
    """The server creates a DataDownload before the PVC that it is for."""
    if not isinstance(move.spec, DataDownloadSpec):
        return ""
    namespace, name = move.spec.target_namespace, move.spec.target_pvc
    if await find(world.kube, PVC, namespace, name):
        return ""
    return f"target PVC {namespace}/{name} does not exist yet"
