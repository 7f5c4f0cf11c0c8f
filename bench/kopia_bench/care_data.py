"""Repositories of very many small contents, made by `native/crates/kopia-engine/examples/fill.rs`."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

from .programs import PASSWORD

_PROFILE = "quick"


@cache
def _filler(root: Path) -> Path:
    command = ["cargo", "build", "--quiet", "--profile", _PROFILE, "--package", "kopia-engine"]
    subprocess.run([*command, "--example", "fill"], cwd=root, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    return target / _PROFILE / "examples" / "fill"


def fill(root: Path, repository: Path, **numbers: int) -> None:
    """Makes `repository`, owned by `bench@here`; `numbers` are those of `kopia_testing::filling::Plan`."""
    command = [str(_filler(root)), str(repository), *(f"{name}={value}" for name, value in numbers.items())]
    subprocess.run(command, env=os.environ | {"KOPIA_PASSWORD": PASSWORD}, check=True)
