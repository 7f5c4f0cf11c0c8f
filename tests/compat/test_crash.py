"""Killed before and after each storage write: nothing that was saved is lost, and the next backup succeeds.

`--kill-at before:N` (not shown in the help) ends the process by SIGKILL around the N-th write of
the storage layer, so every point of the order of writes is tried.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from tests.drivers import Kopia, Mover
from tests.trees import assert_same_tree, sample_tree

pytestmark = pytest.mark.kopia
WRITES_MAX = 60


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("version", [1, 3])
def test_a_backup_killed_at_any_write_leaves_a_good_repository(
    moment: str, version: int, kopia: Kopia, mover: Mover, tmp_path: Path
) -> None:
    first_source = sample_tree(tmp_path / "first", seed=1, large_bytes=2_500_000, small_count=10)
    second_source = sample_tree(tmp_path / "second", seed=2, large_bytes=2_500_000, small_count=10)
    mover.create(f"--format-version={version}", "--object-splitter=DYNAMIC-1M-BUZHASH")
    kept = mover.backup(first_source)
    pristine = tmp_path / "pristine"
    shutil.copytree(mover.repository, pristine)
    for number in range(1, WRITES_MAX):
        shutil.rmtree(mover.repository)
        shutil.copytree(pristine, mover.repository)
        done = mover("backup", second_source, "--kill-at", f"{moment}:{number}", check=False)
        if done.returncode == 0:
            assert number > 4, "a backup has more writes than that: the kill point does not work"
            return
        assert done.returncode == -signal.SIGKILL, done.stderr
        _check(kopia, mover, kept["id"], first_source, second_source, tmp_path, with_kopia=number % 3 == 1)
    pytest.fail(f"more than {WRITES_MAX} writes")


def _check(  # noqa: PLR0917 - one scene
    kopia: Kopia, mover: Mover, kept: str, first: Path, second: Path, tmp_path: Path, *, with_kopia: bool
) -> None:
    target = tmp_path / "restored"
    if with_kopia:
        shutil.rmtree(kopia.home, ignore_errors=True)
        kopia.connect()
        kopia.prove()
    mover.restore(kept, target)
    assert_same_tree(first, target)
    shutil.rmtree(target)
    again = mover.backup(second)
    mover.prove()
    mover.restore(again["id"], target)
    assert_same_tree(second, target)
    shutil.rmtree(target)
