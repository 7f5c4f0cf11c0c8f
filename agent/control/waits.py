"""How long moves have waited, by a clock that nobody can set.

The wall clock counts once, when a moment is first seen (how long ago was it, before this process was
there?); from then on the monotonic one does. So a clock that is put right, on this node or another, ends no
move before its time and keeps none beyond it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


class Waits:
    """When moments that moves wait from were, on the monotonic clock."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or time.monotonic
        self._began: dict[str, dict[datetime, float]] = {}

    def seconds(self, uid: str, since: datetime, now: datetime) -> float:
        """Seconds from `since` to now; never less than 0, whatever the clocks of others say."""
        moments = self._began.setdefault(uid, {})
        if since not in moments:
            moments[since] = self._clock() - max((now - since).total_seconds(), 0.0)
        return self._clock() - moments[since]

    def forget(self, uid: str) -> None:
        """Drop what is remembered of a move that is gone."""
        self._began.pop(uid, None)
