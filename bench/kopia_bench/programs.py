"""How `mover`, `kopia` and its peers are called for the same work; each keeps what it makes under `home`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from .far import FarBucket
from .measure import Measured, run

PASSWORD = "bench-password"  # noqa: S105 - of repositories made for the run


@dataclass(frozen=True)
class Program(ABC):
    """One program with a repository and a configuration of its own."""

    binary: Path
    home: Path
    bucket: FarBucket | None = None
    """Where the repository is, if not on the local disk; `restic` and `rustic` are not run there."""

    @property
    def name(self) -> str:
        """As in `PROGRAMS`."""
        return type(self).__name__.lower()

    @property
    def repository(self) -> Path:
        return self.home / "repository"

    @property
    def _prefix(self) -> str:
        return f"{self.home.name}/"

    @abstractmethod
    def _secrets(self) -> dict[str, str]:
        """Environment variables of this program."""

    @abstractmethod
    def create(self, compression: str) -> None:
        """Makes an empty repository in which every backup uses `compression` (`none` or `zstd`)."""

    @abstractmethod
    def open_only(self) -> Measured:
        """Start of the program, key derivation, opening: what every command pays."""

    @abstractmethod
    def backup(self, source: Path) -> Measured:
        """A snapshot of `source`; the first or the next."""

    @abstractmethod
    def verify(self) -> Measured:
        """All bytes of all snapshots read back."""

    @abstractmethod
    def newest_snapshot(self) -> str:
        """Its name in this program's `restore`."""

    @abstractmethod
    def restore(self, snapshot: str, target: Path) -> Measured:
        """`snapshot` may go on with a path below its root."""

    def forget(self) -> None:
        """Empties its caches, as a machine has them that reads a repository for the first time."""
        shutil.rmtree(self.home / "cache", ignore_errors=True)

    def repository_bytes(self) -> int:
        """What the repository takes where it is."""
        if self.bucket:
            return self.bucket.bytes_of(self._prefix)
        return sum(path.stat().st_size for path in self.repository.rglob("*") if path.is_file())

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.home)} | self._secrets()

    def _run(self, *arguments: str | Path) -> Measured:
        return run([self.binary, *arguments], self._environment())

    def _json(self, *arguments: str | Path) -> list[dict[str, object]]:
        command = [str(part) for part in (self.binary, *arguments)]
        done = subprocess.run(command, env=self._environment(), check=True, capture_output=True, text=True)
        found: list[dict[str, object]] = json.loads(done.stdout)
        return found


class Kopia(Program):
    """The original."""

    def _secrets(self) -> dict[str, str]:
        return {
            "KOPIA_PASSWORD": PASSWORD,
            "KOPIA_CHECK_FOR_UPDATES": "false",
            "KOPIA_CONFIG_PATH": str(self.home / "repository.config"),
            "KOPIA_CACHE_DIRECTORY": str(self.home / "cache"),
            "KOPIA_LOG_DIR": str(self.home / "log"),
        }

    def create(self, compression: str) -> None:
        self.repository.mkdir(parents=True)
        place = ["filesystem", "--path", str(self.repository)]
        if self.bucket:
            place = self.bucket.kopia_arguments(self._prefix)
        self._run("repository", "create", *place, "--no-progress")
        self._run("policy", "set", "--global", "--compression", compression)

    def open_only(self) -> Measured:
        return self._run("repository", "status")

    def backup(self, source: Path) -> Measured:
        return self._run("snapshot", "create", source, "--no-progress")

    def verify(self) -> Measured:
        return self._run("snapshot", "verify", "--verify-files-percent=100", "--no-progress")

    def newest_snapshot(self) -> str:
        return _newest(self._json("snapshot", "list", "--json", "--all"), "startTime")

    def restore(self, snapshot: str, target: Path) -> Measured:
        return self._run("snapshot", "restore", snapshot, target, "--no-progress")


