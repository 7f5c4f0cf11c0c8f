"""The phase machine of all four resources: what was observed → the one next step. Pure, no clock, no I/O.

Read `next_step` from the top: a move that is not ours is ignored, a final one is only cleaned up, the others
go by phase. Who may act is decided by `_role`: the owner (the node that accepted, later the node that moves),
a candidate (anybody, for a `New` data move), or a bystander, who acts only when the owner's node is gone.

Three deviations from upstream, each on purpose: a hosting pod that cannot heal ends in `Failed` with its
reason and not in `Canceled`, because the server shows no message of a canceled move; a re-bind that fails
ends in `Failed` instead of staying `InProgress`; and the owner of an `Accepted` move begins to expose again
after a restart. Clean-up comes after the final phase; the finalizer is the note that it is still owed.
"""

from __future__ import annotations

from enum import StrEnum

from agent.moves.custom_resources import (
    DataDownloadSpec,
    DataUploadSpec,
    Move,
    Phase,
    PodVolumeBackupSpec,
    PodVolumeRestoreSpec,
)
from agent.moves.outcome import POD_DELETED
from agent.moves.phase_texts import texts_for
from agent.moves.steps import (
    CANCELED_SUFFIX,
    WAITING_PREFIX,
    Accept,
    Begin,
    BeginCancel,
    Finish,
    Hold,
    Ignore,
    Job,
    JobState,
    JobView,
    KillMover,
    Observed,
    Outcome,
    OwnerState,
    Prepare,
    RecordOutcome,
    Release,
    RunJob,
    SignalCancel,
    Step,
    Wait,
    WaitForSlot,
)
from exposer.hosting_pod import ABSENT, HostingPod, PodState

NOTICED_SECONDS = 5.0
IN_QUEUE = "in the prepare queue (loadConcurrency.prepareQueueLength)"
_PENDING_RECHECK_SECONDS = (5.0, 8.0)
_LOST_RECHECK_SECONDS = 15.0  # whether the node is gone: no watch says so
_PENDING_NEW_SECONDS = 120.0


class _Role(StrEnum):
    OWNER = "owner"
    CANDIDATE = "candidate"
    BYSTANDER = "bystander"


def next_step(seen: Observed) -> Step:
    """The one step that brings this move nearer to its end, as far as this agent may take it."""
    move = seen.move
    if not is_ours(move, seen.mover_names):
        return Ignore()
    role = _role(seen)
    if move.phase.is_final:
        return _after_the_end(seen, role)
    if role is _Role.BYSTANDER:
        return _for_lost_owner(seen)
    return _BY_PHASE[move.phase](seen)


def is_ours(move: Move, mover_names: frozenset[str]) -> bool:
    """Whether the move's mover name is one that we answer to; pod volumes carry none, which is a name too.

    An agent that answers to names of its own alone runs beside upstream's, which takes all pod volumes.
    """
    return move.data_mover in mover_names


def owner_node(move: Move) -> str:
    """The node whose agent must bring the move further; empty while anybody may."""
    if isinstance(move.spec, PodVolumeBackupSpec):
        return move.spec.node
    if move.node:
        return move.node
    return "" if move.phase is Phase.NEW else move.accepted_by


def _role(seen: Observed) -> _Role:
    owner = owner_node(seen.move)
    if owner == seen.node or (not owner and seen.move.phase.is_final):
        return _Role.OWNER
    if not owner and seen.candidate:
        return _Role.CANDIDATE
    # A data move is prepared by the agent on whose node the scheduler put the hosting pod, whoever accepted
    # it.
    if seen.move.phase is Phase.ACCEPTED and not seen.move.kind.is_pod_volume and seen.pod.node == seen.node:
        return _Role.CANDIDATE
    return _Role.BYSTANDER


def _for_lost_owner(seen: Observed) -> Step:
    """A bystander ends a move whose owner cannot; and what nobody has begun, where nobody can."""
    if seen.turn_in_seconds:
        return Wait(recheck_seconds=seen.turn_in_seconds)
    if seen.move.phase is Phase.NEW:
        step = _for_new_of_nobody(seen)
        if step is not None:
            return step
    owner = owner_node(seen.move)
    if seen.owner is OwnerState.NODE_GONE:
        return _lost(seen, f"node {owner} is gone")
    return _for_missing_agent(seen, owner) if seen.owner is OwnerState.AGENT_MISSING else Ignore()


