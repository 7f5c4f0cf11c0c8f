"""Merge patches for every transition. Pure: a move and a step in, JSON out.

Every exclusive patch carries `metadata.resourceVersion`, so a second agent's write is refused with 409; none
names `spec.cancel`, so the server's wish is never overwritten. There is no status subresource: the object is
patched. On the old pod-volume schemas (1.15, 1.16) the finer phases go into an annotation and `Canceled`
becomes `Failed`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agent.moves.custom_resources import (
    ACCEPTED_AT_ANNOTATION,
    ACCEPTED_BY_ANNOTATION,
    EXPOSE_ONGOING_LABEL,
    NODE_ANNOTATION,
    PHASE_ANNOTATION,
    Move,
    Phase,
    format_time,
)
from agent.moves.steps import WAITING_PREFIX, Finish, Outcome

if TYPE_CHECKING:
    from datetime import datetime

    from agent.moves.crd_features import CrdFeatures

Json = dict[str, Any]

OUTCOME_ANNOTATION = "kopia-data-mover.io/outcome"
RECORD_ANNOTATION = "kopia-data-mover.io/transfer-record"


def hold_patch(move: Move) -> Json:
    """Set the finalizer on a move that waits in `New`."""
    return {"metadata": _version(move) | {"finalizers": _with_finalizer(move)}}


def accept_patch(move: Move, node: str, now: datetime, crds: CrdFeatures) -> Json:
    """`New` → `Accepted`: finalizer, queue label, who and when."""
    patch = _transition(move, Phase.ACCEPTED, crds)
    meta, status = patch["metadata"], patch["status"]
    meta["finalizers"] = _with_finalizer(move)
    meta["labels"] = {EXPOSE_ONGOING_LABEL: "true"}
    status["acceptedTimestamp"] = format_time(now)
    if move.kind.is_pod_volume:
        _note_node(meta, status, node, crds)
    else:
        status["acceptedByNode"] = node
    if not _holds_accepted(move, crds):
        _annotate(meta, **{ACCEPTED_AT_ANNOTATION: format_time(now), ACCEPTED_BY_ANNOTATION: node})
    return patch


def _with_finalizer(move: Move) -> list[str]:
    return [*[f for f in move.finalizers if f != move.kind.finalizer], move.kind.finalizer]


def _holds_accepted(move: Move, crds: CrdFeatures) -> bool:
    return crds.pod_volume_phases if move.kind.is_pod_volume else crds.data_mover_accepted


def _note_node(meta: Json, status: Json, node: str, crds: CrdFeatures) -> None:
    status["node"] = node
    if not crds.pod_volume_phases:
        _annotate(meta, **{NODE_ANNOTATION: node})


def prepare_patch(move: Move, node: str, crds: CrdFeatures) -> Json:
    """`Accepted` → `Prepared` on this node."""
    patch = _transition(move, Phase.PREPARED, crds)
    patch["status"]["node"] = node
    return patch


def begin_patch(move: Move, node_os: str, now: datetime, crds: CrdFeatures) -> Json:
    """`Prepared` → `InProgress`; leaves the prepare queue."""
    patch = _transition(move, Phase.IN_PROGRESS, crds)
    patch["metadata"]["labels"] = {EXPOSE_ONGOING_LABEL: None}
    patch["status"]["startTimestamp"] = format_time(now)
    if move.kind.name == "DataUpload":
        patch["status"]["nodeOS"] = node_os
    return patch


def canceling_patch(move: Move, crds: CrdFeatures) -> Json:
    """`InProgress` → `Canceling`; a message that came with the wish stays."""
    return _transition(move, Phase.CANCELING, crds)


def finish_patch(move: Move, finish: Finish, now: datetime, crds: CrdFeatures) -> Json:
    """Any phase → a final one. The finalizer stays until clean-up is done.

    A DataUpload that ends before anybody accepted it gets it now: its source's VolumeSnapshot was handed over
    with it, and nobody else would delete that.
    """
    phase, message = finish.phase, finish.message
    if phase is Phase.CANCELED and move.kind.is_pod_volume and not crds.pod_volume_phases:
        phase, message = Phase.FAILED, f"canceled: {message}"
    patch = _transition(move, phase, crds)
    status = patch["status"]
    patch["metadata"]["labels"] = {EXPOSE_ONGOING_LABEL: None}
    if move.phase is Phase.NEW and move.kind.name == "DataUpload" and not move.deleting:
        patch["metadata"]["finalizers"] = _with_finalizer(move)
    status["message"] = message or None
    status["completionTimestamp"] = format_time(now)
    if move.started_at is None:
        status["startTimestamp"] = format_time(now)
    status.update(_results(move, phase, finish.outcome))
    if finish.outcome is not None and finish.outcome.record:
        _annotate(patch["metadata"], **{RECORD_ANNOTATION: finish.outcome.record})
    return patch


def _results(move: Move, phase: Phase, outcome: Outcome | None) -> Json:
    if outcome is None:
        return {}
    results: Json = {}
    if move.kind.is_backup and outcome.snapshot_id:
        results["snapshotID"] = outcome.snapshot_id
    if phase is not Phase.COMPLETED:
        return results
    results["progress"] = {"totalBytes": outcome.total_bytes, "bytesDone": outcome.total_bytes}
    if move.kind.is_backup:
        results |= {"path": outcome.path, "incrementalBytes": outcome.incremental_bytes}
    return results


def message_patch(move: Move, reason: str) -> Json | None:
    """Show why a move waits, or clear what was shown; `None` where nothing changes.

    Exclusive: an agent that is behind must not write over what another has said at the move's end.
    """
    wanted = WAITING_PREFIX + reason if reason else ""
    shown = move.message if move.message.startswith(WAITING_PREFIX) else ""
    if wanted == shown or (move.message and not shown):
        return None
    return {"metadata": _version(move), "status": {"message": wanted or None}}


def progress_patch(move: Move, total_bytes: int, done_bytes: int) -> Json:
    """Progress alone. Exclusive: a report that comes late must not spoil the final numbers."""
    progress = {"totalBytes": total_bytes, "bytesDone": done_bytes}
    return {"metadata": _version(move), "status": {"progress": progress}}


def _version(move: Move) -> Json:
    return {"resourceVersion": move.resource_version}


def outcome_patch(move: Move, outcome: Outcome) -> Json:
    """Note the outcome on the object, so that a restart before the re-bind forgets nothing."""
    return {
        "metadata": {
            "resourceVersion": move.resource_version,
            "annotations": {OUTCOME_ANNOTATION: json.dumps(asdict(outcome))},
        }
    }


def recorded_outcome(move: Move) -> Outcome | None:
    """Return what `outcome_patch` noted, if it did and nobody has scribbled on it."""
    text = move.annotations.get(OUTCOME_ANNOTATION)
    try:
        return Outcome(**json.loads(text)) if text else None
    except (ValueError, TypeError):
        return None


def release_patch(move: Move) -> Json:
    """Give the object free: finalizer and queue label go."""
    rest = [finalizer for finalizer in move.finalizers if finalizer != move.kind.finalizer]
    labels = {EXPOSE_ONGOING_LABEL: None} if move.is_exposing else {}
    return {
        "metadata": {"resourceVersion": move.resource_version, "finalizers": rest or None, "labels": labels}
    }


def _transition(move: Move, phase: Phase, crds: CrdFeatures) -> Json:
    meta: Json = {"resourceVersion": move.resource_version}
    stored = phase
    if move.kind.is_pod_volume and not crds.pod_volume_phases:
        stored = _STORED_ON_OLD_SCHEMAS.get(phase, phase)
        _annotate(meta, **{PHASE_ANNOTATION: None if stored is phase else phase.value})
    patch: Json = {"metadata": meta, "status": {"phase": stored.value}}
    if move.message.startswith(WAITING_PREFIX):
        patch["status"]["message"] = None
    return patch


_STORED_ON_OLD_SCHEMAS = {
    Phase.ACCEPTED: Phase.NEW,
    Phase.PREPARED: Phase.NEW,
    Phase.CANCELING: Phase.IN_PROGRESS,
}


def _annotate(meta: Json, **annotations: str | None) -> None:
    meta.setdefault("annotations", {}).update(annotations)