class Mover(Program):
    """Ours."""

    @property
    def _url(self) -> str:
        return self.bucket.url(self._prefix) if self.bucket else str(self.repository)

    def _secrets(self) -> dict[str, str]:
        return {"KOPIA_PASSWORD": PASSWORD, "KOPIA_CACHE_DIRECTORY": str(self.home / "cache")}

    def create(self, compression: str) -> None:
        self.home.mkdir(parents=True)
        self._run("repo", "create", self._url)
        self._run("policy", "set", "--repo", self._url, "--global", "--compression", compression)

    def open_only(self) -> Measured:
        if self.bucket:  # of which `repo status` asks more than is needed to open it
            return self._run("snapshot", "list", "--repo", self._url)
        return self._run("repo", "status", "--repo", self._url)

    def backup(self, source: Path) -> Measured:
        return self._run("backup", source, "--repo", self._url, "--quiet")

    def verify(self) -> Measured:
        return self._run("verify", "--repo", self._url, "--percent", "100", "--quiet")

    def newest_snapshot(self) -> str:
        return _newest(self._json("snapshot", "list", "--json", "--all", "--repo", self._url), "startTime")

    def restore(self, snapshot: str, target: Path) -> Measured:
        return self._run("restore", snapshot, target, "--repo", self._url, "--quiet")


class Unsynced(Mover):
    """Ours with `--no-sync`: stable storage is left to the system, as kopia leaves it."""

    def backup(self, source: Path) -> Measured:
        return self._run("backup", source, "--repo", self._url, "--quiet", "--no-sync")


class Restic(Program):
    """restic, repository version 2; its verify is `check --read-data`."""

    def _secrets(self) -> dict[str, str]:
        return {
            "RESTIC_PASSWORD": PASSWORD,
            "RESTIC_REPOSITORY": str(self.repository),
            "RESTIC_CACHE_DIR": str(self.home / "cache"),
            "RESTIC_COMPRESSION": self._compression(),
        }

    def _compression(self) -> str:
        chosen = self.home / "compression"
        return chosen.read_text(encoding="ascii") if chosen.exists() else "off"

    def create(self, compression: str) -> None:
        self.home.mkdir(parents=True)
        (self.home / "compression").write_text("off" if compression == "none" else "auto", encoding="ascii")
        self._run("init", "--quiet")

    def open_only(self) -> Measured:
        return self._run("snapshots", "--quiet")

    def backup(self, source: Path) -> Measured:
        return self._run("backup", "--quiet", source)

    def verify(self) -> Measured:
        return self._run("check", "--read-data", "--quiet")

    def newest_snapshot(self) -> str:
        return _newest(self._json("snapshots", "--json"), "time")

    def restore(self, snapshot: str, target: Path) -> Measured:
        return self._run("restore", snapshot, "--target", target, "--quiet")


class Rustic(Program):
    """rustic, restic's format in Rust."""

    def _secrets(self) -> dict[str, str]:
        return {
            "RUSTIC_PASSWORD": PASSWORD,
            "RUSTIC_REPOSITORY": str(self.repository),
            "RUSTIC_CACHE_DIR": str(self.home / "cache"),
            "RUSTIC_NO_PROGRESS": "true",
            "RUSTIC_LOG_LEVEL": "error",
        }

    def create(self, compression: str) -> None:
        self.home.mkdir(parents=True)
        self._run("init", "--set-compression", "0" if compression == "none" else "3")

    def open_only(self) -> Measured:
        return self._run("snapshots")

    def backup(self, source: Path) -> Measured:
        return self._run("backup", source)

    def verify(self) -> Measured:
        return self._run("check", "--read-data")

    def newest_snapshot(self) -> str:
        groups = self._json("snapshots", "--json")
        return _newest([one for group in groups for one in _snapshots(group)], "time")

    def restore(self, snapshot: str, target: Path) -> Measured:
        return self._run("restore", snapshot, target)


PROGRAMS: dict[str, type[Program]] = {
    "kopia": Kopia,
    "mover": Mover,
    "unsynced": Unsynced,
    "restic": Restic,
    "rustic": Rustic,
}


def _newest(snapshots: list[dict[str, object]], time: str) -> str:
    return str(max(snapshots, key=lambda one: str(one[time]))["id"])


def _snapshots(group: dict[str, object] | list[object]) -> list[dict[str, object]]:
    found = group["snapshots"] if isinstance(group, dict) else group[1]
    if not isinstance(found, list):
        raise TypeError(f"rustic's list of snapshots is not understood: {group}")
    return found
