"""A mover's end, read from its hosting pod: a result, or why there is none. Pure.

Understood are the termination messages of our mover and of upstream's.
A pod that succeeded without a readable result counts as failed: upstream completes such a backup with an
empty snapshot ID, which nobody can restore.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from agent.moves.steps import CANCELED_SUFFIX, Outcome
from exposer.hosting_pod import HostingPod, PodState

if TYPE_CHECKING:
    from agent.moves.custom_resources import MoveKind
    from mover.protocol import End

POD_DELETED = "hosting pod was deleted (node drained, or pod evicted?)"
_MESSAGE_LENGTH_MAX = 2000
_FALLBACKS_MAX, _FALLBACK_LENGTH_MAX = 8, 300


def read_outcome(kind: MoveKind, pod: HostingPod) -> Outcome | None:
    """How the mover ended; `None` while it has not."""
    if pod.state is PodState.SUCCEEDED:
        return _succeeded(kind, pod.termination_message)
    if pod.state is PodState.FAILED:
        return _failed(pod)
    return None


def outcome_of_end(kind: MoveKind, end: End) -> Outcome | None:
    """How the mover ended, by the last line of its log: its termination message, a second earlier."""
    state = PodState.SUCCEEDED if end.code == 0 else PodState.FAILED
    return read_outcome(kind, HostingPod(state, termination_message=end.text))


def _succeeded(kind: MoveKind, text: str) -> Outcome:
    try:
        result = json.loads(text)
        snapshot_id, total = str(result.get("snapshotID") or ""), int(result.get("totalBytes") or 0)
        incremental = int(result.get("incrementalBytes") or 0)
        access = result.get("source") or result.get("target") or {}
        path = str(access.get("byPath") or "")
        facts = result.get("record") or {}
        record = json.dumps(facts) if facts else ""
        remark = str(facts.get("remark") or "")[:_MESSAGE_LENGTH_MAX]
    except (ValueError, TypeError, AttributeError) as error:
        return Outcome(
            succeeded=False, message=f"result of the mover cannot be read ({error}): {text[:200]!r}"
        )
    if kind.is_backup and not snapshot_id:
        return Outcome(succeeded=False, message=f"mover ended without a snapshot ID: {text[:200]!r}")
    return Outcome(
        succeeded=True,
        message=remark,
        snapshot_id=snapshot_id,
        path=path,
        total_bytes=total,
        incremental_bytes=incremental,
        record=record,
    )


def _failed(pod: HostingPod) -> Outcome:
    text, snapshot_id = _failure_text(pod.termination_message.strip())
    canceled = text.endswith(CANCELED_SUFFIX)
    message = text or _why(pod)
    return Outcome(
        succeeded=False, canceled=canceled, message=message[:_MESSAGE_LENGTH_MAX], snapshot_id=snapshot_id
    )


def _why(pod: HostingPod) -> str:
    """What a mover that left no word died of: one in a pod that goes was stopped with it."""
    reason = pod.reason or "mover ended without a message"
    return f"{POD_DELETED}: {reason}" if pod.deleting else reason


def _failure_text(message: str) -> tuple[str, str]:
    """Our mover may report a failure as JSON with the ID of a snapshot that was saved in spite of errors."""
    if not message.startswith("{"):
        return message, ""
    try:
        report = json.loads(message)
        return str(report["error"]), str(report.get("snapshotID") or "")
    except (ValueError, KeyError, TypeError):
        return message, ""


def fallbacks(record: str) -> list[str]:
    """Read out of a mover's transfer record what was tried in vain; bounded, as it came from outside."""
    try:
        told = json.loads(record).get("fallbacks")
    except (ValueError, AttributeError):
        return []
    known = told[:_FALLBACKS_MAX] if isinstance(told, list) else []
    return [str(text)[:_FALLBACK_LENGTH_MAX] for text in known]
