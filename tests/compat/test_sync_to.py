"""Copies of a repository: the real kopia opens, verifies and continues them, and both programs find nothing left to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drivers import Kopia, Mover
from tests.trees import assert_same_tree, sample_tree

pytestmark = pytest.mark.kopia


def _times(repository: Path) -> dict[str, int]:
    """Blobs, however the directories cut their names, and their times."""
    files = repository.rglob("*.f")
    return {"".join(one.relative_to(repository).parts): one.stat().st_mtime_ns for one in files}


def _copy_of(kopia: Kopia, tmp_path: Path, target: Path) -> Kopia:
    copy = Kopia(kopia.binary, tmp_path / "copy-home", target, kopia.password)
    copy.connect()
    return copy


@pytest.mark.parametrize("options", [["--format-version=1"], ["--format-version=3"]], ids=["v1", "v3"])
def test_kopia_verifies_restores_and_continues_the_copy(
    kopia: Kopia, mover: Mover, tmp_path: Path, options: list[str]
) -> None:
    """A repository of kopia, with a snapshot of ours, copied by us with the blobs' times."""
    kopia.create(*options)
    source, target = sample_tree(tmp_path / "source"), tmp_path / "copy"
    kopia.backup(source)
    (source / "added").write_bytes(b"added" * 50_000)
    last = mover.backup(source)["id"]
    report = mover.json("repo", "sync-to", target)
    assert report["keeps_times"]
    assert _times(target) == _times(mover.repository)
    copy = _copy_of(kopia, tmp_path, target)
    copy.prove()
    copy.restore(last, tmp_path / "restored")
    assert_same_tree(source, tmp_path / "restored")
    copy.backup(source)


def test_a_second_run_copies_what_is_new_and_kopia_agrees(kopia: Kopia, mover: Mover, tmp_path: Path) -> None:
    """Nothing twice; what only the copy has stays until `--delete`; kopia's own command finds nothing to do."""
    kopia.create()
    source, target = sample_tree(tmp_path / "source"), tmp_path / "copy"
    kopia.backup(source)
    first = mover.json("repo", "sync-to", target)
    assert first["copied"]["count"] == len(_times(mover.repository))
    assert mover.json("repo", "sync-to", target)["copied"] == {"count": 0, "bytes": 0}
    (source / "added").write_bytes(b"new" * 100_000)
    kopia.backup(source)
    (target / "p" / "000").mkdir(parents=True)
    extra = target / "p" / "000" / "0000000000000000000000000000-s0.f"
    extra.write_bytes(b"extra")
    assert mover.json("repo", "sync-to", target, "--dry-run")["copied"]["count"] > 0
    report = mover.json("repo", "sync-to", target)
    assert 0 < report["copied"]["count"] < first["copied"]["count"]
    assert (report["extra"]["count"], report["deleted"]["count"], extra.exists()) == (1, 0, True)
    assert mover.json("repo", "sync-to", target, "--delete")["deleted"] == {"count": 1, "bytes": 5}
    assert not extra.exists()
    before = _times(target)
    kopia("repository", "sync-to", "filesystem", "--path", target)
    assert _times(target) == before


def test_the_place_of_another_repository_is_refused(kopia: Kopia, mover: Mover, tmp_path: Path) -> None:
    """Neither another repository nor other blobs are mixed with ours, and `--must-exist` makes none."""
    kopia.create()
    kopia.backup(sample_tree(tmp_path / "source"))
    other = Mover(tmp_path / "other-home", tmp_path / "other")
    other.create()
    before = _times(other.repository)
    refused = mover("repo", "sync-to", other.repository, check=False)
    assert refused.returncode != 0
    assert b"another repository" in refused.stderr
    assert _times(other.repository) == before
    (other.repository / "kopia.repository.f").unlink()
    refused = mover("repo", "sync-to", other.repository, check=False)
    assert b"no repository" in refused.stderr
    missing = mover("repo", "sync-to", tmp_path / "missing", "--must-exist", check=False)
    assert missing.returncode != 0
    assert not (tmp_path / "missing").exists()


def test_a_copy_that_was_killed_names_no_missing_pack_and_goes_on(
    kopia: Kopia, mover: Mover, tmp_path: Path
) -> None:
    """Killed before its n-th write: kopia finds each content that an index of the copy names; then the rest follows."""
    kopia.create()
    source, target = sample_tree(tmp_path / "source"), tmp_path / "copy"
    kopia.backup(source)
    (source / "more").write_bytes(bytes(range(256)) * 4000)
    mover.backup(source)
    for number in (2, 4, 6):
        mover("repo", "sync-to", target, "--parallel", "1", "--kill-at", f"before:{number}", check=False)
    _copy_of(kopia, tmp_path, target)("content", "verify", "--full")
    mover("repo", "sync-to", target)
    assert _times(target) == _times(mover.repository)
    _copy_of(kopia, tmp_path, target).prove()
