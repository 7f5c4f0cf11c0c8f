"""Order of work: one object at a time by itself, and a node's slots in the order in which moves were created.

`WorkQueue` never runs two passes over one object side by side and forgets no wake-up. `Slots` holds the
node's concurrency limit. Neither knows what a move is.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, insort
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from kube.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable
    from datetime import datetime

_BACKOFF_SECONDS = (1.0, 60.0)

K = TypeVar("K", bound="Hashable")


class WorkQueue:
    """Keys to be looked at. A key that is added while it is worked on is worked on once more afterwards."""

    def __init__(self) -> None:
        self._ready: deque[Hashable] = deque()
        self._waiting: set[Hashable] = set()
        self._busy: dict[Hashable, float] = {}
        self._again: set[Hashable] = set()
        self._timers: dict[Hashable, asyncio.TimerHandle] = {}
        self._backoffs: dict[Hashable, Backoff] = {}
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def longest_look_seconds(self) -> float:
        """Seconds that the longest look under way has taken; a look waits for nothing but the API."""
        now = time.monotonic()
        return now - min(self._busy.values(), default=now)

    def add(self, key: Hashable) -> None:
        """Have a key looked at soon."""
        if key in self._busy:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.append(key)
            self._wake.set()

    def add_after(self, key: Hashable, seconds: float) -> None:
        """Have a key looked at later; the earliest of several wishes counts."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None and not timer.cancelled() and timer.when() <= loop.time() + seconds:
            return
        if timer is not None:
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._due, key)

    def add_backed_off(self, key: Hashable, error: Exception, *, at_least: float = 0.0) -> None:
        """Have a key looked at again after a failure: later each time, and not before the server wants it."""
        backoff = self._backoffs.setdefault(key, Backoff(*_BACKOFF_SECONDS))
        self.add_after(key, at_least + backoff.next_seconds(error))

    def went_well(self, key: Hashable) -> None:
        """Begin with short pauses again at the next failure."""
        self._backoffs.pop(key, None)

    def forget(self, key: Hashable) -> None:
        """Look at a key no later: what it names is gone."""
        self._backoffs.pop(key, None)
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _due(self, key: Hashable) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def work(self, look: Callable[[Hashable], Awaitable[None]]) -> None:
        """Look at one key after the other, for ever; several workers may share a queue."""
        while True:
            while not self._ready:
                self._wake.clear()
                await self._wake.wait()
            key = self._ready.popleft()
            self._waiting.discard(key)
            self._busy[key] = time.monotonic()
            try:
                await look(key)
            finally:
                del self._busy[key]
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)


class Line:
    """Moves that wait for a place in the cluster's prepare queue: the oldest is the next to get one."""

    def __init__(self) -> None:
        self.waiting: dict[str, datetime] = {}
        self._ordered: list[tuple[datetime, str]] = []

    def stand(self, uid: str, created_at: datetime, free: int) -> bool:
        """Stand in line; True if one of so many free places is this move's."""
        if self.waiting.get(uid) != created_at:
            self.leave(uid)
            self.waiting[uid] = created_at
            insort(self._ordered, (created_at, uid))
        return bisect_left(self._ordered, (created_at, uid)) < free

    def leave(self, uid: str) -> None:
        """Step out of the line: with a place, or because nothing is waited for any more."""
        created_at = self.waiting.pop(uid, None)
        if created_at is not None:
            del self._ordered[bisect_left(self._ordered, (created_at, uid))]


class Slots:
    """A node's slots: `limit` moves at once, the oldest waiting first."""

    def __init__(self, limit: int, freed: Callable[[], None] = lambda: None) -> None:
        self.limit = limit
        self.holders: set[str] = set()
        self.waiting: dict[str, datetime] = {}
        self._freed = freed

    def try_take(self, uid: str, created_at: datetime) -> bool:
        """Take a slot, if one is free and nobody older waits for it; else stand in line."""
        if uid in self.holders:
            return True
        self.waiting[uid] = created_at
        free = self.limit - len(self.holders)
        first = sorted(self.waiting, key=lambda waiting: (self.waiting[waiting], waiting))[: max(free, 0)]
        if uid not in first:
            return False
        self.hold(uid)
        return True

    def hold(self, uid: str) -> None:
        """Take a slot whatever the limit says: its mover runs already (after a restart)."""
        self.waiting.pop(uid, None)
        self.holders.add(uid)

    def leave(self, uid: str) -> None:
        """Give a slot back, or step out of the line."""
        held = uid in self.holders
        self.holders.discard(uid)
        if self.waiting.pop(uid, None) is not None or held:
            self._freed()
