"""How far long work is: one live line on a terminal, a line now and then elsewhere, nothing with `--quiet`.

On standard error. The counters are the engine's; which of them are shown depends on the work.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import TextIO

from mover.console import count_text, duration_text, size_text

LIVE_INTERVAL_SECONDS = 0.25
# The rate is that of the last seconds, so that it follows what happens.
RATE_READINGS = 40
SILENT_INTERVAL_SECONDS = 3600.0
PARTS = {
    "backup": (
        ("bytes_read", "read"),
        ("bytes_hashed", "hashed"),
        ("bytes_uploaded", "uploaded"),
        ("bytes_cached", "unchanged"),
    ),
    "restore": (("bytes_written", "restored"),),
    "verify": (("bytes_downloaded", "verified"),),
    "repo verify": (("bytes_downloaded", "verified"),),
    "copy": (("bytes_uploaded", "copied"),),
    "maintain": (("bytes_uploaded", "rewritten"),),
    "repair": (("bytes_downloaded", "read"),),
    "snapshot copy": (("bytes_uploaded", "copied"),),
}
DONE = {
    "backup": ("bytes_read", "bytes_cached"),
    "restore": ("bytes_written",),
    "verify": ("bytes_downloaded",),
    "repo verify": ("bytes_downloaded",),
    "copy": ("bytes_uploaded",),
    "maintain": ("bytes_uploaded",),
    "repair": ("bytes_downloaded",),
    "snapshot copy": ("bytes_uploaded",),
}
UNITS = {
    "repo verify": "pack",
    "copy": "blob",
    "maintain": "content",
    "repair": "content",
    "snapshot copy": "object",
}  # what is counted, where it is not files


class ProgressDisplay:
    """Shows readings of one piece of work. `bytes_expected` stands in for a total that is not known."""

    def __init__(self, work: str, arguments: argparse.Namespace, *, bytes_expected: int = 0) -> None:
        self._work = work
        self._stream: TextIO = sys.stderr
        self._live = self._stream.isatty()
        self._quiet = bool(arguments.quiet)
        self._expected = bytes_expected
        self._readings: deque[tuple[float, int]] = deque(maxlen=RATE_READINGS)
        self._shown = False
        lines_interval = arguments.progress_interval_seconds
        self.interval_seconds = LIVE_INTERVAL_SECONDS if self._live else lines_interval
        if self._quiet or self.interval_seconds <= 0:
            self.interval_seconds = SILENT_INTERVAL_SECONDS
        self._readings.append((time.monotonic(), 0))

    def show(self, reading: Mapping[str, int]) -> None:
        """Shows a reading of the counters."""
        if self._quiet:
            return
        done = sum(reading[name] for name in DONE[self._work])
        self._readings.append((time.monotonic(), done))
        text = "  ".join(self._parts(reading, done))
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r{text[:width]}\x1b[K")
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()
        self._shown = True

    def clear(self) -> None:
        """Takes the live line away."""
        if self._live and self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False

    def _parts(self, reading: Mapping[str, int], done: int) -> list[str]:
        parts = [count_text(reading["files_done"], UNITS.get(self._work, "file"))]
        parts += [f"{size_text(reading[name])} {what}" for name, what in PARTS[self._work] if reading[name]]
        if reading["entries_failed"]:
            parts.append(f"{reading['entries_failed']:,} failed")
        rate = self._rate()
        if rate:
            parts.append(f"{size_text(rate)}/s")
        total = reading["bytes_total"] or self._expected
        if rate and total > done:
            parts.append(f"about {duration_text((total - done) / rate)} left")
        return parts

    def _rate(self) -> float:
        (first_at, first), (last_at, last) = self._readings[0], self._readings[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else 0.0
