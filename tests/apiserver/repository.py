"""A repository made by the real kopia, and a tree to be backed up into it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "static-passw0rd"


class Kopia:
    """The real kopia on the repository of namespace `app`, as the Velero server would make it."""

    def __init__(self, binary: Path, root: Path) -> None:
        self.path = root / "kopia" / "app"
        self.path.mkdir(parents=True)
        self._command = [str(binary), "--config-file", str(root / "kopia.config")]
        identity = ["--override-username", "default", "--override-hostname", "default"]
        self("repository", "create", "filesystem", "--path", str(self.path), *identity)

    def __call__(self, *arguments: str) -> str:
        environment = os.environ | {"KOPIA_PASSWORD": PASSWORD, "KOPIA_CHECK_FOR_UPDATES": "false"}
        done = subprocess.run(
            [*self._command, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def grow_tree(root: Path) -> None:
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "hello").write_text("hello")
    (root / "sub" / "random").write_bytes(os.urandom(3_000_000))
    (root / "sub" / "deep" / "empty").touch()
    (root / "link").symlink_to("sub/random")
    (root / "hello").chmod(0o640)
