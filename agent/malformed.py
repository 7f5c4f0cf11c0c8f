"""Reads moves into the cache, and gives those that cannot be read a final phase with the reason.

A schema lets through what cannot be acted on (`operationTimeout: soon`). Upstream would retry such an object
for ever; nobody else would ever end it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from agent.resources import MalformedResourceError, Move, MoveKind, format_time, parse_move
from agent.world import RESOURCES, utc_now
from exposer.kube import Kube, KubeError

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from agent.history import History

Json = dict[str, Any]

log = logging.getLogger(__name__)

_FINAL = ("Completed", "Failed", "Canceled")


class MoveReader:
    """Keeps what needs work: moves that are not final, or with clean-up owed."""

    def __init__(self, kube: Kube, mover_names: AbstractSet[str], history: History) -> None:
        self._kube, self._mover_names, self._history = kube, mover_names, history
        self._malformed: asyncio.Queue[tuple[MoveKind, Json, str]] = asyncio.Queue()

    def read(self, kind: MoveKind, body: Json) -> Move | None:
        """Parse a move; `None` for what is over (noted in the history) and for what cannot be read."""
        finalizers, status = body["metadata"].get("finalizers") or [], body.get("status") or {}
        is_final = status.get("phase") in _FINAL
        owed = not is_final or kind.finalizer in finalizers
        if not owed and self._history.is_old(status.get("completionTimestamp") or ""):
            return None
        try:
            move = parse_move(kind, body)
        except MalformedResourceError as error:
            if not is_final and (body.get("spec") or {}).get("datamover", "") in self._mover_names:
                self._malformed.put_nowait((kind, body["metadata"], str(error)))
            return None
        if is_final and move.data_mover in self._mover_names:
            self._history.ended(move)
        return move if owed else None

    async def refuse(self) -> None:
        """Fail what cannot be read, for ever."""
        while True:
            kind, meta, message = await self._malformed.get()
            log.warning("resource cannot be read", extra={"error": message})
            now = format_time(utc_now())
            status = {
                "phase": "Failed",
                "message": message,
                "startTimestamp": now,
                "completionTimestamp": now,
            }
            patch = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "status": status}
            try:
                await self._kube.patch(RESOURCES[kind.name], meta["namespace"], meta["name"], patch)
            except KubeError as error:
                log.warning("resource could not be refused", extra={"error": str(error)})
