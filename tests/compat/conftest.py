"""One repository, two programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drivers import Kopia, Mover


@pytest.fixture
def kopia(kopia_binary: Path, tmp_path: Path) -> Kopia:
    """The real program, on the same repository as `mover`."""
    return Kopia(kopia_binary, tmp_path / "kopia-home", tmp_path / "repository")


@pytest.fixture
def mover(tmp_path: Path) -> Mover:
    """Ours, on the same repository as `kopia`."""
    return Mover(tmp_path / "mover-home", tmp_path / "repository")
