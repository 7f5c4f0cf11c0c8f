"""What a transfer record says about the way: seconds of each stage, the slowest, and how often was retried.

Also hands what the engine tells over to the pod's log, one JSON object a line.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from repository.engine import drain_events

if TYPE_CHECKING:
    from collections.abc import Iterator

_RETRIED = "blob request retried"


class Stages:
    """The stages of one transfer."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._retry_count = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what the block takes to a stage, also when it fails."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - began

    def hear(self) -> None:
        """Take what the engine has told since the last call: retries are counted, the rest is logged."""
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
