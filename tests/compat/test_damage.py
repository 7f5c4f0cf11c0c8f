"""Damaged repositories and bad surroundings: the exact error, the named blob, no wrong byte restored."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.drivers import Kopia, Mover
from tests.parts import lacking
from tests.trees import assert_same_tree, facts, sample_tree

CORRUPTED = 40
PERMANENT, NO_REPOSITORY, WRONG_PASSWORD = 30, 31, 32


def _blobs(mover: Mover, prefix: str) -> list[Path]:
    def name(path: Path) -> str:
        return "".join(path.relative_to(mover.repository).parts)

    return sorted(path for path in mover.repository.rglob("*.f") if name(path).startswith(prefix))


def _flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[min(position, len(data) // 2)] ^= 0x40  # index blobs can be short
    path.write_bytes(data)


@pytest.fixture
def made(mover: Mover, tmp_path: Path) -> tuple[Path, str]:
    """A source and its snapshot."""
    source = sample_tree(tmp_path / "source", large_bytes=3_000_000)
    mover.create()
    return source, str(mover.backup(source)["id"])


def _no_wrong_byte(source: Path, restored: Path) -> None:
    """Every file that was restored under its name is whole, or it is not there at all."""
    if not restored.exists():
        return
    expected = facts(source)
    for path, fact in facts(restored).items():
        if fact[0] == "file" and path in expected and fact[5] != expected[path][5]:
            pytest.fail(f"{path} was restored with wrong bytes")


@pytest.mark.parametrize("prefix", ["p", "q", "x"])
def test_a_flipped_bit_is_an_error_that_names_the_blob(
    prefix: str, mover: Mover, made: tuple[Path, str], tmp_path: Path
) -> None:
    source, snapshot = made
    for blob in _blobs(mover, prefix):
        _flip(blob, 200)
    done = mover("verify", "--percent", "100", check=False)
    assert done.returncode == CORRUPTED, done.stderr
    assert re.search(rf"\b{prefix}n?[0-9a-f]", done.stderr.decode())
    restored = mover("restore", snapshot, tmp_path / "restored", check=False)
    assert restored.returncode != 0
    assert b"Traceback" not in restored.stderr
    _no_wrong_byte(source, tmp_path / "restored")


@pytest.mark.parametrize("prefix", ["p", "q"])
def test_a_truncated_pack_is_an_error_that_names_it(
    prefix: str, mover: Mover, made: tuple[Path, str], tmp_path: Path
) -> None:
    source, snapshot = made
    for blob in _blobs(mover, prefix):
        blob.write_bytes(blob.read_bytes()[:100])
    done = mover("verify", "--percent", "0", check=False)
    assert done.returncode in (CORRUPTED, PERMANENT)
    assert re.search(rf"\b{prefix}[0-9a-f]", done.stderr.decode())
    assert mover("restore", snapshot, tmp_path / "restored", check=False).returncode != 0
    _no_wrong_byte(source, tmp_path / "restored")


@pytest.mark.parametrize("prefix", ["p", "q"])
def test_a_missing_pack_is_found_by_the_structure_check(
    prefix: str, mover: Mover, made: tuple[Path, str]
) -> None:
    for blob in _blobs(mover, prefix):
        blob.unlink()
    done = mover("verify", "--percent", "0", check=False)
    assert done.returncode in (CORRUPTED, PERMANENT)
    assert re.search(rf"\b{prefix}[0-9a-f]", done.stderr.decode())


def test_a_missing_index_is_not_taken_for_an_empty_repository(
    mover: Mover, made: tuple[Path, str], tmp_path: Path
) -> None:
    _, snapshot = made
    for blob in _blobs(mover, "xn"):
        blob.unlink()
    assert mover("restore", snapshot, tmp_path / "restored", check=False).returncode != 0


def test_a_wrong_password_says_so_and_what_to_do(mover: Mover, made: tuple[Path, str]) -> None:
    mover.password = "wrong"
    done = mover("snapshot", "list", check=False)
    assert done.returncode == WRONG_PASSWORD
    assert b"password" in done.stderr
    assert b"wrong" not in done.stderr.replace(b"wrong password", b"")


def test_no_repository_is_told_from_a_missing_directory(mover: Mover, tmp_path: Path) -> None:
    mover.repository = tmp_path / "nowhere"
    done = mover("snapshot", "list", check=False)
    assert done.returncode == NO_REPOSITORY
    assert b"nowhere" in done.stderr
    (tmp_path / "empty").mkdir()
    mover.repository = tmp_path / "empty"
    done = mover("snapshot", "list", check=False)
    assert done.returncode == NO_REPOSITORY
    assert b"kopia.repository" in done.stderr or b"no repository" in done.stderr


def test_foreign_files_in_the_directory_do_no_harm(
    mover: Mover, made: tuple[Path, str], tmp_path: Path
) -> None:
    source, snapshot = made
    (mover.repository / "README.txt").write_text("not a blob")
    (mover.repository / "p" / "lost+found").mkdir(parents=True, exist_ok=True)
    (mover.repository / "p" / "abc.f.tmp.0123456789abcdef").write_text("left behind")
    mover.prove()
    mover.restore(snapshot, tmp_path / "restored")
    assert_same_tree(source, tmp_path / "restored")


def test_creating_over_a_repository_is_refused(mover: Mover, made: tuple[Path, str]) -> None:
    before = (mover.repository / "kopia.repository.f").read_bytes()
    with pytest.raises(AssertionError, match="exit code 30"):
        mover.create()
    assert (mover.repository / "kopia.repository.f").read_bytes() == before


@pytest.mark.kopia
def test_kopia_and_mover_agree_on_a_damaged_pack(kopia: Kopia, mover: Mover, made: tuple[Path, str]) -> None:
    _flip(_blobs(mover, "p")[0], 500)
    kopia.connect()
    theirs = kopia("snapshot", "verify", "--verify-files-percent=100", "--no-progress", check=False)
    assert theirs.returncode != 0
    assert mover("verify", "--percent", "100", check=False).returncode == CORRUPTED


def test_a_full_disk_is_clear_and_loses_nothing(mover: Mover, tmp_path: Path) -> None:

    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", small], check=False)
    if mounted.returncode:
        lacking("the right to mount (root)")
    try:
        mover.repository = small / "repository"
        mover.create()
        good = tmp_path / "good"
        good.mkdir()
        (good / "file").write_bytes(b"kept")
        first = mover.backup(good)
        source = sample_tree(tmp_path / "source", large_bytes=12_000_000)
        done = mover("backup", source, check=False)
        assert done.returncode in (20, PERMANENT)
        assert b"no space" in done.stderr.lower()
        assert b"Traceback" not in done.stderr
        mover.prove()
        mover.restore(first["id"], tmp_path / "restored")
        assert_same_tree(good, tmp_path / "restored")
    finally:
        subprocess.run(["umount", small], check=True)
        shutil.rmtree(small, ignore_errors=True)
