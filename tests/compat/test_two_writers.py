"""`kopia` and `mover` write to one repository at the same time; afterwards both verify everything."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from tests.drivers import Kopia, Mover
from tests.trees import assert_same_tree, sample_tree

pytestmark = pytest.mark.kopia
SECONDS = 60 if os.environ.get("CI") else 15


def test_two_writers_at_once_lose_nothing(kopia: Kopia, mover: Mover, tmp_path: Path) -> None:
    mover.create()
    kopia.connect()
    sources = {
        name: sample_tree(tmp_path / name, seed=seed, large_bytes=3_000_000)
        for seed, name in enumerate(("ours", "theirs", "shared"))
    }
    end = time.monotonic() + SECONDS
    failures: list[BaseException] = []
    counts = {"kopia": 0, "mover": 0}

    def write(name: str, program: Kopia | Mover, own: Path) -> None:
        try:
            while time.monotonic() < end:
                (own / "changing").write_bytes(os.urandom(300_000))
                program.backup(own)
                program.backup(sources["shared"])
                counts[name] += 1
        except BaseException as failure:  # noqa: BLE001 - handed to the main thread
            failures.append(failure)

    threads = [
        threading.Thread(target=write, args=("kopia", kopia, sources["theirs"])),
        threading.Thread(target=write, args=("mover", mover, sources["ours"])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert min(counts.values()) >= 1
    kopia.prove()
    mover.prove()
    newest = max(
        (one for one in mover.snapshots() if one["source"]["path"] == str(sources["ours"])),
        key=lambda one: one["startTime"],
    )
    mover.restore(newest["id"], tmp_path / "restored")
    assert_same_tree(sources["ours"], tmp_path / "restored")
