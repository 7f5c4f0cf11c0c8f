"""A password is the same to both programs, however it is given: what one makes the other opens."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.drivers import MOVER, Kopia

GIVEN = {
    "new line": b"secret\n",
    "two lines": b"two\nlines\n",
    "spaces": b"  secret \t\r\n",
    "within": b"se cret",
    "not text": b"\xff\xfesecret\n",
    "no-break space": "\u00a0secret\u2003".encode(),
    "ASCII separators": b"\x1csecret\x1f",
}
NEW = b" next\nline \n"


def run_mover(home: Path, *arguments: str | Path, **variables: bytes) -> subprocess.CompletedProcess[bytes]:
    """`mover` with variables that need not be text."""
    home.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environb.items() if not name.startswith(b"KOPIA_")}
    environment |= {name.encode(): value for name, value in variables.items()} | {b"HOME": os.fsencode(home)}
    command = [str(MOVER), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, check=False, timeout=120)


def kopia_with(binary: Path, tmp_path: Path, name: str, password: bytes) -> Kopia:
    """The real program, given this password."""
    return Kopia(binary, tmp_path / name, tmp_path / "repository", os.fsdecode(password))


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN.keys())
def test_what_ours_makes_kopia_opens_and_the_other_way(
    given: bytes, kopia_binary: Path, tmp_path: Path
) -> None:
    """By variable and by file, to create, to open and to change."""
    home, repository = tmp_path / "home", tmp_path / "repository"
    password_file, new_file = tmp_path / "password", tmp_path / "new-password"
    password_file.write_bytes(given)
    new_file.write_bytes(NEW)
    done = run_mover(home, "repo", "create", repository, KOPIA_PASSWORD=given)
    assert done.returncode == 0, done.stderr
    kopia_with(kopia_binary, tmp_path, "kopia", given).connect()
    options = ("--repo", repository, "--password-file", password_file)
    done = run_mover(home, "snapshot", "list", *options)
    assert done.returncode == 0, done.stderr
    done = run_mover(home, "repo", "change-password", *options, "--new-password-file", new_file)
    assert done.returncode == 0, done.stderr
    kopia_with(kopia_binary, tmp_path, "kopia-after", NEW).connect()
    done = run_mover(
        home, "repo", "change-password", "--repo", repository, KOPIA_PASSWORD=NEW, KOPIA_NEW_PASSWORD=given
    )
    assert done.returncode == 0, done.stderr
    kopia_with(kopia_binary, tmp_path, "kopia-again", given).connect()


def test_what_kopia_makes_with_bytes_that_are_no_text_ours_opens(kopia_binary: Path, tmp_path: Path) -> None:
    """And a copy into another repository takes its password the same way."""
    given = b"\xff\xfesecret \n"
    kopia = kopia_with(kopia_binary, tmp_path, "kopia", given)
    kopia.create()
    (tmp_path / "source").mkdir()
    snapshot = kopia.backup(tmp_path / "source")["id"]
    home, target = tmp_path / "home", tmp_path / "target"
    done = run_mover(home, "repo", "create", target, KOPIA_PASSWORD=b"other")
    assert done.returncode == 0, done.stderr
    copy = ("snapshot", "copy", target, snapshot, "--repo", tmp_path / "repository")
    done = run_mover(home, *copy, KOPIA_PASSWORD=given, KOPIA_TARGET_PASSWORD=b"other\n")
    assert done.returncode == 0, done.stderr
    listed = run_mover(home, "snapshot", "list", "--json", "--repo", target, KOPIA_PASSWORD=b"other")
    assert b"source" in listed.stdout, listed.stderr
