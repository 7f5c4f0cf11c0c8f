"""The page on care, followed: create, fill, rotate the password, maintain, break, repair, verify; kopia checks each.

The commands are those of `docs/care.md`; a command that the page has and this test does not know fails.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.drivers import MOVER, Kopia, Mover
from tests.trees import assert_same_tree, sample_tree

pytestmark = pytest.mark.kopia

PAGE = Path(__file__).parents[2] / "docs" / "care.md"
NEW_PASSWORD = "another password"
# what needs another storage, a cluster or an old format; `test_format_changes.py` and others have it
ELSEWHERE = {
    "mover repo sync-to 's3://bucket/copy?region=eu-central-1' --delete",
    "mover repo set-parameters --retention-mode GOVERNANCE --retention-period 720h",
    "mover snapshot copy 's3://bucket/archive?region=eu-central-1' ID …",
    "mover repo upgrade rollback",
    "mover repo upgrade validate",
}


def _commands() -> set[str]:
    """The commands of the page's indented lines, without what is behind `#`."""
    lines = [line.strip() for line in PAGE.read_text().splitlines() if line.startswith("    ")]
    return {line.split("  #")[0].strip() for line in lines if "mover " in line}


@dataclass
class Reader:
    """Follows the page as a user would, with the connection that `repo create` leaves."""

    mover: Mover
    done: set[str]

    def run(self, command: str, *, code: int = 0) -> str:
        """Runs a line of the page."""
        self.done.add(command)
        words = shlex.split(command)
        environment = {**os.environ, "HOME": str(self.mover.home), "KOPIA_PASSWORD": self.mover.password}
        if words[0].startswith("KOPIA_NEW_PASSWORD="):
            environment["KOPIA_NEW_PASSWORD"] = NEW_PASSWORD
            words = words[1:]
        words = [word.replace("/mnt/", f"{self.mover.home.parent}/") for word in words]
        finished = subprocess.run([MOVER, *words[1:]], env=environment, capture_output=True, check=False)
        assert finished.returncode == code, (command, finished.stdout, finished.stderr)
        return finished.stdout.decode()


def _client(kopia: Kopia, name: str, repository: Path | None = None) -> Kopia:
    """A client of the real program that has seen nothing yet."""
    password = NEW_PASSWORD
    client = Kopia(kopia.binary, kopia.home.parent / name, repository or kopia.repository, password)
    client.connect()
    return client


def _break(repository: Path, prefix: str) -> None:
    """Flips a bit in the middle of every blob of a kind that is long enough to be more than a marker."""
    for file in repository.rglob("*.f"):
        if str(file.relative_to(repository)).startswith(prefix) and file.stat().st_size > 60:
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(content)


def test_every_step_of_the_page_is_checked_by_kopia(kopia: Kopia, mover: Mover, tmp_path: Path) -> None:
    """In the order of a repository's life; at the end every command of the page was run."""
    reader = Reader(mover, set(ELSEWHERE))
    source = sample_tree(tmp_path / "source", large_bytes=2_000_000, small_count=20)
    mover.create()
    first = mover.backup(source)["id"]
    (source / "doomed").write_bytes(b"doomed" * 100_000)
    mover("snapshot", "delete", mover.backup(source)["id"])
    (source / "doomed").unlink()

    reader.run("KOPIA_NEW_PASSWORD=… mover repo change-password")
    mover.password = NEW_PASSWORD
    rotated = _client(kopia, "rotated")
    rotated.prove()
    rotated.backup(source)

    assert "dry run" in reader.run("mover repo maintain --full --dry-run")
    reader.run("mover repo maintain --full --owner me")
    reader.run("mover repo maintain")
    assert "snapshot-gc" in reader.run("mover maintenance info")
    reader.run("mover repo health")
    status = reader.run("mover repo status")
    assert "live contents:" in status
    assert "last maintenance:" in status
    assert b"live contents:" not in mover("repo", "status", "--brief").stdout
    maintained = _client(kopia, "maintained")
    maintained.prove()
    assert "snapshot-gc" in maintained.json("maintenance", "info")["schedule"]["runs"]

    reader.run("mover repo set-parameters --max-pack-size-mb 40")
    reader.run("mover repo throttle set --upload-bytes-per-second 10M")
    reader.run("mover repo upgrade")
    assert "100 %" in reader.run("mover repo verify")
    assert "100 %" in reader.run("mover repo verify --budget 10G --since 30d")
    assert "100 %" in reader.run("mover repo verify --percent 0")
    reader.run("mover repo sync-to /mnt/offsite/repository")
    _client(kopia, "offsite-client", tmp_path / "offsite" / "repository").prove()

    Mover(tmp_path / "archive-home", tmp_path / "archive", NEW_PASSWORD).create()
    reader.run("mover snapshot copy /mnt/archive")
    _client(kopia, "archive-client", tmp_path / "archive").prove()

    _break(kopia.repository, "x")
    reader.run("mover repo repair", code=40)
    reader.run("mover repo repair --commit")
    reader.run("mover repo repair --read-packs --commit")
    repaired = _client(kopia, "repaired")
    repaired.prove()
    repaired.restore(first, tmp_path / "restored")
    assert_same_tree(source, tmp_path / "restored")
    assert "no damage found" in reader.run("mover repo verify")
    assert _commands() == reader.done


def test_a_lost_format_blob_of_an_upgraded_repository_comes_back_as_it_was_last(
    kopia: Kopia, mover: Mover, tmp_path: Path
) -> None:
    """Its packs hold copies from before the upgrade: they must not show the repository as it was then."""
    kopia.create("--format-version=1")
    source = sample_tree(tmp_path / "source", large_bytes=200_000, small_count=5)
    kopia.backup(source)
    mover(
        "repo", "upgrade", "--allow-unsafe-upgrade", "--io-drain-timeout=0s", "--max-permitted-clock-drift=0s"
    )
    later = sorted(one["id"] for one in mover.snapshots())
    (kopia.repository / "kopia.repository.f").unlink()
    mover("repo", "repair", "--commit")
    assert mover.json("repo", "status")["contentFormat"]["version"] == 3
    fresh = Kopia(kopia.binary, tmp_path / "fresh", kopia.repository)
    fresh.connect()
    fresh.prove()
    assert sorted(one["id"] for one in fresh.snapshots()) == later


def test_what_was_deleted_though_a_snapshot_needs_it_lives_again(
    kopia: Kopia, mover: Mover, tmp_path: Path
) -> None:
    """Marked as deleted by mistake: readable until it is dropped, and a full cycle within that time brings it back."""
    kopia.create()
    source = sample_tree(tmp_path / "source", large_bytes=200_000, small_count=5)
    snapshot = kopia.backup(source)["id"]
    needed = {one for one in kopia.contents() if not one.startswith("m")}
    for content in sorted(needed)[:3]:
        kopia("content", "delete", content, "--dangerous-commands=enabled")
    assert len(needed - set(kopia.contents())) == 3
    mover.restore(snapshot, tmp_path / "while-deleted")
    assert_same_tree(source, tmp_path / "while-deleted")
    mover("repo", "maintain", "--full", "--owner=me")
    fresh = Kopia(kopia.binary, tmp_path / "fresh", kopia.repository)
    fresh.connect()
    assert needed <= set(fresh.contents())
    fresh.prove()
