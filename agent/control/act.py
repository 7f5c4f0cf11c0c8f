"""Act: carry out the one step that was decided. Each handler is thin and safe to repeat.

A step that writes exclusively and meets a conflict does nothing: somebody else was faster, and the next look
at the fresh object decides anew.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from agent.control.exposures import expose_move, hide_move, rebind_move
from agent.control.launch import cancel_mover, start_mover
from agent.moves.custom_resources import Phase
from agent.moves.outcome import fallbacks
from agent.moves.phase_texts import texts_for
from agent.moves.phases import owner_node, slot_is_needed
from agent.moves.status_patch import (
    accept_patch,
    begin_patch,
    canceling_patch,
    finish_patch,
    hold_patch,
    message_patch,
    outcome_patch,
    prepare_patch,
    release_patch,
)
from agent.moves.steps import (
    Accept,
    Begin,
    BeginCancel,
    Finish,
    Hold,
    Ignore,
    Job,
    KillMover,
    Observed,
    Outcome,
    Prepare,
    RecordOutcome,
    Release,
    RunJob,
    SignalCancel,
    Step,
    Wait,
    WaitForSlot,
)
from kube.api import POD

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.control.world import World
    from agent.moves.custom_resources import Move

log = logging.getLogger(__name__)

_NEW_RECHECK_SECONDS = (0.5, 8.0)


async def act(step: Step, seen: Observed, world: World) -> bool:
    """Carry a step out; True when the object has changed and should be looked at again at once."""
    settle_slot(seen, world)
    return await _HANDLERS[type(step)](step, seen, world)


def settle_slot(seen: Observed, world: World) -> None:
    """Hold a slot as long as a mover of this node works for the move, and not a moment longer."""
    uid = seen.move.uid
    if slot_is_needed(seen):
        world.slots.hold(uid)
    elif seen.move.phase is not Phase.PREPARED:
        world.slots.leave(uid)


async def _ignore(_step: Step, seen: Observed, world: World) -> bool:
    if seen.move.phase.is_final:
        await world.jobs.stop(seen.move.uid, but=Job.CLEAN_UP)
    return False


async def _wait(step: Step, seen: Observed, world: World) -> bool:
    assert isinstance(step, Wait)  # noqa: S101 - the table below pairs types
    seconds = step.recheck_seconds
    if seen.move.phase is Phase.NEW:
        often = min(max(seen.waited_seconds / 2, _NEW_RECHECK_SECONDS[0]), _NEW_RECHECK_SECONDS[1])
        seconds = min(seconds or often, often)
    if _is_speaker(step, seen, world):
        await _show(step.reason, seen.move, world)
    if seconds:
        world.queue.add_after(seen.move.key, seconds)
    return False


def _is_speaker(step: Wait, seen: Observed, world: World) -> bool:
    """Whether it is for this agent to show (or clear) why a move waits: its owner, else whose turn it is."""
    if owner_node(seen.move) == world.node or seen.sole_candidate:
        return True
    return bool(step.reason) and not seen.turn_in_seconds


async def _show(reason: str, move: Move, world: World) -> None:
    patch = message_patch(move, reason)
    if patch is None or move.phase.is_final:
        return
    await world.patch(move, patch)
    if reason:
        log.info("move waits", extra=move_fields(move) | {"reason": reason})
        world.events.warn(move, "Waiting", reason)


async def _wait_for_slot(_step: Step, seen: Observed, world: World) -> bool:
    if world.slots.try_take(seen.move.uid, seen.move.created_at):
        return True
    limit = world.slots.limit
    await _show(f"for one of {limit} slots of node {world.node}", seen.move, world)
    return False


async def _hold(_step: Step, seen: Observed, world: World) -> bool:
    await world.patch(seen.move, hold_patch(seen.move))
    return True


async def _accept(_step: Step, seen: Observed, world: World) -> bool:
    await world.patch(seen.move, accept_patch(seen.move, world.node, seen.now, world.crds))
    world.line.leave(seen.move.uid)
    return _entered(Phase.ACCEPTED, seen, world)


async def _prepare(_step: Step, seen: Observed, world: World) -> bool:
    await world.patch(seen.move, prepare_patch(seen.move, world.node, world.crds))
    return _entered(Phase.PREPARED, seen, world)


async def _begin(_step: Step, seen: Observed, world: World) -> bool:
    patch = begin_patch(seen.move, seen.pod.os or "linux", seen.now, world.crds)
    await world.patch(seen.move, patch)
    world.metrics.began(seen.move)
    return _entered(Phase.IN_PROGRESS, seen, world)


async def _begin_cancel(_step: Step, seen: Observed, world: World) -> bool:
    await world.patch(seen.move, canceling_patch(seen.move, world.crds))
    return _entered(Phase.CANCELING, seen, world)


async def _signal_cancel(_step: Step, seen: Observed, world: World) -> bool:
    if not seen.pod.is_ours and not seen.move.cancel:
        await world.patch(seen.move, {"spec": {"cancel": True}})  # what a mover of upstream's listens to
    await cancel_mover(seen.move, world)
    return True


async def _kill_mover(_step: Step, seen: Observed, world: World) -> bool:
    await world.kube.delete(POD, seen.move.namespace, seen.move.name, uid=seen.pod.uid, grace_seconds=0)
    world.queue.add_after(seen.move.key, 5.0)
    return False


async def _run_job(step: Step, seen: Observed, world: World) -> bool:
    assert isinstance(step, RunJob)  # noqa: S101 - the table below pairs types
    move = seen.move
    work = _WORK[step.job]
    if step.job is Job.CLEAN_UP:
        await world.jobs.stop(move.uid, but=Job.CLEAN_UP)
    world.jobs.run(move.uid, step.job, lambda tell: work(move, world, tell))
    return False


async def _record_outcome(step: Step, seen: Observed, world: World) -> bool:
    assert isinstance(step, RecordOutcome)  # noqa: S101 - the table below pairs types
    await world.patch(seen.move, outcome_patch(seen.move, step.outcome))
    return True


async def _finish(step: Step, seen: Observed, world: World) -> bool:
    assert isinstance(step, Finish)  # noqa: S101 - the table below pairs types
    move = seen.move
    await world.jobs.stop(move.uid, but=Job.CLEAN_UP)
    await world.patch(move, finish_patch(move, step, seen.now, world.crds))
    world.slots.leave(move.uid)
    world.metrics.ended(move, step.phase, seen.now)
    reason = {"reason": step.message} if step.message else {}
    if step.outcome is not None and step.outcome.record:
        reason["record"] = step.outcome.record
        world.metrics.recorded(move, step.outcome.record)
        for text in fallbacks(step.outcome.record):
            world.events.warn(move, "Fallback", text)
    if world.find_move(move.key) is None:
        world.metrics.forget(move.uid)  # nothing was owed, so nobody will hear of it again
    log.info("move ended", extra=move_fields(move) | {"phase": step.phase.value} | reason)
    _tell_data_path(step, seen, world)
    world.events.note(move, step.phase.value, step.message or f"{move.kind.name} {move.name} is completed")
    return True


def _tell_data_path(step: Finish, seen: Observed, world: World) -> None:
    """Say how a mover of ours ended, in upstream's words."""
    move = seen.move
    if move.phase not in (Phase.IN_PROGRESS, Phase.CANCELING) or not seen.pod.is_ours:
        return
    subject = f"Data path for {texts_for(move.kind.name).data_path_subject} {move.name}"
    messages = {
        Phase.COMPLETED: _result(step.outcome),
        Phase.FAILED: f"{subject} failed, error {step.message}",
        Phase.CANCELED: f"{subject} canceled",
    }
    world.events.data_path(move, step.phase.value, messages[step.phase])
    world.events.data_path(move, "Stopped", f"Data path for {move.name} stopped")


