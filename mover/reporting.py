"""The report channel: progress while it runs, one result at the end.

In a pod, progress is a line on standard output every few seconds, and the end is the termination message with
an exit code (`mover.exit_codes`), told by the log's last line too. Nothing here knows a pod or an API.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Protocol

from mover.protocol import End, Progress, encode_end, encode_progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Reporter(Protocol):
    """Where reports go."""

    def progress(self, progress: Progress) -> None:
        """Say how far the work is."""
        ...

    def finished(self, end: End) -> None:
        """Hand over exit code and termination message; called once, and last."""
        ...


class PodReporter:
    """Standard output and the termination log."""

    def __init__(self, termination_log: Path) -> None:
        self._termination_log = termination_log

    def progress(self, progress: Progress) -> None:
        """Write one line."""
        sys.stdout.write(encode_progress(progress) + "\n")
        sys.stdout.flush()

    def finished(self, end: End) -> None:
        """Write the termination message, and the same as the last line of the log.

        Raises:
            OSError: it cannot be written; the mover must not end with 0 then.
        """
        self._termination_log.write_text(end.text, encoding="utf-8")
        sys.stdout.write(encode_end(end) + "\n")
        sys.stdout.flush()


class ProgressTicker:
    """Reports in a thread while the main thread is in the engine: the first change at once."""

    def __init__(self, read: Callable[[], Progress], reporter: Reporter, seconds: float) -> None:
        self._read, self._reporter, self._seconds = read, reporter, seconds
        self._stop = threading.Event()
        self._last = Progress()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._report()

    def _run(self) -> None:
        quick = min(0.2, self._seconds)
        while not self._stop.wait(self._seconds if self._last != Progress() else quick):
            self._report()

    def _report(self) -> None:
        now = self._read()
        if now != self._last:
            self._last = now
            self._reporter.progress(now)
