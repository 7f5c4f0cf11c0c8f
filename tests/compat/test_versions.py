"""Older versions of Kopia that are still about: what either writes, the other reads and goes on from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import real_program
from tests.drivers import Kopia, Mover
from tests.programs import KOPIA, KOPIA_VERSIONS
from tests.trees import assert_same_tree, sample_tree

pytestmark = pytest.mark.kopia
OLDER = [version for version in KOPIA_VERSIONS if version != KOPIA]


@pytest.fixture(params=OLDER)
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Kopia:
    """An older real program, on the same repository as `mover`."""
    return Kopia(real_program(request.param), tmp_path / "older-home", tmp_path / "repository")


@pytest.mark.parametrize("options", [(), ("--format-version=2",), ("--format-version=1",)], ids=str)
def test_an_older_kopia_reads_verifies_maintains_and_goes_on_from_what_mover_wrote(
    options: tuple[str, ...], older: Kopia, mover: Mover, tmp_path: Path
) -> None:
    source = sample_tree(tmp_path / "source", large_bytes=5_000_000, small_count=20)
    mover.create(*options)
    snapshot = mover.backup(source)
    older.connect()
    again = older.backup(source)
    assert again["rootEntry"] == snapshot["rootEntry"]
    older.prove()
    older.maintain()
    older.restore(snapshot["id"], tmp_path / "by-kopia")
    assert_same_tree(source, tmp_path / "by-kopia")
    mover.prove()


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_mover_reads_and_goes_on_from_what_an_older_kopia_wrote(
    compression: str, older: Kopia, mover: Mover, tmp_path: Path
) -> None:
    source = sample_tree(tmp_path / "source", large_bytes=5_000_000, small_count=20)
    older.create()
    older("policy", "set", "--global", f"--compression={compression}")
    snapshot = older.backup(source)
    mover.prove()
    mover.restore(snapshot["id"], tmp_path / "by-mover")
    assert_same_tree(source, tmp_path / "by-mover")
    again = mover.backup(source)
    assert again["rootEntry"] == snapshot["rootEntry"]
    assert again["stats"]["nonCachedFiles"] == 0
