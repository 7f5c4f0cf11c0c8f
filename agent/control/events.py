"""Kubernetes Events about moves: what happened and why something waits, where `kubectl describe` shows it.

Written beside the work and never in its way: a full queue or an API that refuses loses Events, nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent.moves.custom_resources import format_time
from kube.api import EVENT, Kube, KubeError

if TYPE_CHECKING:
    from agent.moves.custom_resources import Move

Json = dict[str, Any]

log = logging.getLogger(__name__)

_QUEUE_LENGTH_MAX = 500
_MESSAGE_LENGTH_MAX = 1000
COMPONENT = "kopia-data-mover"


class EventRecorder:
    """Writes Events one after the other, in the background (`run`)."""

    def __init__(self, kube: Kube, node: str) -> None:
        self._kube, self._node = kube, node
        self._pending: asyncio.Queue[Json] = asyncio.Queue(_QUEUE_LENGTH_MAX)

    def note(self, move: Move, reason: str, message: str) -> None:
        """Say what happened."""
        self._put(move, "Warning" if reason == "Failed" else "Normal", reason, message)

    def warn(self, move: Move, reason: str, message: str) -> None:
        """Say what is wrong or waited for."""
        self._put(move, "Warning", reason, message)

    def data_path(self, move: Move, reason: str, message: str) -> None:
        """Say of a mover of ours, which has no access to the API, what upstream's say of themselves."""
        event = upstream_event(move, self._node, f"Data-Path-{reason}", message[:_MESSAGE_LENGTH_MAX])
        with contextlib.suppress(asyncio.QueueFull):
            self._pending.put_nowait(event)

    def _put(self, move: Move, kind: str, reason: str, message: str) -> None:
        try:
            self._pending.put_nowait(_event(move, self._node, kind, reason, message[:_MESSAGE_LENGTH_MAX]))
        except asyncio.QueueFull:
            log.debug("event was dropped", extra={"reason": reason})

    async def run(self) -> None:
        """Write for ever."""
        while True:
            event = await self._pending.get()
            try:
                await self._kube.create(EVENT, event["metadata"]["namespace"], event)
            except KubeError as error:
                log.debug("event was not written", extra={"error": str(error)})


def upstream_event(move: Move, node: str, reason: str, message: str) -> Json:
    """Build an Event as upstream's movers write them: the agent that made the pod looks for these."""
    event = _event(move, node, "Normal", reason, message)
    return event | {"source": {"component": move.name, "host": node}}


def _event(move: Move, node: str, kind: str, reason: str, message: str) -> Json:
    now = format_time(datetime.now(UTC))
    return {
        "metadata": {"name": f"{move.name[:200]}.{uuid.uuid4().hex[:16]}", "namespace": move.namespace},
        "involvedObject": {
            "apiVersion": move.kind.api_version,
            "kind": move.kind.name,
            "namespace": move.namespace,
            "name": move.name,
            "uid": move.uid,
        },
        "type": kind,
        "reason": reason,
        "message": message,
        "source": {"component": COMPONENT, "host": node},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
