"""The two programs as tests drive them: the real `kopia` and our `mover`, on one repository.

Both are called as a user would, as processes; every call keeps its output for the message of a
failing test. `check=False` gives the finished process instead of raising.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PASSWORD = "test-password"
MOVER = Path(sys.executable).parent / "mover"
TIMEOUT_SECONDS = 240
# kopia would not see for 30 seconds what another program wrote (indexes of format 1)
NO_LIST_CACHE = ("--max-list-cache-duration=0s",)


class ProgramFailedError(AssertionError):
    """A program ended with an unexpected exit code; shows all that it printed."""


def _finish(
    command: list[str], environment: dict[str, str], *, check: bool, stdin: bytes | None
) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        command, env=environment, input=stdin, capture_output=True, check=False, timeout=TIMEOUT_SECONDS
    )
    if check and done.returncode != 0:
        output = (done.stdout + done.stderr).decode(errors="replace")[-6000:]
        raise ProgramFailedError(f"exit code {done.returncode} of {' '.join(command)}\n{output}")
    return done


@dataclass
class Kopia:
    """The real program with a configuration of its own under `home`."""

    binary: Path
    home: Path
    repository: Path
    password: str = PASSWORD
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(
        self, *arguments: str | Path, check: bool = True, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs `kopia ARGUMENTS`."""
        self.home.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {
            "HOME": str(self.home),
            "KOPIA_PASSWORD": self.password,
            "KOPIA_CHECK_FOR_UPDATES": "false",
            "KOPIA_CONFIG_PATH": str(self.home / "repository.config"),
            "KOPIA_CACHE_DIRECTORY": str(self.home / "cache"),
            "KOPIA_LOG_DIR": str(self.home / "log"),
            "KOPIA_PERSIST_CREDENTIALS_ON_CONNECT": "false",
        }
        command = [str(self.binary), *map(str, arguments)]
        return _finish(command, environment | self.environment, check=check, stdin=stdin)

    def json(self, *arguments: str | Path, stdin: bytes | None = None) -> Any:
        """The document that `kopia ARGUMENTS --json` prints."""
        return json.loads(self(*arguments, "--json", stdin=stdin).stdout)

    def create(self, *options: str) -> None:
        """Makes the repository."""
        self.repository.mkdir(parents=True, exist_ok=True)
        self("repository", "create", "filesystem", "--path", self.repository, *NO_LIST_CACHE, *options)

    def connect(self) -> None:
        """Connects to a repository that is there."""
        self("repository", "connect", "filesystem", "--path", self.repository, *NO_LIST_CACHE)

    def backup(self, source: Path, *options: str) -> dict[str, Any]:
        """Takes a snapshot; its manifest."""
        document: dict[str, Any] = self.json("snapshot", "create", source, "--no-progress", *options)
        return document

    def snapshots(self) -> list[dict[str, Any]]:
        """All snapshots of all sources."""
        found: list[dict[str, Any]] = self.json("snapshot", "list", "--all", "--incomplete")
        return found

    def restore(self, snapshot: str, target: Path) -> None:
        """Restores a snapshot."""
        self("snapshot", "restore", snapshot, target, "--no-progress")

    def prove(self) -> None:
        """Everything that the real program can check of the repository: trees, files, contents."""
        self("snapshot", "verify", "--verify-files-percent=100", "--no-progress")
        self("content", "verify", "--full", "--no-progress")

    def maintain(self) -> None:
        """Full maintenance with no safety margin, as its owner."""
        self("maintenance", "set", "--owner=me")
        self("maintenance", "run", "--full", "--safety=none")

    def contents(self) -> dict[str, dict[str, Any]]:
        """Every live content by its ID."""
        return {one["contentID"]: one for one in self.json("content", "list")}


@dataclass
class Mover:
    """Our program on one repository."""

    home: Path
    repository: Path
    password: str = PASSWORD
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(
        self, *arguments: str | Path, check: bool = True, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs `mover ARGUMENTS --repo REPOSITORY`."""
        self.home.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"HOME": str(self.home), "KOPIA_PASSWORD": self.password}
        command = [str(MOVER), *map(str, arguments), "--repo", str(self.repository)]
        return _finish(command, environment | self.environment, check=check, stdin=stdin)

    def json(self, *arguments: str | Path, stdin: bytes | None = None) -> Any:
        """The document that `mover ARGUMENTS --json` prints."""
        return json.loads(self(*arguments, "--json", stdin=stdin).stdout)

    def create(self, *options: str) -> None:
        """Makes the repository: `mover repo create URL`."""
        self.home.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"HOME": str(self.home), "KOPIA_PASSWORD": self.password}
        command = [str(MOVER), "repo", "create", str(self.repository), *options]
        _finish(command, environment, check=True, stdin=None)

    def backup(self, source: Path, *options: str) -> dict[str, Any]:
        """Takes a snapshot; its manifest."""
        document: dict[str, Any] = self.json("backup", source, *options)
        return document

    def snapshots(self) -> list[dict[str, Any]]:
        """All snapshots of all sources."""
        found: list[dict[str, Any]] = self.json("snapshot", "list", "--all")
        return found

    def restore(self, snapshot: str, target: Path, *options: str) -> None:
        """Restores a snapshot or a part of it."""
        self("restore", snapshot, target, *options)

    def prove(self) -> None:
        """Everything of every snapshot is read back."""
        self("verify", "--percent", "100")
