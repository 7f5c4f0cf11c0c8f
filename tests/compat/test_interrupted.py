"""Interrupted work: a large file whose backup is killed, Ctrl-C at a real terminal, SIGTERM.

Bandwidth is limited, so that what is to be interrupted cannot have ended before; each test waits for what
shows that the work is under way, never for a time.
"""

from __future__ import annotations

import os
import pty
import random
import select
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import drivers
from tests.drivers import Kopia, Mover
from tests.trees import assert_same_tree

pytestmark = pytest.mark.kopia
PATIENCE_SECONDS = 120
FILE_BYTES = 64_000_000
SLOW_UPLOAD = "--max-upload-speed=4000000"
SLOW_DOWNLOAD = "--max-download-speed=4000000"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """One file of random bytes."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "disk.img").write_bytes(random.Random(7).randbytes(FILE_BYTES))
    return source


def _until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.02)


def _count(mover: Mover, kind: str) -> int:
    """Blobs of a kind that are there under their final names."""
    return sum(1 for blob in (mover.repository / kind).rglob("*.f"))


def _pack_bytes(mover: Mover) -> int:
    return sum(blob.stat().st_size for blob in (mover.repository / "p").rglob("*.f"))


def test_a_killed_backup_of_one_large_file_is_gone_on_with(
    kopia: Kopia, mover: Mover, source: Path, tmp_path: Path
) -> None:
    mover.create("--object-splitter=DYNAMIC-1M-BUZHASH", "--max-pack-size-mb=10")
    indexes = _count(mover, "x")
    command = [drivers.MOVER, "backup", source, "--repo", mover.repository, "--quiet"]
    environment = os.environ | {"HOME": str(mover.home), "KOPIA_PASSWORD": mover.password}
    with subprocess.Popen([*command, "--checkpoint-interval=1s", SLOW_UPLOAD], env=environment) as process:
        # A checkpoint is stored; the limit leaves seconds to the end.
        _until(lambda: _count(mover, "x") > indexes, process)
        process.kill()
    kept = _pack_bytes(mover)
    assert 0 < kept < FILE_BYTES, "it was killed in the middle"
    second = mover.backup(source)
    stored = _pack_bytes(mover) - kept
    assert stored < FILE_BYTES - 3_000_000, f"{stored} of {FILE_BYTES} bytes were stored again"
    assert "incomplete" not in second
    kopia.connect()
    kopia.prove()
    mover.restore(second["id"], tmp_path / "restored")
    assert_same_tree(source, tmp_path / "restored")


@dataclass
class Terminal:
    """Our side of a terminal and the program at its other side."""

    process: subprocess.Popen[bytes]
    ours: int
    theirs: int
    output: bytes = b""

    def read_until(self, text: bytes) -> None:
        """Reads until `text` was shown."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in self.output:
            assert time.monotonic() < deadline, self.output
            assert self._read(0.1) or self.process.poll() is None, self.output

    def end(self) -> int:
        """Reads until the program has ended; gives its exit code."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.output
            self._read(0.1)
        while self._read(0):
            pass
        return self.process.returncode

    def _read(self, timeout_seconds: float) -> bool:
        if not select.select([self.ours], [], [], timeout_seconds)[0]:
            return False
        self.output += os.read(self.ours, 65_536)
        return True


@pytest.fixture
def at_terminal(mover: Mover) -> Iterator[Callable[..., Terminal]]:
    """Starts `mover ARGUMENTS` as the foreground job of a terminal of its own."""
    opened: list[Terminal] = []

    def start(*arguments: str | Path) -> Terminal:
        ours, theirs = pty.openpty()
        command = [str(drivers.MOVER), *map(str, arguments), "--repo", str(mover.repository)]
        environment = os.environ | {"HOME": str(mover.home), "KOPIA_PASSWORD": mover.password}
        process = subprocess.Popen(
            # The terminal becomes the session's own, so that its Ctrl-C reaches the program.
            ["setsid", "--ctty", "--wait", *command],
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        opened.append(Terminal(process, ours, theirs))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.ours)
        os.close(terminal.theirs)


@pytest.mark.parametrize("work", ["backup", "restore", "verify"])
def test_ctrl_c_ends_in_good_order(
    work: str, mover: Mover, source: Path, at_terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    mover.create("--object-splitter=DYNAMIC-1M-BUZHASH", "--max-pack-size-mb=10")
    arguments: tuple[str | Path, ...] = ("backup", source, SLOW_UPLOAD)
    if work != "backup":
        snapshot = mover.backup(source)["id"]
        verify = ("verify", snapshot, "--percent=100", "--no-cache", SLOW_DOWNLOAD)
        restore = ("restore", snapshot, tmp_path / "restored", "--no-cache", SLOW_DOWNLOAD)
        arguments = verify if work == "verify" else restore
    terminal = at_terminal(*arguments)
    before = termios.tcgetattr(terminal.theirs)
    terminal.read_until(b" MB")
    os.write(terminal.ours, b"\x03")
    assert terminal.end() == 10
    assert b"ending in good order" in terminal.output
    assert b"Traceback" not in terminal.output
    assert b"\x1b[?25l" not in terminal.output, "the cursor was hidden"
    assert termios.tcgetattr(terminal.theirs) == before
    if work == "backup":
        (left,) = mover.json("snapshot", "list", "--incomplete")
        assert left["incomplete"] == "canceled"
        assert "incomplete" not in mover.backup(source)


def test_sigterm_keeps_what_is_stored(kopia: Kopia, mover: Mover, source: Path) -> None:
    mover.create("--object-splitter=DYNAMIC-1M-BUZHASH", "--max-pack-size-mb=10")
    command = [drivers.MOVER, "backup", source, "--repo", mover.repository, SLOW_UPLOAD]
    environment = os.environ | {"HOME": str(mover.home), "KOPIA_PASSWORD": mover.password}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        _until(lambda: _count(mover, "p") > 0, process)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 10, errors
    assert b"Traceback" not in errors
    kopia.connect()
    assert [one["incomplete"] for one in kopia.snapshots()] == ["canceled"]
    assert "incomplete" not in mover.backup(source)
    kopia.prove()
