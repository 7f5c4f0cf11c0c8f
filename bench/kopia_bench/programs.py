"""How `kopia` and `mover` are called for the same work."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .far import FarBucket
from .measure import Measured, run

PASSWORD = "bench-password"  # noqa: S105 - of repositories made for the run


@dataclass(frozen=True)
class Program:
    """One of the two, with a repository and a configuration of its own under `home`."""

    name: str
    binary: Path
    home: Path
    bucket: FarBucket | None = None
    """Where the repository is, if not on the local disk."""

    @property
    def repository(self) -> Path:
        return self.home / "repository"

    @property
    def _prefix(self) -> str:
        return f"{self.home.name}/"

    @property
    def _url(self) -> str:
        return self.bucket.url(self._prefix) if self.bucket else str(self.repository)

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "KOPIA_PASSWORD": PASSWORD,
            "KOPIA_CHECK_FOR_UPDATES": "false",
            "KOPIA_CONFIG_PATH": str(self.home / "repository.config"),
            "KOPIA_CACHE_DIRECTORY": str(self.home / "cache"),
            "KOPIA_LOG_DIR": str(self.home / "log"),
        }

    def _run(self, *arguments: str | Path) -> Measured:
        return run([self.binary, *arguments], self._environment())

    def _json(self, *arguments: str | Path) -> list[dict[str, object]]:
        command = [str(part) for part in (self.binary, *arguments)]
        done = subprocess.run(command, env=self._environment(), check=True, capture_output=True, text=True)
        found: list[dict[str, object]] = json.loads(done.stdout)
        return found

    def create(self, compression: str) -> None:
        """Makes an empty repository in which every backup uses `compression`."""
        self.home.mkdir(parents=True, exist_ok=True)
        if self.name == "kopia":
            self.repository.mkdir()
            place = ["filesystem", "--path", str(self.repository)]
            if self.bucket:
                place = self.bucket.kopia_arguments(self._prefix)
            self._run("repository", "create", *place, "--no-progress")
            self._run("policy", "set", "--global", "--compression", compression)
        else:
            self._run("repo", "create", self._url)
            self._run("policy", "set", "--repo", self._url, "--global", "--compression", compression)

    def open_only(self) -> Measured:
        """Start of the program, key derivation, opening: what every command pays."""
        if self.name == "kopia":
            return self._run("repository", "status")
        return self._run("repo", "status", "--repo", self._url)

    def backup(self, source: Path) -> Measured:
        if self.name == "kopia":
            return self._run("snapshot", "create", source, "--no-progress")
        return self._run("backup", source, "--repo", self._url, "--quiet")

    def verify(self) -> Measured:
        if self.name == "kopia":
            return self._run("snapshot", "verify", "--verify-files-percent=100", "--no-progress")
        return self._run("verify", "--repo", self._url, "--percent", "100", "--quiet")

    def newest_snapshot(self) -> str:
        arguments = ["snapshot", "list", "--json", "--all"]
        if self.name != "kopia":
            arguments += ["--repo", self._url]
        return str(max(self._json(*arguments), key=lambda one: str(one["startTime"]))["id"])

    def restore(self, snapshot: str, target: Path) -> Measured:
        """`snapshot` may go on with a path below its root."""
        if self.name == "kopia":
            return self._run("snapshot", "restore", snapshot, target, "--no-progress")
        return self._run("restore", snapshot, target, "--repo", self._url, "--quiet")

    def repository_bytes(self) -> int:
        if self.bucket:
            return self.bucket.bytes_of(self._prefix)
        return sum(path.stat().st_size for path in self.repository.rglob("*.f"))
