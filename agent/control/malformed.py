"""Reads moves into the cache, and gives those that cannot be read a final phase with the reason.

A schema lets through what cannot be acted on (a pod without a namespace), also into a move under way.
Upstream would retry such an object for ever; nobody else would ever end it, or take back what was made
for it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.control.exposures import hide_unreadable
from agent.control.world import RESOURCES, utc_now
from agent.moves.custom_resources import (
    MalformedResourceError,
    Move,
    MoveKind,
    Phase,
    format_time,
    parse_move,
)
from kube.api import ConflictError, Kube, KubeError
from kube.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from collections.abc import Set as AbstractSet

    from agent.control.history import History
    from agent.control.last_success import LastSuccess

Json = dict[str, Any]

log = logging.getLogger(__name__)

_BACKOFF_SECONDS = (1.0, 60.0)
_FINAL = tuple(phase.value for phase in Phase if phase.is_final)


@dataclass(frozen=True, slots=True)
class _Unreadable:
    kind: MoveKind
    meta: Json
    reason: str
    is_final: bool

    @property
    def finalizers(self) -> list[str]:
        return self.meta.get("finalizers") or []


class MoveReader:
    """Keeps what needs work: moves that are not final, or with clean-up owed."""

    def __init__(
        self, kube: Kube, mover_names: AbstractSet[str], history: History, successes: LastSuccess
    ) -> None:
        self._kube, self._mover_names, self._history = kube, mover_names, history
        self._successes = successes
        self._unreadable: asyncio.Queue[_Unreadable] = asyncio.Queue()

    def read(self, kind: MoveKind, body: Json) -> Move | None:
        """Parse a move; `None` for what is over (noted in the history) and for what cannot be read."""
        finalizers, status = body["metadata"].get("finalizers") or [], body.get("status") or {}
        is_final = status.get("phase") in _FINAL
        owed = not is_final or kind.finalizer in finalizers
        if is_final and (body.get("spec") or {}).get("datamover", "") in self._mover_names:
            self._successes.saw(kind, body)
        if not owed and self._history.is_old(status.get("completionTimestamp") or ""):
            return None
        try:
            move = parse_move(kind, body)
        except MalformedResourceError as error:
            if owed and (body.get("spec") or {}).get("datamover", "") in self._mover_names:
                self._unreadable.put_nowait(_Unreadable(kind, body["metadata"], str(error), is_final))
            return None
        if is_final and move.data_mover in self._mover_names:
            self._history.ended(move)
        return move if owed else None

    async def refuse(self) -> None:
        """Fail what cannot be read, and clean up after it, for ever."""
        while True:
            one = await self._unreadable.get()
            log.warning("resource cannot be read", extra={"error": one.reason})
            if not one.is_final:
                await self._insist(self._fail, one)
            elif one.kind.finalizer in one.finalizers:
                await self._insist(self._release, one)

    async def _fail(self, one: _Unreadable) -> None:
        now = format_time(utc_now())
        status = {
            "phase": Phase.FAILED.value,
            "message": one.reason,
            "startTimestamp": now,
            "completionTimestamp": now,
        }
        patch = {"metadata": {"resourceVersion": one.meta["resourceVersion"]}, "status": status}
        await self._kube.patch(RESOURCES[one.kind.name], one.meta["namespace"], one.meta["name"], patch)

    async def _release(self, one: _Unreadable) -> None:
        await hide_unreadable(one.kind, one.meta, self._kube)
        rest = [finalizer for finalizer in one.finalizers if finalizer != one.kind.finalizer]
        meta = {"resourceVersion": one.meta["resourceVersion"], "finalizers": rest or None}
        await self._kube.patch(
            RESOURCES[one.kind.name], one.meta["namespace"], one.meta["name"], {"metadata": meta}
        )

    @staticmethod
    async def _insist(write: Callable[[_Unreadable], Awaitable[None]], one: _Unreadable) -> None:
        """Write, however long the API is away; an object that has changed comes again by itself."""
        backoff = Backoff(*_BACKOFF_SECONDS)
        while True:
            try:
                return await write(one)
            except KubeError as error:
                log.warning("resource could not be refused", extra={"error": str(error)})
                if not error.temporary or isinstance(error, ConflictError):
                    return None
                seconds = backoff.next_seconds(error)
            await asyncio.sleep(seconds)
