"""Limits of bandwidth: they hold, and a change of their file is followed by a backup that runs."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mover.throttle import UPLOAD
from tests.objectstore.servers import S3Server
from tests.objectstore.source import mover_at, tree

LARGE_BYTES = 4 << 20
SLOW_BYTES_PER_SECOND = 20_000


def test_an_upload_takes_its_time(s3: S3Server, tmp_path: Path) -> None:
    """Four MiB at one MiB a second: not less than most of four seconds."""
    mover = mover_at(tmp_path, s3.url("throttled"))
    mover.create()
    source = tree(tmp_path / "source", seed=31, large_bytes=LARGE_BYTES)
    started = time.monotonic()
    mover.backup(source, "--max-upload-speed", "1M")
    assert time.monotonic() - started > 3.5


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
