"""Restores to one archive and backups of standard input: nothing is lost, nothing is stored that cannot come back."""

from __future__ import annotations

import os
import stat
import tarfile
import threading
from pathlib import Path

import pytest

from tests.drivers import Mover

OLD = b"the only copy of something else"


@pytest.fixture(name="mover")
def _mover(tmp_path: Path) -> Mover:
    mover = Mover(tmp_path / "home", tmp_path / "repository")
    mover.create()
    return mover


@pytest.fixture(name="snapshot")
def _snapshot(mover: Mover, tmp_path: Path) -> str:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_bytes(b"bytes")
    found: str = mover.backup(tmp_path / "source")["id"]
    return found


@pytest.mark.parametrize("what", ["0123456789abcdef0123456789abcdef", "SNAPSHOT/no/such/file", "nonsense"])
def test_an_archive_is_not_touched_for_what_is_not_there(
    what: str, mover: Mover, snapshot: str, tmp_path: Path
) -> None:
    (tmp_path / "out.tar").write_bytes(OLD)
    wanted = what.replace("SNAPSHOT", snapshot)
    done = mover("restore", wanted, tmp_path / "out.tar", "--format", "tar", check=False)
    assert done.returncode != 0
    assert (tmp_path / "out.tar").read_bytes() == OLD
    assert not list(tmp_path.glob("out.tar?*"))


def test_a_wrong_password_costs_no_archive(mover: Mover, snapshot: str, tmp_path: Path) -> None:
    (tmp_path / "out.tar").write_bytes(OLD)
    wrong = Mover(mover.home, mover.repository, password="wrong")
    assert wrong("restore", snapshot, tmp_path / "out.tar", "--format", "tar", check=False).returncode != 0
    assert (tmp_path / "out.tar").read_bytes() == OLD


def test_an_archive_is_replaced_by_a_whole_one(mover: Mover, snapshot: str, tmp_path: Path) -> None:
    real, link = tmp_path / "real.tar", tmp_path / "out.tar"
    real.write_bytes(OLD)
    real.chmod(0o640)
    link.symlink_to(real)
    mover("restore", snapshot, link, "--format", "tar", "--sync")
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    with tarfile.open(real) as tar:
        member = tar.extractfile("file")
        assert member is not None
        assert member.read() == b"bytes"
    assert not list(tmp_path.glob("real.tar?*"))


def test_an_archive_that_must_not_be_replaced_is_not(mover: Mover, snapshot: str, tmp_path: Path) -> None:
    (tmp_path / "out.tar").write_bytes(OLD)
    options = ("--format", "tar", "--overwrite", "never")
    done = mover("restore", snapshot, tmp_path / "out.tar", *options, check=False)
    assert b"exists already" in done.stderr
    assert (tmp_path / "out.tar").read_bytes() == OLD
    mover("restore", snapshot, tmp_path / "new.tar", *options)
    with tarfile.open(tmp_path / "new.tar") as tar:
        assert "file" in tar.getnames()


def test_a_pipe_is_written_to_as_it_is(mover: Mover, snapshot: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()), daemon=True)
    reader.start()
    mover("restore", snapshot, tmp_path / "pipe", "--format", "tar")
    reader.join(30)
    assert b"ustar" in got[0]


@pytest.mark.parametrize("name", ["a/b", "/a", ".", "..", "", "x" * 256])
def test_a_stream_has_the_name_of_one_file(name: str, mover: Mover, tmp_path: Path) -> None:
    done = mover("backup", tmp_path / "db", "--stdin", name, check=False, stdin=b"dump")
    assert done.returncode == 2, done.stderr
    assert mover.snapshots() == []


def test_a_stream_comes_back_under_its_name(mover: Mover, tmp_path: Path) -> None:
    snapshot = mover.json("backup", tmp_path / "db", "--stdin", "...", stdin=b"dump")["id"]
    mover.restore(snapshot, tmp_path / "restored")
    assert (tmp_path / "restored" / "...").read_bytes() == b"dump"
