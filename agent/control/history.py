"""History: when moves reached their phases, as far as this agent saw it, and the latest moves that are over.

For show alone, bounded, and forgotten at a restart but for what the resources themselves say. The schemas
hold no time for `Prepared`, so only who watched knows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.control.last_day import LastDay
from agent.moves.custom_resources import Phase, format_time
from agent.moves.phases import owner_node
from agent.moves.steps import WAITING_PREFIX
from agent.moves.volume_names import volume_of

if TYPE_CHECKING:
    from datetime import datetime

    from agent.moves.custom_resources import Move

Json = dict[str, Any]

_RECENT_COUNT_MAX = 100
_WAITED_FOR_LENGTH_MAX = 200


class _Latest:
    """The latest moves that are over, as many as are kept."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self.by_uid: dict[str, tuple[str, Move, list[Json]]] = {}

    def put(self, move: Move, timeline: list[Json]) -> None:
        self.by_uid[move.uid] = (format_time(move.completed_at or move.created_at), move, timeline)
        if len(self.by_uid) > self._count_max:
            del self.by_uid[min(self.by_uid, key=lambda uid: (self.by_uid[uid][0], uid))]

    def is_old(self, completed: str) -> bool:
        full = len(self.by_uid) >= self._count_max
        return full and completed < min(key for key, _, _ in self.by_uid.values())


class History:
    """What was seen of moves. Fed by the caches, read by the board."""

    def __init__(self, recent_count_max: int = _RECENT_COUNT_MAX, day: LastDay | None = None) -> None:
        self.day = day or LastDay()
        self._seen: dict[str, dict[Phase, datetime]] = {}
        self._waited_for: dict[str, str] = {}
        self._over = _Latest(recent_count_max)
        self._failed = _Latest(recent_count_max)  # apart, or a night of good ones would push them out

    def saw(self, move: Move, now: datetime) -> None:
        """Note the phase that a move under way is in."""
        if not move.phase.is_final:
            self._seen.setdefault(move.uid, {}).setdefault(move.phase, now)
            if move.message.startswith(WAITING_PREFIX):
                self._waited_for[move.uid] = move.message.removeprefix(WAITING_PREFIX)[
                    :_WAITED_FOR_LENGTH_MAX
                ]

    def ended(self, move: Move) -> None:
        """Keep a move that is over, unless so many later ones are kept already; the first report counts."""
        kept = (self._over, self._failed) if move.phase is Phase.FAILED else (self._over,)
        for latest in kept:
            if move.uid not in latest.by_uid:
                latest.put(move, self.timeline(move))
        self.day.ended(move, volume_of(move), owner_node(move), self._waited_for.get(move.uid, ""))
        self.forget(move.uid)

    def is_old(self, completed: str) -> bool:
        """Whether a move that ended then (RFC 3339, UTC) would not be kept: spares reading it."""
        return all(kept.is_old(completed) for kept in (self._over, self._failed, self.day))

    def forget(self, uid: str) -> None:
        """Drop what was seen of a move under way."""
        self._seen.pop(uid, None)
        self._waited_for.pop(uid, None)

    def recent(self) -> list[tuple[Move, list[Json]]]:
        """Moves that are over and their timelines, the latest first: of all, and of those that failed."""
        both = self._failed.by_uid | self._over.by_uid
        ordered = sorted(both.values(), key=lambda entry: (entry[0], entry[1].uid), reverse=True)
        return [(move, timeline) for _, move, timeline in ordered]

    def reached(self, move: Move) -> datetime:
        """When a move under way got into its phase: as the resource says, else as seen, else its creation."""
        known = {Phase.ACCEPTED: move.accepted_at, Phase.IN_PROGRESS: move.started_at}.get(move.phase)
        seen = self._seen.get(move.uid, {}).get(move.phase)
        return move.created_at if move.phase is Phase.NEW else known or seen or move.created_at

    def timeline(self, move: Move) -> list[Json]:
        """Phases in the order in which the move reached them: `{"phase": …, "at": RFC 3339}`."""
        times = self._seen.get(move.uid, {}) | {Phase.NEW: move.created_at}
        known = {Phase.ACCEPTED: move.accepted_at, Phase.IN_PROGRESS: move.started_at}
        if move.phase.is_final:
            known[move.phase] = move.completed_at
            if move.completed_at == move.started_at and move.phase is not Phase.COMPLETED:
                del known[Phase.IN_PROGRESS]  # both are written at the end of a move that never began
        times |= {phase: moment for phase, moment in known.items() if moment is not None}
        return [{"phase": phase.value, "at": format_time(times[phase])} for phase in Phase if phase in times]
