"""Long work and signals."""

from __future__ import annotations

import argparse
import os
import signal
import time

import pytest

from mover.progress_display import ProgressDisplay
from mover.running import run
from repository.engine import CancelToken, Progress


@pytest.fixture
def display() -> ProgressDisplay:
    return ProgressDisplay("backup", argparse.Namespace(quiet=True, progress_interval_seconds=0.01))


def test_what_the_work_gives_or_raises_comes_back(display: ProgressDisplay) -> None:
    assert run(lambda _progress, _cancel: 42, display) == 42
    with pytest.raises(ZeroDivisionError):
        run(lambda _progress, _cancel: 1 // 0, display)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_the_work_to_end_in_good_order(number: int, display: ProgressDisplay) -> None:
    before = signal.getsignal(number)

    def work(_progress: Progress, cancel: CancelToken) -> str:
        os.kill(os.getpid(), number)
        deadline = time.monotonic() + 10
        while not cancel.is_canceled and time.monotonic() < deadline:
            time.sleep(0.001)
        return "ended" if cancel.is_canceled else "never heard of it"

    assert run(work, display) == "ended"
    assert signal.getsignal(number) is before
