"""Targets that fail late, and words that are no text: what `mover` says of them as a program."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from mover import exit_codes
from tests.fakes.full_at_close import can_mount, mounted

MOVER = Path(sys.executable).parent / "mover"
ENVIRONMENT = {"KOPIA_PASSWORD": "p", "PATH": "/usr/bin"}


def mover(*words: str | bytes | Path, output: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run the program, its standard output to a file if one is given."""
    command = [MOVER, *words]
    if output is None:
        return subprocess.run(command, capture_output=True, env=ENVIRONMENT, check=False)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        return subprocess.run(
            command, stdout=descriptor, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False
        )
    finally:
        with suppress(OSError):  # our own close hears of it too
            os.close(descriptor)


def backed_up(place: Path) -> tuple[Path, str]:
    """Return a repository with one snapshot of a small and a large file, and the snapshot's ID."""
    source, repository = place / "source", place / "repository"
    source.mkdir()
    (source / "small").write_bytes(b"small")
    (source / "large").write_bytes(os.urandom(9 << 20))
    assert mover("repo", "create", repository).returncode == 0
    done = mover("backup", source, "--repo", repository, "--quiet")
    assert done.returncode == 0, done.stderr
    listed = mover("snapshot", "list", "--repo", repository, "--json").stdout.decode()
    return repository, listed.split('"id": "')[1].split('"')[0]


@pytest.mark.skipif(not can_mount(), reason="needs root and /dev/fuse")
def test_what_a_file_system_says_at_close_is_seen_by_restore_archive_and_cat(tmp_path: Path) -> None:
    repository, snapshot = backed_up(tmp_path)
    (tmp_path / "full").mkdir()
    with mounted(tmp_path / "full") as full:
        done = mover("restore", snapshot, full, "--repo", repository, "--skip-owners", "--skip-permissions")
        assert done.returncode == exit_codes.FAILED_ENTRIES, done.stderr
        for name in (b"small", b"large"):
            assert b"cannot restore " + name in done.stderr
        assert b"restored 0 files" in done.stdout
        archive = mover("restore", snapshot, full / "archive.tar", "--format", "tar", "--repo", repository)
        cat = mover("cat", f"{snapshot}/small", "--repo", repository, output=full / "cat")
        stream = mover("restore", f"{snapshot}/large", "-", "--repo", repository, output=full / "stream")
        for failed in (archive, cat, stream):
            assert failed.returncode not in (0, exit_codes.FAILED_ENTRIES), failed.stderr
            assert b"no space left on device" in failed.stderr.lower()


def test_arguments_that_are_not_utf8_work_as_paths_and_are_refused_by_name_elsewhere(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    source, target = os.fsencode(tmp_path) + b"/M\xfcller", os.fsencode(tmp_path) + b"/gr\xfc\xdfe"
    os.mkdir(source)
    for name, content in ((b"/\xf6", b"one"), (b"/\xfc", b"two"), (b"/plain", b"three")):
        with open(source + name, "wb") as file:
            file.write(content)
    assert mover("repo", "create", repository).returncode == 0
    done = mover("backup", source, "--repo", repository)
    assert done.returncode == 0, done.stderr
    assert b"2 names not UTF-8" in done.stderr
    snapshot = done.stdout.split()[1]
    done = mover("restore", snapshot, target, "--repo", repository)
    assert done.returncode == exit_codes.FAILED_ENTRIES
    assert b"two names of the snapshot are one here" in done.stderr
    assert sorted(os.listdir(target)) == [b"plain", "\N{REPLACEMENT CHARACTER}".encode()]
    with open(target + b"/plain", "rb") as file:
        assert file.read() == b"three"
    for option in ("--description", "--tag", "--user", "--stdin"):
        refused = mover("backup", source, "--repo", repository, option, b"a:\xff")
        assert refused.returncode != 0
        assert option.strip("-").encode() in refused.stderr
        assert b"is not UTF-8" in refused.stderr
        assert b"mistake" not in refused.stderr
