"""Exponential back-off with jitter, and `Retry-After`: how everything here repeats that asks the API server.

Agents of a thousand nodes lose the same API server at the same moment; without growth and jitter they would
beat it together while it comes up. What the server itself asks for (`Retry-After`, with a 429 above all) is
obeyed, up to a bound. As client-go's `wait.Backoff` and its request back-off.
"""

from __future__ import annotations

import asyncio
import random

_ASKED_SECONDS_MAX = 60.0


class Backoff:
    """Pauses that double from `first` to `most` seconds, each shortened by up to a half at random."""

    def __init__(self, first: float, most: float) -> None:
        self._first, self._most, self._next = first, most, first

    def reset(self) -> None:
        """Begin with short pauses again: something went well."""
        self._next = self._first

    def next_seconds(self, error: BaseException | None = None) -> float:
        """Return how long to pause now; never less than the server asked for with `error`."""
        seconds = self._next * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, no secret
        self._next = min(self._next * 2, self._most)
        asked = min(float(getattr(error, "retry_after_seconds", 0.0)), _ASKED_SECONDS_MAX)
        return asked + seconds if asked else seconds

    async def pause(self, error: BaseException | None = None) -> None:
        """Pause."""
        await asyncio.sleep(self.next_seconds(error))
