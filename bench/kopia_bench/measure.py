"""One measured process: wall time, CPU seconds, peak resident and anonymous memory."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

_POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Measured:
    """What one run of a command cost."""

    wall_seconds: float
    cpu_seconds: float
    resident_bytes_max: int
    """VmHWM of the process, as the kernel counts it."""
    anonymous_bytes_max: int
    """Largest RssAnon seen while polling: mapped binaries are not in it."""


class CommandFailedError(RuntimeError):
    """A measured command ended with an error: the comparison would be void."""


def run(command: list[str | Path], environment: dict[str, str]) -> Measured:
    """Runs `command` to its end.

    Raises:
        CommandFailedError: it did not exit with 0.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    seen = MemoryPoll(process.pid)
    errors: list[bytes] = []
    reader = threading.Thread(target=lambda: errors.append(process.stderr.read() if process.stderr else b""))
    reader.start()
    seen.start()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    seen.stop()
    reader.join()
    if process.returncode != 0:
        text = b"".join(errors).decode(errors="replace")[-2000:]
        raise CommandFailedError(f"{' '.join(map(str, command))} exited with {process.returncode}: {text}")
    return Measured(wall, usage.ru_utime + usage.ru_stime, seen.resident_bytes_max, seen.anonymous_bytes_max)


class MemoryPoll(threading.Thread):
    """Reads /proc/PID/status until told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.anonymous_bytes_max = 0
        # not ru_maxrss: that counts this process too, which the child was until it called exec
        self.resident_bytes_max = 0
        self._path = f"/proc/{pid}/status"
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(_POLL_SECONDS):
            try:
                text = Path(self._path).read_text(encoding="ascii", errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                return
            for line in text.splitlines():
                if line.startswith("RssAnon:"):
                    self.anonymous_bytes_max = max(self.anonymous_bytes_max, int(line.split()[1]) * 1024)
                elif line.startswith("VmHWM:"):
                    self.resident_bytes_max = max(self.resident_bytes_max, int(line.split()[1]) * 1024)

    def stop(self) -> None:
        self._end.set()
        self.join()