def _for_new_of_nobody(seen: Observed) -> Step | None:
    if seen.move.cancel_wanted:
        return _canceled(seen)
    if seen.refusal:
        return Finish(Phase.FAILED, seen.refusal)
    return _not_yet(seen) if seen.admission else None


def _for_missing_agent(seen: Observed, owner: str) -> Step:
    """Wait for the owner's agent and say so, as long as preparing may take, or stopping a mover."""
    seconds, patience = seen.owner_missing_seconds, seen.limits.agent_missing_seconds
    if seen.move.cancel_wanted:
        patience = min(patience, seen.limits.cancel_grace_seconds)
    if seconds >= patience:
        return _lost(seen, f"no node-agent has been running on node {owner} for {int(seconds)} s")
    if seconds < NOTICED_SECONDS:  # an agent that is updated is back by then
        return Wait(recheck_seconds=NOTICED_SECONDS - seconds)
    return Wait(f"no node-agent answers on node {owner}", min(patience - seconds, _LOST_RECHECK_SECONDS))


def _lost(seen: Observed, why: str) -> Step:
    if seen.move.cancel_wanted:
        return _canceled(seen)
    if seen.restored_volume:
        kept = f"its data is whole on PV {seen.restored_volume}, which is kept"
        return Finish(Phase.FAILED, f"{why}; {kept}: bind that, or run the restore again")
    return Finish(Phase.FAILED, f"{why}; run the {'backup' if seen.move.kind.is_backup else 'restore'} again")


def _after_the_end(seen: Observed, role: _Role) -> Step:
    if not seen.move.has_finalizer:
        return Ignore()
    if seen.turn_in_seconds:
        return Wait(recheck_seconds=seen.turn_in_seconds)
    if role is _Role.BYSTANDER and not _is_given_up(seen):
        return Ignore()
    return _by_job(seen, Job.CLEAN_UP, done=Release())


def _is_given_up(seen: Observed) -> bool:
    """Whether the owner's node will hardly clean up any more."""
    missing = seen.owner_missing_seconds >= seen.limits.agent_missing_seconds
    return seen.owner is OwnerState.NODE_GONE or (seen.owner is OwnerState.AGENT_MISSING and missing)


def _by_job(seen: Observed, job: Job, *, done: Step) -> Step:
    """Begin a job and wait for it; `done` follows it."""
    view = seen.job(job)
    if view.state is JobState.DONE:
        return done
    if view.state is JobState.RUNNING:
        return Wait(view.reason)
    return RunJob(job)


def _new(seen: Observed) -> Step:
    if seen.turn_in_seconds:
        return Wait(recheck_seconds=seen.turn_in_seconds)
    if seen.move.cancel_wanted:
        return _canceled(seen)
    if seen.refusal:
        return Finish(Phase.FAILED, seen.refusal)
    if not seen.candidate:
        return Ignore()
    step = _not_yet(seen) if seen.admission else _queue(seen)
    return Hold() if isinstance(step, Wait) and _brings_a_snapshot(seen.move) else step


def _queue(seen: Observed) -> Step:
    return Accept() if seen.queue_open else Wait(IN_QUEUE)


def _brings_a_snapshot(move: Move) -> bool:
    """Whether nobody but us would delete what the server made for a move, were it deleted while it waits.

    Such is the VolumeSnapshot of a DataUpload; the other kinds bring nothing along before they are accepted.
    """
    return isinstance(move.spec, DataUploadSpec) and not move.has_finalizer


def _not_yet(seen: Observed) -> Step:
    """Wait for what a move needs before anybody can accept it.

    What may never come is waited for as long as preparing may take.

    A pod that is on its way is waited for as upstream does, for ever: it may itself wait for the restore of
    another of its volumes. Velero ends the wait by its own timeouts, with a cancel.
    """
    if seen.admission_is_near or seen.waited_seconds < seen.limits.prepare_seconds:
        return Wait(seen.admission)
    return Finish(Phase.FAILED, f"{texts_for(seen.move.kind.name).prepare_timeout}: {seen.admission}")


