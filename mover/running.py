"""Long work in a thread of its own, while this one shows progress and listens to Ctrl-C.

The engine lets the GIL go, so a signal is heard at once. The first one asks the work to end in good
order (a backup keeps what is stored as a checkpoint), the second ends the program where it stands.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Generic, TypeVar

from mover.console import tell
from mover.exit_codes import CANCELED
from mover.progress_display import ProgressDisplay
from repository.engine import CancelToken, Progress, drain_events

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(work: Callable[[Progress, CancelToken], T], display: ProgressDisplay) -> T:
    """Runs `work` and gives what it gives; what it raises is raised here.

    Raises:
        CanceledError: The work ended because a signal came, without a result.
    """
    job = _Job(work)
    before = {number: signal.signal(number, job.on_signal) for number in SIGNALS}
    try:
        job.start()
        while not job.finished.wait(display.interval_seconds):
            _tell_events(display)
            display.show(job.progress.read())
        display.clear()
        _tell_events(display)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return job.result()


def _tell_events(display: ProgressDisplay) -> None:
    for level, text in drain_events():
        if level in {"error", "warning"}:
            display.clear()
            tell(f"{level}: {text}")


class _Job(Generic[T]):
    """The thread, its outcome, and how it is asked to end."""

    def __init__(self, work: Callable[[Progress, CancelToken], T]) -> None:
        self._work = work
        self._outcome: Callable[[], T] | None = None
        self.progress = Progress()
        self.cancel = CancelToken()
        self.finished = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            result = self._work(self.progress, self.cancel)
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            failure = error
            self._outcome = lambda: _raise(failure)
        else:
            self._outcome = lambda: result
        self.finished.set()

    def result(self) -> T:
        if self._outcome is None:
            raise RuntimeError("the work has not finished")
        return self._outcome()

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self.cancel.is_canceled:
            os._exit(CANCELED)
        tell("ending in good order; once more to end at once")
        self.cancel.cancel()


def _raise(error: BaseException) -> T:  # type: ignore[type-var]
    raise error
