"""Limits of bandwidth: they hold, and a change of their file is followed by a backup that runs."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mover.throttle import UPLOAD
from tests.objectstore.counting_proxy import counting_proxy
from tests.objectstore.servers import S3Server
from tests.objectstore.source import contents, mover_at, tree

LARGE_BYTES = 4 << 20
LIMIT_BYTES_PER_SECOND = 1 << 20
WINDOW_SECONDS = 2.0
EXCESS_MAX = 1.1
ATTEMPTS = 3
SLOW_BYTES_PER_SECOND = 20_000


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_no_two_seconds_have_a_tenth_more_than_the_limit(
    s3: S3Server, tmp_path: Path, direction: str
) -> None:
    """Measured on the wire, by what passes a proxy: from the first byte on, headers and all.

    A machine that does other things makes bursts of what came in time, and never fewer: the best of three counts.
    """
    source = tree(tmp_path / "source", seed=31, large_bytes=LARGE_BYTES)
    excesses: list[float] = []
    while len(excesses) < ATTEMPTS and (not excesses or min(excesses) >= EXCESS_MAX):
        home = tmp_path / str(len(excesses))
        home.mkdir()
        excesses.append(_excess(s3, home, source, direction))
    assert min(excesses) < EXCESS_MAX, excesses


def _excess(s3: S3Server, home: Path, source: Path, direction: str) -> float:
    """The most that passed within two seconds, as a share of what the limit allows."""
    prefix = f"paced-{direction}-{home.name}"
    mover_at(home, s3.url(prefix)).create()
    if direction == "download":
        mover_at(home, s3.url(prefix)).backup(source)
    with counting_proxy(s3.port) as proxy:
        mover = mover_at(home, s3.url(prefix, endpoint=f"http://127.0.0.1:{proxy.port}"))
        if direction == "upload":
            mover.backup(source, "--max-upload-speed", str(LIMIT_BYTES_PER_SECOND))
        else:
            snapshot = mover.snapshots()[0]["id"]
            options = ("--max-download-speed", str(LIMIT_BYTES_PER_SECOND), "--no-cache")
            mover.restore(snapshot, home / "restored", *options)
            assert contents(home / "restored") == contents(source)
    passed = proxy.upward if direction == "upload" else proxy.downward
    assert passed.total() > LARGE_BYTES
    return float(proxy.excess(passed, LIMIT_BYTES_PER_SECOND, WINDOW_SECONDS))


def test_a_limit_that_is_lifted_lifts_it_for_a_backup_that_runs(s3: S3Server, tmp_path: Path) -> None:
    """At the first limit the backup would take minutes."""
    mover = mover_at(tmp_path, s3.url("lifted"))
    mover.create()
    source = tree(tmp_path / "source", seed=32, large_bytes=LARGE_BYTES)
    limits = tmp_path / "limits.json"
    limits.write_text(json.dumps({UPLOAD: SLOW_BYTES_PER_SECOND}))
    started = time.monotonic()
    with ThreadPoolExecutor() as pool:
        backup = pool.submit(mover, "backup", source, "--throttle-file", limits)
        time.sleep(3)
        assert not backup.done(), "the limit did not hold"
        new = tmp_path / "limits.new"
        new.write_text(json.dumps({UPLOAD: 0}))
        new.rename(limits)
        backup.result()
    assert time.monotonic() - started < LARGE_BYTES / SLOW_BYTES_PER_SECOND / 2
