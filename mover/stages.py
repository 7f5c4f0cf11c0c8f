"""What a transfer record says about the way: seconds of each stage, the slowest, and how often was retried.

The moving itself is split by what its workers were at: scanning, reading, hashing, storing (what they waited
for the storage included); the seconds are those of the clock, in the shares of all workers' time.
Also hands what the engine tells over to the pod's log, one JSON object a line.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from repository.engine import drain_events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from repository.engine import Progress

_RETRIED = "blob request retried"
_WORK = {"nanoseconds_scanning": "scan", "nanoseconds_reading": "read", "nanoseconds_hashing": "hash"} | {
    "nanoseconds_storing": "store"
}
_FLUSHING = "nanoseconds_flushing"
_NANOSECONDS = 1e9


class Stages:
    """The stages of one transfer."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._retry_count = 0
        self._hearing = threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what the block takes to a stage, also when it fails."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - began

    @contextmanager
    def move(self, counters: Progress) -> Iterator[None]:
        """Count what the block takes to the stages of the engine's work in it, also when it fails."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._split(time.monotonic() - began, counters.read())

    def _split(self, seconds: float, read: dict[str, int]) -> None:
        flushing = min(read[_FLUSHING] / _NANOSECONDS, seconds)
        work = {stage: read[counter] for counter, stage in _WORK.items() if read[counter]}
        work = work or {"move": 1}
        scale = (seconds - flushing) / sum(work.values())
        self._seconds |= {stage: spent * scale for stage, spent in work.items()}
        if flushing:
            self._seconds["flush"] = flushing

    def hear(self) -> None:
        """Take what the engine has told since the last call: retries are counted, the rest is logged."""
        with self._hearing:  # who reports progress hears too
            for level, text in drain_events():
                self._retry_count += text.startswith(_RETRIED)
                if level in ("error", "warning"):
                    sys.stdout.write(json.dumps({"level": level, "msg": text}) + "\n")

    def record(self) -> dict[str, Any]:
        """Return the record's part."""
        self.hear()
        seconds = {name: round(value, 3) for name, value in self._seconds.items()}
        slowest = max(seconds, key=lambda name: seconds[name], default="")
        return {"retries": self._retry_count, "seconds": seconds, "slowestStage": slowest}
