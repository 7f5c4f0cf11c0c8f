"""Kopia's own connection file: `mover --config` opens what `kopia` is connected to, with its keys."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.drivers import MOVER, PASSWORD
from tests.objectstore.servers import SECRET_KEY
from tests.objectstore.source import contents, tree
from tests.objectstore.test_providers import Server, kopia_at


@pytest.mark.parametrize("name", ["s3", "s3_with_tls", "azure"])
def test_what_kopia_is_connected_to_is_opened_by_its_file(
    name: str, request: pytest.FixtureRequest, kopia_binary: Path, tmp_path: Path
) -> None:
    """Keys, authority and prefix come from the file, and no key is shown."""
    server: Server = request.getfixturevalue(name)
    kopia = kopia_at(server, kopia_binary, tmp_path)
    kopia("repository", "create", *server.kopia_arguments(f"by-config-{name}/"))
    source = tree(tmp_path / "source", seed=21, large_bytes=1 << 20)
    snapshot = kopia.backup(source)["id"]
    config = kopia.home / "repository.config"
    environment = {
        "HOME": str(tmp_path / "mover-home"),
        "KOPIA_PASSWORD": PASSWORD,
        **server.kopia_environment(),
    }
    done = subprocess.run(
        [str(MOVER), "restore", snapshot, str(tmp_path / "restored"), "--config", str(config)],
        env=os.environ | environment,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert SECRET_KEY.encode() not in done.stdout + done.stderr
    assert contents(tmp_path / "restored") == contents(source)
