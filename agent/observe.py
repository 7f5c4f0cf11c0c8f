"""Observe: all that the phase machine may look at for one move, from caches and, rarely, the API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agent.outcome import read_outcome
from agent.phases import owner_node, static_refusal
from agent.resources import (
    DataDownloadSpec,
    DataUploadSpec,
    Move,
    Phase,
    PodVolumeRestoreSpec,
)
from agent.status_patch import recorded_outcome
from agent.steps import Observed, Outcome
from exposer.hosting_pod import ABSENT, HostingPod
from exposer.kube import POD, PVC, find
from exposer.volume_nodes import WINDOWS, volume_os

if TYPE_CHECKING:
    from agent.world import World


async def observe(move: Move, world: World) -> Observed:
    """Gather the facts about one move."""
    pod = world.hosting_pod(move)
    hosting = pod.hosting if pod else ABSENT
    recorded = recorded_outcome(move)
    owner = owner_node(move)
    candidate, admission, refusal = await _newcomer(move, world)
    now = world.now()
    return Observed(
        move=move,
        node=world.node,
        now=now,
        mover_names=world.config.mover_names,
        candidate=candidate,
        admission=admission,
        refusal=refusal,
        queue_open=world.queue_has_room(),
        has_slot=move.uid in world.slots.holders,
        pod=hosting,
        outcome=recorded or _outcome(move, hosting, world),
        outcome_recorded=recorded is not None,
        jobs=world.jobs.views(move.uid),
        owner=world.owner_state(owner),
        owner_missing_seconds=world.missing_seconds(owner),
        cancel_sent_seconds=_seconds_since(hosting.cancel_sent_at, now),
        limits=world.limits,
    )


def _outcome(move: Move, hosting: HostingPod, world: World) -> Outcome | None:
    """How the mover ended: by its pod, or by the last that was seen of a pod deleted since."""
    if move.phase not in (Phase.IN_PROGRESS, Phase.CANCELING):
        return None
    return read_outcome(move.kind, hosting) or world.last_words.get(move.uid)


def _seconds_since(text: str, now: datetime) -> float:
    if not text:
        return 0.0
    return (now - datetime.fromisoformat(text).astimezone(UTC)).total_seconds()


async def _newcomer(move: Move, world: World) -> tuple[bool, str, str]:
    """For a `New` move: may we take it, why not yet, why never. Others: no questions asked."""
    if move.phase is not Phase.NEW or move.cancel_wanted:
        return True, "", ""
    refusal = static_refusal(move)
    if refusal:
        return True, "", refusal
    if isinstance(move.spec, PodVolumeRestoreSpec):
        return await _pod_volume_restore(move, move.spec, world)
    if await _is_windows(move, world):
        windows = "windows volumes are not supported by this node-agent; run node-agent-windows beside it"
        return not world.has_windows_agent(), "", "" if world.has_windows_agent() else windows
    return True, await _missing_target(move, world), ""


async def _pod_volume_restore(move: Move, spec: PodVolumeRestoreSpec, world: World) -> tuple[bool, str, str]:
    """A restore into a pod belongs to the agent of the node where the pod's init container waits for it."""
    waiting = world.waiting_pods.get(spec.pod_namespace, spec.pod_name)
    if waiting is not None and spec.pod_uid in ("", waiting.uid):
        name = f"pod {spec.pod_namespace}/{spec.pod_name}"
        return True, "" if waiting.waits else f"init container restore-wait of {name} is not running", ""
    return False, "", await _vanished_pod(move, spec, world)


async def _vanished_pod(move: Move, spec: PodVolumeRestoreSpec, world: World) -> str:
    """Refuse a restore whose pod has been away for as long as preparing may take: it will not come."""
    if (world.now() - move.created_at).total_seconds() < world.config.prepare_timeout_seconds:
        return ""
    if await find(world.kube, POD, spec.pod_namespace, spec.pod_name):
        return ""
    return f"pod {spec.pod_namespace}/{spec.pod_name} does not exist"


async def _is_windows(move: Move, world: World) -> bool:
    if not any(node.is_windows for node in world.nodes.items.values()):
        return False
    if isinstance(move.spec, DataDownloadSpec):
        return move.spec.node_os == WINDOWS
    if not isinstance(move.spec, DataUploadSpec):
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
