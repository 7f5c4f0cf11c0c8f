"""Kopia's own connection file: where the repository is, who we are there, and the password that it kept."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.drivers import MOVER, Kopia

pytestmark = pytest.mark.kopia
PERMANENT = 30


def _mover(home: Path, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Without `--repo` and without a password in the environment: everything comes from Kopia's files."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("KOPIA_", "XDG_"))}
    command = [str(MOVER), *map(str, arguments)]
    return subprocess.run(
        command, env=environment | {"HOME": str(home)}, capture_output=True, check=False, timeout=120
    )


@pytest.fixture
def home(kopia: Kopia, tmp_path: Path) -> Path:
    """A home whose user made a repository with `kopia`, and let it keep the password."""
    home = tmp_path / "home"
    kopia.repository = tmp_path / "a place%20é"
    kopia.password = "sécret with blanks"
    kopia.environment = {
        "HOME": str(home),
        "KOPIA_CONFIG_PATH": str(home / ".config" / "kopia" / "repository.config"),
        "KOPIA_PERSIST_CREDENTIALS_ON_CONNECT": "true",
        "KOPIA_USE_KEYRING": "false",
    }
    kopia.create("--override-username=alice", "--override-hostname=box")
    return home


def test_mover_uses_kopias_connection_user_and_kept_password(
    home: Path, kopia: Kopia, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("x")
    config = home / ".config" / "kopia" / "repository.config"
    for options in ([], ["--config", config]):
        done = _mover(home, "backup", source, "--json", *options)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["source"] == {"host": "box", "userName": "alice", "path": str(source)}
    assert len(kopia.snapshots()) == 2
    assert b"alice@box" in _mover(home, "repo", "status").stdout


def test_kopias_read_only_connection_is_read_only_to_mover(home: Path, kopia: Kopia, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    assert _mover(home, "backup", tmp_path / "source").returncode == 0
    kopia("repository", "set-client", "--read-only")
    before = sorted(path.name for path in kopia.repository.rglob("*.f"))
    for command in (["backup", tmp_path / "source"], ["policy", "set", "--global", "--keep-latest=3"]):
        done = _mover(home, *command)
        assert done.returncode == PERMANENT
        assert b"reading only" in done.stderr
    assert _mover(home, "verify", "--percent", "100").returncode == 0
    assert sorted(path.name for path in kopia.repository.rglob("*.f")) == before
