"""Parameters and upgrades by us: every version of the real kopia reads, verifies and goes on from the result."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import real_program
from tests.drivers import MOVER, Kopia, Mover
from tests.programs import KOPIA, KOPIA_VERSIONS
from tests.trees import assert_same_tree, sample_tree

pytestmark = pytest.mark.kopia

AT_ONCE = (
    "--allow-unsafe-upgrade",
    "--io-drain-timeout=0.1s",
    "--status-poll-interval=0.1s",
    "--max-permitted-clock-drift=0.1s",
)


def _fresh(kopia: Kopia, home: Path, binary: Path | None = None) -> Kopia:
    """A client that has cached nothing: kopia keeps the format blob for 15 minutes."""
    fresh = Kopia(binary or kopia.binary, home, kopia.repository)
    fresh.connect()
    return fresh


def _format(kopia: Kopia) -> dict[str, object]:
    found: dict[str, object] = kopia.json("repository", "status")["contentFormat"]
    return found


@pytest.mark.parametrize("version", ["1", "2"])
def test_what_we_upgrade_every_kopia_verifies_maintains_and_goes_on_from(
    kopia: Kopia, mover: Mover, tmp_path: Path, version: str
) -> None:
    """Data and deletions by both before; kopia's own comparison of the indexes finds them equal."""
    kopia.create(f"--format-version={version}")
    source = sample_tree(tmp_path / "source", large_bytes=2_000_000, small_count=20)
    kept = kopia.backup(source)["id"]
    (source / "doomed").write_bytes(b"doomed" * 50_000)
    kopia("snapshot", "delete", mover.backup(source)["id"], "--delete")
    (source / "doomed").unlink()
    assert mover.json("repo", "upgrade", *AT_ONCE)["state"] == "upgraded"
    assert mover.json("repo", "upgrade", *AT_ONCE)["state"] == "up_to_date"
    fresh = _fresh(kopia, tmp_path / "fresh-home")
    assert _format(fresh)["version"] == 3
    fresh.environment["KOPIA_UPGRADE_LOCK_ENABLED"] = "1"
    fresh("repository", "upgrade", "validate")
    programs = KOPIA_VERSIONS if version == "1" else [KOPIA]
    for number, binary in enumerate(map(real_program, programs)):
        one = _fresh(kopia, tmp_path / f"home-{number}", binary)
        one.prove()
        (source / f"by-{number}").write_bytes(bytes([number]) * 1000)
        one.backup(source)
        one.maintain()
    mover.prove()
    assert mover.json("repo", "verify")["damage_count"] == 0
    mover.restore(mover.backup(source)["id"], tmp_path / "by-mover")
    assert_same_tree(source, tmp_path / "by-mover")
    _fresh(kopia, tmp_path / "last-home").restore(kept, tmp_path / "kept")
    assert not (tmp_path / "kept" / "by-0").exists()


def test_a_locked_repository_is_refused_and_a_roll_back_brings_it_again(
    kopia: Kopia, mover: Mover, tmp_path: Path
) -> None:
    """Both programs say why they refuse; after the roll-back kopia reads format 1 and writes it; then it is upgraded."""
    kopia.create("--format-version=1")
    source = sample_tree(tmp_path / "source", large_bytes=2_000_000, small_count=20)
    snapshot = kopia.backup(source)["id"]
    locked = mover.json("repo", "upgrade", *AT_ONCE, "--lock-only", "--owner-id=somebody")
    assert locked["state"] == "draining"
    refused = mover("snapshot", "list", check=False)
    assert (refused.returncode, b"upgrade in progress by somebody" in refused.stderr) == (20, True)
    # kopia waits without end unless it is told not to; what it has cached it goes on with for 15 minutes
    shutil.rmtree(kopia.home / "cache")
    theirs = kopia("snapshot", "list", "--upgrade-no-block", check=False)
    assert theirs.returncode != 0
    assert b"upgrade" in theirs.stderr
    other = mover("repo", "upgrade", *AT_ONCE, check=False)
    assert (other.returncode, b"somebody upgrades the repository" in other.stderr) == (30, True)
    assert mover("repo", "upgrade", "rollback", check=False).returncode == 30
    mover("repo", "upgrade", "rollback", "--owner-id=somebody")
    fresh = _fresh(kopia, tmp_path / "fresh-home")
    assert _format(fresh)["version"] == 1
    fresh.prove()
    fresh.backup(source)
    assert mover.json("repo", "upgrade", *AT_ONCE)["state"] == "upgraded"
    last = _fresh(kopia, tmp_path / "last-home")
    last.prove()
    last.restore(snapshot, tmp_path / "restored")
    assert_same_tree(source, tmp_path / "restored")


def test_kopia_obeys_the_parameters_that_we_set(kopia: Kopia, mover: Mover, tmp_path: Path) -> None:
    """Each is in `kopia repository status`; what kopia would refuse we refuse, and nothing changes."""
    kopia.create()
    kopia.backup(sample_tree(tmp_path / "source"))
    mover(
        "repo",
        "set-parameters",
        "--max-pack-size-mb=35",
        "--epoch-min-duration=12h",
        "--epoch-refresh-frequency=10m",
        "--epoch-cleanup-safety-margin=2h",
        "--epoch-advance-on-count=15",
        "--epoch-advance-on-size-mb=7",
        "--epoch-delete-parallelism=3",
        "--epoch-checkpoint-frequency=5",
    )
    for wrong in ("--max-pack-size-mb=9", "--index-version=1", "--epoch-refresh-frequency=11h"):
        assert mover("repo", "set-parameters", wrong, check=False).returncode == 2
    fresh = _fresh(kopia, tmp_path / "fresh-home")
    found = _format(fresh)
    assert found["maxPackSize"] == 35 << 20
    assert found["epochParameters"] == {
        "Enabled": True,
        "EpochRefreshFrequency": 600 * 10**9,
        "FullCheckpointFrequency": 5,
        "CleanupSafetyMargin": 7200 * 10**9,
        "MinEpochDuration": 43200 * 10**9,
        "EpochAdvanceOnCountThreshold": 15,
        "EpochAdvanceOnTotalSizeBytesThreshold": 7 << 20,
        "DeleteParallelism": 3,
    }
    fresh.prove()
    assert mover.json("repo", "set-parameters", "--max-pack-size-mb=35")["changes"] == []
    mover("repo", "set-parameters", "--add-required-feature=tomorrow", "--warn-on-missing-required-feature")
    mover("repo", "set-parameters", "--remove-required-feature=tomorrow")
    _fresh(kopia, tmp_path / "last-home").prove()


def test_limits_are_kept_with_the_connection(mover: Mover) -> None:
    """They are of the connection that `repo create` leaves, not of the repository; kopia's file is left alone."""
    mover.create()
    environment = os.environ | {"HOME": str(mover.home), "KOPIA_PASSWORD": mover.password}

    def throttle(*words: str) -> subprocess.CompletedProcess[bytes]:
        command = [str(MOVER), "repo", "throttle", *words, "--json"]
        return subprocess.run(command, env=environment, capture_output=True, check=False)

    changed = throttle("set", "--upload-bytes-per-second=10M")
    assert changed.returncode == 0, changed.stderr
    assert json.loads(throttle().stdout) == {
        "upload_bytes_per_second": 10 << 20,
        "download_bytes_per_second": 0,
    }
    throttle("set", "--upload-bytes-per-second=unlimited")
    assert json.loads(throttle("get").stdout)["upload_bytes_per_second"] == 0
    assert mover("repo", "throttle", check=False).returncode == 2
