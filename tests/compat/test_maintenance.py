"""Maintenance by both programs on one repository, in turns: nothing is lost, and each reads the other's history."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drivers import Kopia, Mover
from tests.trees import assert_same_tree, sample_tree

pytestmark = pytest.mark.kopia

SHAPES = [
    pytest.param(["--format-version=1"], id="v1"),
    pytest.param(["--format-version=2"], id="v2"),
    pytest.param(["--format-version=3"], id="v3"),
    pytest.param(["--format-version=3", "--ecc-overhead-percent=10"], id="ecc"),
]


def _maintain(mover: Mover, *options: str) -> dict[str, object]:
    report: dict[str, object] = mover.json("repo", "maintain", "--owner=me", *options)
    return report


def _packs_bytes(repository: Path) -> int:
    return sum(
        one.stat().st_size
        for one in repository.rglob("*.f")
        if one.relative_to(repository).parts[0][0] in "pq"
    )


def _fresh(kopia: Kopia, home: Path, password: str | None = None) -> Kopia:
    """A client that has cached nothing: without margins a list of blobs may be half a minute too old."""
    fresh = Kopia(kopia.binary, home, kopia.repository, password or kopia.password)
    fresh.connect()
    return fresh


@pytest.mark.parametrize("options", SHAPES)
def test_both_maintain_in_turns_and_nothing_is_lost(
    kopia: Kopia, mover: Mover, tmp_path: Path, options: list[str]
) -> None:
    """Backups and deletions by both, each program's full cycle after the other's, all verified between."""
    kopia.create(*options)
    source = sample_tree(tmp_path / "source")
    kept = kopia.backup(source)["id"]
    (source / "added").write_bytes(b"added" * 100_000)
    doomed = kopia.backup(source)["id"]
    kopia("snapshot", "delete", doomed, "--delete")
    report = _maintain(mover, "--full", "--safety=none")
    assert "failed" not in report
    _fresh(kopia, tmp_path / "second-home").prove()
    (source / "added").write_bytes(b"added again" * 100_000)
    later = mover.backup(source)["id"]
    kopia.maintain()
    kopia.prove()
    for _ in range(2):
        assert "failed" not in _maintain(mover, "--full", "--safety=none")
    fresh = _fresh(kopia, tmp_path / "third-home")
    fresh.prove()
    fresh.restore(kept, tmp_path / "kept")
    assert not (tmp_path / "kept" / "added").exists()
    fresh.restore(later, tmp_path / "later")
    assert_same_tree(source, tmp_path / "later")


def test_kopia_reads_our_history(kopia: Kopia, mover: Mover, tmp_path: Path) -> None:
    """Every task of ours is in `maintenance info`, with its statistics and the owner."""
    kopia.create()
    kopia.backup(sample_tree(tmp_path / "source"))
    _maintain(mover, "--full")
    info = kopia.json("maintenance", "info")
    ours = mover.json("maintenance", "info")
    assert info["owner"] == ours["owner"] != ""
    runs = info["schedule"]["runs"]
    # deletion of blobs waits an hour after a rewrite (format document, 8.6), so it is not among them yet
    assert {"snapshot-gc", "full-rewrite-contents", "advance-epoch", "cleanup-logs"} <= set(runs)
    assert all(run["success"] for task in runs.values() for run in task)
    assert runs["snapshot-gc"][0]["extra"][0]["kind"] == "snapshotGCStats"
    assert runs["snapshot-gc"][0]["extra"][0]["data"]["inUseContentCount"] > 0
    text = kopia("maintenance", "info").stdout.decode()
    assert "snapshot-gc" in text
    assert "ERROR" not in text


def test_space_is_freed_as_by_kopia(kopia: Kopia, mover: Mover, tmp_path: Path) -> None:
    """Without margins two cycles of ours free what a deleted snapshot alone needed."""
    kopia.create()
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_bytes(bytes(range(256)) * 40_000)
    doomed = kopia.backup(source)["id"]
    (source / "large").write_bytes(b"small")
    kopia.backup(source)
    before = _packs_bytes(kopia.repository)
    kopia("snapshot", "delete", doomed, "--delete")
    for _ in range(3):
        _maintain(mover, "--full", "--safety=none")
    _fresh(kopia, tmp_path / "second-home").prove()
    after = _packs_bytes(kopia.repository)
    assert after < before / 2, f"{after} of {before} bytes are left"


def test_a_password_changed_by_us_opens_for_kopia(kopia: Kopia, mover: Mover, tmp_path: Path) -> None:
    """The new password opens everything, the old one nothing."""
    kopia.create()
    snapshot = kopia.backup(sample_tree(tmp_path / "source"))["id"]
    mover.environment["KOPIA_NEW_PASSWORD"] = "another password"
    mover("repo", "change-password")
    fresh = _fresh(kopia, tmp_path / "fresh-home", "another password")
    fresh.prove()
    fresh.restore(snapshot, tmp_path / "restored")
    assert_same_tree(tmp_path / "source", tmp_path / "restored")
    old = Kopia(kopia.binary, tmp_path / "old-home", kopia.repository)
    assert (
        b"invalid repository password"
        in old("repository", "connect", "filesystem", "--path", kopia.repository, check=False).stderr
    )


def test_lost_indexes_come_out_of_the_packs(kopia: Kopia, mover: Mover, tmp_path: Path) -> None:
    """All index blobs damaged: after the repair the real kopia verifies all."""
    kopia.create()
    snapshot = kopia.backup(sample_tree(tmp_path / "source"))["id"]
    damaged = [
        one for one in kopia.repository.rglob("*.f") if str(one.relative_to(kopia.repository)).startswith("x")
    ]
    for one in damaged:
        content = bytearray(one.read_bytes())
        if len(content) > 60:
            content[40] ^= 1
            one.write_bytes(content)
    looked = mover("repo", "repair", check=False)
    assert looked.returncode == 40, looked.stdout
    mover("repo", "repair", "--commit")
    fresh = _fresh(kopia, tmp_path / "fresh-home")
    fresh.prove()
    fresh.restore(snapshot, tmp_path / "restored")
    assert_same_tree(tmp_path / "source", tmp_path / "restored")


def test_a_lost_format_blob_comes_out_of_a_pack_of_format_1(
    kopia: Kopia, mover: Mover, tmp_path: Path
) -> None:
    """Old packs carry a copy."""
    kopia.create("--format-version=1")
    kopia.backup(sample_tree(tmp_path / "source"))
    (kopia.repository / "kopia.repository.f").unlink()
    mover("repo", "repair", "--commit")
    fresh = _fresh(kopia, tmp_path / "fresh-home")
    fresh.prove()


def test_a_lost_pack_is_told_by_file_and_healed_by_the_next_backup(
    kopia: Kopia, mover: Mover, tmp_path: Path
) -> None:
    """The report names the file; backing up the same data again makes the old snapshot whole."""
    kopia.create()
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_bytes(b"some bytes" * 1000)
    first = kopia.backup(source)["id"]
    for one in kopia.repository.rglob("*.f"):
        if str(one.relative_to(kopia.repository)).startswith("p"):
            one.unlink()
    answer = mover("repo", "repair", "--commit", "--json", check=False)
    assert answer.returncode == 40
    assert b'"path": "sub/file"' in answer.stdout
    mover.backup(source, "--force-hash", "100")
    fresh = _fresh(kopia, tmp_path / "fresh-home")
    fresh.prove()
    fresh.restore(first, tmp_path / "restored")
    assert (tmp_path / "restored" / "sub" / "file").read_bytes() == b"some bytes" * 1000


def test_lost_manifests_and_damaged_bytes_are_repaired_for_kopia_too(
    kopia: Kopia, mover: Mover, tmp_path: Path
) -> None:
    """Kopia lists nothing while one manifest is lost; afterwards it verifies all, and what was damaged is healed."""
    kopia.create()
    lost_source, source = sample_tree(tmp_path / "lost"), sample_tree(tmp_path / "source")
    kopia.backup(lost_source)
    old = set(kopia.repository.rglob("*.f"))
    (source / "more").write_bytes(b"damaged soon" * 50_000)
    kept = mover.backup(source)["id"]
    for one in old:
        if str(one.relative_to(kopia.repository)).startswith("q"):
            one.unlink()
    (pack,) = (
        one
        for one in set(kopia.repository.rglob("*.f")) - old
        if str(one.relative_to(kopia.repository)).startswith("p")
    )
    content = bytearray(pack.read_bytes())
    content[len(content) // 3] ^= 1
    pack.write_bytes(content)
    broken = _fresh(kopia, tmp_path / "broken-home")
    assert broken("snapshot", "list", "--all", check=False).returncode != 0

    answer = mover("repo", "repair", "--read-packs", "--commit", "--json", check=False)
    assert answer.returncode == 40
    assert b'"path": "more"' in answer.stdout
    mover.backup(source, "--force-hash", "100")
    mover("repo", "repair", "--read-packs", "--dry-run")
    fresh = _fresh(kopia, tmp_path / "fresh-home")
    fresh.prove()
    fresh.restore(kept, tmp_path / "restored")
    assert_same_tree(source, tmp_path / "restored")
