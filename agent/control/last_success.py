"""Last success: when each volume was last backed up, by which node, as the resources of all nodes say.

Filled from what Velero still keeps when the agent starts, so a restart forgets nothing that counts. Bounded:
past `_VOLUMES_MAX` no further volume is taken up, and the log says so once. A volume without a claim (an
emptyDir) goes with its pod and is not counted here.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from agent.moves.custom_resources import PVC_NAME_ANNOTATION, Phase, format_time, parse_time
from kube.api import PVC, Kube, KubeError, find

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from agent.moves.custom_resources import MoveKind

Json = dict[str, Any]
Volume = tuple[str, str]

log = logging.getLogger(__name__)

_VOLUMES_MAX = 5000
# A claim that was deleted is asked for only once its last success is so old that an alert could come of it.
_ASK_AFTER = timedelta(hours=24)
_ASK_SECONDS = 600.0
_ASKED_AT_ONCE_MAX = 100


@dataclass(frozen=True, slots=True)
class Success:
    """The latest backup of one volume that was completed. `at` is RFC 3339, UTC, as the resource has it."""

    at: str
    node: str


class LastSuccess:
    """The latest good backup of each volume. Fed by the caches, read by metrics and board."""

    def __init__(self, volume_count_max: int = _VOLUMES_MAX) -> None:
        self._count_max = volume_count_max
        self._by_volume: dict[Volume, Success] = {}
        self._full_was_told = False

    def saw(self, kind: MoveKind, body: Json) -> None:
        """Take note of a completed backup, in whatever order they come; all else is passed over."""
        status = body.get("status") or {}
        if status.get("phase") != Phase.COMPLETED.value or not _is_time(status.get("completionTimestamp")):
            return
        found = _volume_and_node(kind, body)
        if found is None:
            return
        volume, node = found
        before = self._by_volume.get(volume)
        if before is None and len(self._by_volume) >= self._count_max:
            self._tell_full()
        elif before is None or before.at <= status["completionTimestamp"]:
            self._by_volume[volume] = Success(status["completionTimestamp"], node)

    def _tell_full(self) -> None:
        if not self._full_was_told:
            self._full_was_told = True
            log.warning("more volumes than are watched for their last backup", extra={"max": self._count_max})

    def on_node(self, node: str) -> dict[Volume, float]:
        """Return seconds since the epoch by volume, of those whose latest good backup that node made."""
        return {
            volume: parse_time(success.at).timestamp()
            for volume, success in self._by_volume.items()
            if success.node == node
        }

    def oldest(self, node: str) -> tuple[Volume, str] | None:
        """Return the volume of a node that waits longest for its next good backup, and when the last was."""
        own = [(success.at, volume) for volume, success in self._by_volume.items() if success.node == node]
        at, volume = min(own, default=("", ("", "")))
        return (volume, at) if at else None

    async def drop_gone(self, kube: Kube, node: str, now: datetime) -> None:
        """Drop this node's volumes that are not there any more; those that are young are not asked for."""
        old = format_time(now - _ASK_AFTER)
        suspects = sorted(
            (success.at, volume)
            for volume, success in self._by_volume.items()
            if success.node == node and success.at < old
        )
        for at, volume in suspects[:_ASKED_AT_ONCE_MAX]:
            gone = await find(kube, PVC, *volume) is None
            if gone and self._by_volume.get(volume) == Success(at, node):
                del self._by_volume[volume]

    async def keep_to_what_exists(self, kube: Kube, node: str, now: Callable[[], datetime]) -> None:
        """Drop what is gone every ten minutes, for ever."""
        while True:
            try:
                await self.drop_gone(kube, node, now())
            except KubeError as error:
                log.debug("claims could not be asked for", extra={"error": str(error)})
            await asyncio.sleep(_ASK_SECONDS)


def _volume_and_node(kind: MoveKind, body: Json) -> tuple[Volume, str] | None:
    """Return namespace and claim, and the node that moved it; `None` for restores and what has no claim."""
    spec, status = body.get("spec") or {}, body.get("status") or {}
    if kind.name == "DataUpload":
        volume, node = (spec.get("sourceNamespace"), spec.get("sourcePVC")), status.get("node")
    elif kind.name == "PodVolumeBackup":
        claim = (body["metadata"].get("annotations") or {}).get(PVC_NAME_ANNOTATION)
        volume, node = ((spec.get("pod") or {}).get("namespace"), claim), spec.get("node")
    else:
        return None
    match (*volume, node):
        case (str(namespace), str(name), str(place)) if namespace and name and place:
            return (namespace, name), place
    return None


def _is_time(text: Any) -> bool:
    try:
        parse_time(text)
    except (ValueError, OverflowError, TypeError):
        return False
    return True
