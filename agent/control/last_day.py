"""The last day: one bar for each move that ended, for the picture on the status page.

Small and bounded, of all nodes, and kept after Velero has deleted the resources; for show alone.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from agent.moves.custom_resources import Phase, format_time

if TYPE_CHECKING:
    from datetime import datetime

    from agent.moves.custom_resources import Move

_BARS_MAX = 2000
DAY = timedelta(hours=24)


@dataclass(frozen=True, slots=True, order=True)
class Bar:
    """One move that is over: it waited from `created` to `started` (empty: it never began), then moved."""

    completed: str
    uid: str
    created: str
    started: str
    node: str
    volume: str
    owner: str
    phase: str
    waited_for: str


class LastDay:
    """The latest moves that are over, by the time of their end."""

    def __init__(self, count_max: int = _BARS_MAX) -> None:
        self._count_max = count_max
        self._bars: list[Bar] = []
        self._uids: set[str] = set()

    def ended(self, move: Move, volume: str, node: str, waited_for: str) -> None:
        """Keep a bar of a move that is over; the first report of it counts."""
        if move.uid in self._uids:
            return
        over = move.completed_at or move.created_at
        began = began_at(move)
        bisect.insort(
            self._bars,
            Bar(
                completed=format_time(over),
                uid=move.uid,
                created=format_time(move.created_at),
                started=format_time(began) if began else "",
                node=node,
                volume=volume,
                owner=move.owner_name,
                phase=move.phase.value,
                waited_for=waited_for,
            ),
        )
        self._uids.add(move.uid)
        if len(self._bars) > self._count_max:
            self._uids.discard(self._bars.pop(0).uid)

    def is_old(self, completed: str) -> bool:
        """Whether a move that ended then (RFC 3339, UTC) would not be kept."""
        return len(self._bars) >= self._count_max and completed < self._bars[0].completed

    def bars(self, now: datetime) -> list[Bar]:
        """Moves that ended within the last 24 hours, the earliest first."""
        since = format_time(now - DAY)
        return [bar for bar in self._bars if bar.completed >= since]

    def failed_count(self, now: datetime) -> int:
        """How many of them failed."""
        return sum(bar.phase == Phase.FAILED.value for bar in self.bars(now))


def began_at(move: Move) -> datetime | None:
    """When a mover began; none did where both times are written at the end of a move that never began."""
    never = move.completed_at == move.started_at and move.phase is not Phase.COMPLETED
    return None if never and move.phase.is_final else move.started_at
