"""History: when moves reached their phases, as far as this agent saw it, and the latest moves that are over.

For show alone, bounded, and forgotten at a restart but for what the resources themselves say. The schemas
hold no time for `Prepared`, so only who watched knows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.moves.custom_resources import Phase, format_time

if TYPE_CHECKING:
    from datetime import datetime

    from agent.moves.custom_resources import Move

Json = dict[str, Any]

_RECENT_COUNT_MAX = 100


class History:
    """What was seen of moves. Fed by the caches, read by the board."""

    def __init__(self, recent_count_max: int = _RECENT_COUNT_MAX) -> None:
        self._count_max = recent_count_max
        self._seen: dict[str, dict[Phase, datetime]] = {}
        self._over: dict[str, tuple[str, Move, list[Json]]] = {}

    def saw(self, move: Move, now: datetime) -> None:
        """Note the phase that a move under way is in."""
        if not move.phase.is_final:
            self._seen.setdefault(move.uid, {}).setdefault(move.phase, now)

    def ended(self, move: Move) -> None:
        """Keep a move that is over, unless so many later ones are kept already; the first report counts."""
        if move.uid not in self._over:
            key = format_time(move.completed_at or move.created_at)
            self._over[move.uid] = (key, move, self.timeline(move))
            if len(self._over) > self._count_max:
                del self._over[min(self._over, key=lambda uid: (self._over[uid][0], uid))]
        self.forget(move.uid)

    def is_old(self, completed: str) -> bool:
        """Whether a move that ended then (RFC 3339, UTC) would not be kept: spares reading it."""
        full = len(self._over) >= self._count_max
        return full and completed < min(key for key, _, _ in self._over.values())

    def forget(self, uid: str) -> None:
        """Drop what was seen of a move under way."""
        self._seen.pop(uid, None)

    def recent(self) -> list[tuple[Move, list[Json]]]:
        """Moves that are over and their timelines, the latest first."""
        ordered = sorted(self._over.values(), key=lambda entry: (entry[0], entry[1].uid), reverse=True)
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