def _result(outcome: Outcome | None) -> str:
    if outcome is None:
        return "{}"
    facts = {"snapshotID": outcome.snapshot_id, "emptySnapshot": False} if outcome.snapshot_id else {}
    facts |= {"totalBytes": outcome.total_bytes, "incrementalBytes": outcome.incremental_bytes}
    return json.dumps(facts, separators=(",", ":"))


async def _release(_step: Step, seen: Observed, world: World) -> bool:
    await world.patch(seen.move, release_patch(seen.move))
    world.jobs.forget(seen.move.uid)
    world.last_words.pop(seen.move.uid, None)
    log.info("move is cleaned up", extra=move_fields(seen.move))
    return False


def _entered(phase: Phase, seen: Observed, world: World) -> bool:
    log.info("phase changed", extra=move_fields(seen.move) | {"phase": phase.value})
    world.metrics.entered(seen.move, phase, seen.now)
    world.events.note(seen.move, phase.value, f"{seen.move.kind.name} {seen.move.name} is {phase.value}")
    return True


def move_fields(move: Move) -> dict[str, str]:
    """Return what every log line about a move carries, under Velero's names."""
    return {move.kind.name.lower(): move.name, "namespace": move.namespace, "uid": move.uid}


_WORK: dict[Job, Callable[[Move, World, Callable[[str], None]], Awaitable[None]]] = {
    Job.EXPOSE: expose_move,
    Job.START: start_mover,
    Job.REBIND: rebind_move,
    Job.CLEAN_UP: hide_move,
}

_HANDLERS: dict[type[Step], Callable[[Step, Observed, World], Awaitable[bool]]] = {
    Ignore: _ignore,
    Wait: _wait,
    Hold: _hold,
    WaitForSlot: _wait_for_slot,
    Accept: _accept,
    Prepare: _prepare,
    Begin: _begin,
    BeginCancel: _begin_cancel,
    SignalCancel: _signal_cancel,
    KillMover: _kill_mover,
    RunJob: _run_job,
    RecordOutcome: _record_outcome,
    Finish: _finish,
    Release: _release,
}
