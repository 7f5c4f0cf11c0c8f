"""The wish to stop: set by a signal, by the agent's file, or by code; read by whoever works.

Two reasons are told apart: asked for (`requested`), and the pod being taken away (`terminated`), which is no
cancel in the eyes of the user who waits for the backup.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import FrameType

_POLL_SECONDS = 0.2


class CanceledError(Exception):
    """The work was stopped on request; not a failure."""

    temporary = False


class CancelToken:
    """Set once, read often, from any thread."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._listeners: list[Callable[[], None]] = []
        self.terminated = False

    @property
    def is_set(self) -> bool:
        """Whether to stop."""
        return self._event.is_set()

    def cancel(self, *, terminated: bool = False) -> None:
        """Ask to stop; the first reason stands."""
        if not self._event.is_set():
            self.terminated = terminated
            self._event.set()
            for listener in self._listeners:
                listener()

    def on_cancel(self, listener: Callable[[], None]) -> None:
        """Have something called when the token is set (at once, if it is)."""
        self._listeners.append(listener)
        if self._event.is_set():
            listener()

    def wait(self, seconds: float) -> bool:
        """Sleep, but not beyond the cancel."""
        return self._event.wait(seconds)


def cancel_on_signals(token: CancelToken) -> None:
    """Let SIGTERM (the pod is being taken away) and SIGINT stop the work. Main thread only."""

    def stop(number: int, _frame: FrameType | None) -> None:
        token.cancel(terminated=number == signal.SIGTERM)

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)


def cancel_on_file(token: CancelToken, paths: Sequence[Path]) -> threading.Thread:
    """Watch the agent's files, in a thread that ends with the process: once one has content, stop."""

    def watch() -> None:
        while not token.wait(_POLL_SECONDS):
            if any(map(_has_content, paths)):
                token.cancel()

    thread = threading.Thread(target=watch, name="cancel-file", daemon=True)
    thread.start()
    return thread


def _has_content(path: Path) -> bool:
    try:
        return bool(path.read_text().strip())
    except OSError:
        return False