def _accepted(seen: Observed) -> Step:
    texts = texts_for(seen.move.kind.name)
    if seen.move.cancel_wanted:
        return _canceled(seen)
    owns = owner_node(seen.move) == seen.node
    if seen.pod.state is PodState.RUNNING and seen.pod.node == seen.node and (not owns or _exposed(seen)):
        return Prepare()
    if not owns:
        return Ignore()
    expose = seen.job(Job.EXPOSE)
    if expose.state is JobState.FAILED:
        return Finish(Phase.FAILED, f"{texts.expose_failed}: {expose.reason}")
    return _hopeless(seen) or _overdue(seen) or _preparing(seen, expose)


def _exposed(seen: Observed) -> bool:
    return seen.job(Job.EXPOSE).state is JobState.DONE or _exposed_by_upstream(seen)


def _exposed_by_upstream(seen: Observed) -> bool:
    """Whether upstream's agent, before its image was swapped for ours, came as far as the hosting pod.

    It makes the pod last; to expose again would look for a snapshot that it has taken over already.
    """
    return seen.pod.state is not PodState.ABSENT and not seen.pod.is_ours


def _hopeless(seen: Observed) -> Step | None:
    """`Failed` for a hosting pod that no waiting will bring to life."""
    move, texts = seen.move, texts_for(seen.move.kind.name)
    prefix = f"found a {texts.peek_noun} {move.namespace}/{move.name} with expose error"
    if seen.pod.state is PodState.ABSENT and _exposed(seen):
        return Finish(Phase.FAILED, f"{prefix}: hosting pod was deleted before it ran")
    if seen.pod.has_ended or (seen.pod.state is PodState.PENDING and not seen.pod.heals):
        return Finish(
            Phase.FAILED, f"{prefix}: {seen.pod.reason or 'hosting pod ended before it was started'}"
        )
    return None


def _overdue(seen: Observed) -> Step | None:
    if seen.waited_seconds < seen.limits.prepare_seconds:
        return None
    last = seen.job(Job.EXPOSE).reason or seen.pod.reason
    text = texts_for(seen.move.kind.name).prepare_timeout
    return Finish(Phase.FAILED, f"{text}: {last}" if last else text)


def _preparing(seen: Observed, expose: JobView) -> Step:
    if expose.state is JobState.IDLE and not _exposed_by_upstream(seen):
        return RunJob(Job.EXPOSE)
    if expose.state is JobState.RUNNING:
        return Wait(expose.reason, _until_overdue(seen))
    if seen.pod.state is PodState.PENDING:
        return Wait(seen.pod.reason, min(_until_overdue(seen), _pending_recheck(seen)))
    return Wait(seen.pod.reason or _running_elsewhere(seen), _until_overdue(seen))


def _pending_recheck(seen: Observed) -> float:
    """Seconds until the cluster's warnings about a hosting pod are read again: no watch brings them."""
    often, seldom = _PENDING_RECHECK_SECONDS
    return often if seen.waited_seconds < _PENDING_NEW_SECONDS else seldom


def _running_elsewhere(seen: Observed) -> str:
    if seen.pod.state is PodState.RUNNING:
        return f"hosting pod runs on node {seen.pod.node}; waiting for the node-agent there"
    return ""


def _until_overdue(seen: Observed) -> float:
    return max(seen.limits.prepare_seconds - seen.waited_seconds, 0.0) + 0.1


def _prepared(seen: Observed) -> Step:
    if seen.move.cancel_wanted:
        return _canceled(seen)
    if seen.pod.state is not PodState.RUNNING:
        text = texts_for(seen.move.kind.name).not_ready
        return Finish(Phase.FAILED, f"{text}: {_pod_trouble(seen.pod)}")
    return Begin() if seen.has_slot else WaitForSlot()


def _pod_trouble(pod: HostingPod) -> str:
    if pod.state is PodState.ABSENT:
        return POD_DELETED
    return pod.reason or f"hosting pod is {pod.state}"


def _in_progress(seen: Observed) -> Step:
    if seen.outcome is not None:
        return _ended(seen, seen.outcome)
    if seen.pod.state is PodState.ABSENT:
        return _vanished(seen)
    if seen.move.cancel_wanted:
        return BeginCancel()
    start = seen.job(Job.START)
    if start.state is JobState.FAILED:
        return Finish(Phase.FAILED, f"error starting data path: {start.reason}")
    if seen.pod.request_sent or not seen.pod.is_ours or start.state is JobState.DONE:
        return Wait(_stalled(seen))
    return _by_job(seen, Job.START, done=Wait())


def _stalled(seen: Observed) -> str:
    return "hosting pod is being deleted" if seen.pod.deleting else ""


def _vanished(seen: Observed) -> Step:
    if seen.move.cancel_wanted:
        return _canceled(seen)
    text = texts_for(seen.move.kind.name).data_path
    return Finish(Phase.FAILED, f"{text}: {_pod_trouble(ABSENT)}")


def _ended(seen: Observed, outcome: Outcome) -> Step:
    """The mover is over; its data is safe or it never will be."""
    if outcome.canceled:
        return _canceled(seen, outcome)
    if not outcome.succeeded:
        return Finish(Phase.FAILED, f"{texts_for(seen.move.kind.name).data_path}: {outcome.message}", outcome)
    if not isinstance(seen.move.spec, DataDownloadSpec):
        return Finish(Phase.COMPLETED, outcome.message, outcome)
    return _rebinding(seen, outcome)


def _rebinding(seen: Observed, outcome: Outcome) -> Step:
    if not seen.outcome_recorded:
        return RecordOutcome(outcome)
    rebind = seen.job(Job.REBIND)
    if rebind.state is JobState.FAILED:
        return Finish(Phase.FAILED, f"data path restore failed: {rebind.reason}", outcome)
    return _by_job(seen, Job.REBIND, done=Finish(Phase.COMPLETED, outcome.message, outcome))


def _canceling(seen: Observed) -> Step:
    outcome = seen.outcome
    if outcome is not None and outcome.succeeded and not isinstance(seen.move.spec, DataDownloadSpec):
        # The mover was faster than the wish. A stored snapshot without its ID here could never be deleted.
        return Finish(Phase.COMPLETED, outcome=outcome)
    if outcome is not None or seen.pod.state is PodState.ABSENT:
        return _canceled(seen, outcome)
    if not seen.pod.cancel_sent_at:
        return SignalCancel()
    left = seen.limits.cancel_grace_seconds - seen.cancel_sent_seconds
    if left > 0:
        return Wait(recheck_seconds=left + 0.1)
    return _canceled(seen) if seen.pod.deleting else KillMover()


def _canceled(seen: Observed, outcome: Outcome | None = None) -> Step:
    text = texts_for(seen.move.kind.name)
    given = "" if seen.move.message.startswith(WAITING_PREFIX) else seen.move.message
    message = text.deleting if seen.move.deleting else given or f"{text.noun} was canceled on request"
    if not seen.move.cancel_wanted and outcome is not None:
        message = outcome.message or CANCELED_SUFFIX
    return Finish(Phase.CANCELED, message)


def slot_is_needed(seen: Observed) -> bool:
    """Whether a mover of this node works for this move; not any more once it ended."""
    mine = owner_node(seen.move) == seen.node and is_ours(seen.move, seen.mover_names)
    active = seen.move.phase in (Phase.IN_PROGRESS, Phase.CANCELING)
    return mine and active and seen.outcome is None and seen.pod.state is not PodState.ABSENT


_RESTIC = (
    "uploader type restic is not supported by this node-agent; "
    "restore it with Velero 1.18 or older and its own node-agent"
)


def static_refusal(move: Move) -> str:
    """Why a move can never be done by anybody's agent of ours, from the resource alone; empty if it can."""
    spec = move.spec
    if isinstance(spec, DataUploadSpec) and spec.snapshot_type != "CSI":
        return f"not exist type of exposer: {spec.snapshot_type} type of snapshot exposer is not exist"
    if isinstance(spec, PodVolumeBackupSpec | PodVolumeRestoreSpec):
        return _RESTIC if spec.uploader_type == "restic" else ""
    return f"cannot read {move.kind.name} {move.namespace}/{move.name}: {spec.fault}" if spec.fault else ""


_BY_PHASE = {
    Phase.NEW: _new,
    Phase.ACCEPTED: _accepted,
    Phase.PREPARED: _prepared,
    Phase.IN_PROGRESS: _in_progress,
    Phase.CANCELING: _canceling,
}
