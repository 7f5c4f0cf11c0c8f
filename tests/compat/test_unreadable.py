"""What a backup may not read: counted, recorded and told as the real program does, by policy.

Tests run as root, whom permissions do not stop; both programs are started without the two capabilities that
make it so, which leaves them to read what anybody's programs and repositories need.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from tests import drivers
from tests.drivers import Kopia, Mover
from tests.parts import lacking

pytestmark = pytest.mark.kopia
CAPABILITIES = "-dac_override,-dac_read_search"
SHUT = ("shut-file", "shut-directory", "open/shut-too")


def _unprivileged(program: Path, tmp_path: Path) -> Path:
    """A program that starts `program` without the right to read everything."""
    words = ""
    if os.geteuid() == 0:
        if not which("setpriv"):
            lacking("setpriv (util-linux)")
        words = f"setpriv --inh-caps={CAPABILITIES} --bounding-set={CAPABILITIES} "
    wrapper = tmp_path / f"{program.name}-unprivileged"
    wrapper.write_text(f'#!/bin/sh\nexec {words}{program} "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


@pytest.fixture
def kopia(kopia_binary: Path, tmp_path: Path) -> Kopia:
    return Kopia(_unprivileged(kopia_binary, tmp_path), tmp_path / "kopia-home", tmp_path / "repository")


@pytest.fixture
def mover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mover:
    monkeypatch.setattr(drivers, "MOVER", _unprivileged(drivers.MOVER, tmp_path))
    return Mover(tmp_path / "mover-home", tmp_path / "repository")


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    """A tree with two files and a directory that nobody may read."""
    source = tmp_path / "source"
    (source / "shut-directory").mkdir(parents=True)
    (source / "open").mkdir()
    for name in ("file", "shut-file", "shut-directory/below", "open/file", "open/shut-too"):
        (source / name).write_text(name)
    for name in SHUT:
        (source / name).chmod(0)
    yield source
    for name in SHUT:
        (source / name).chmod(0o755)


def _recorded(manifest: dict[str, Any]) -> dict[str, Any]:
    """What both must record alike."""
    stats, root = manifest["stats"], manifest["rootEntry"]
    counts = {name: stats[name] for name in ("errorCount", "ignoredErrorCount")}
    failed = sorted(one["path"] for one in root["summ"].get("errors") or [])
    return counts | {"numFailed": root["summ"]["numFailed"], "failed": failed}


@pytest.mark.parametrize(
    ("ignored", "counts"),
    [((), (3, 0)), (("file",), (1, 2)), (("dir",), (2, 1)), (("file", "dir"), (0, 3))],
    ids=["nothing", "files", "directories", "both"],
)
def test_what_may_not_be_read_is_recorded_alike(
    ignored: tuple[str, ...],
    counts: tuple[int, int],
    kopia: Kopia,
    mover: Mover,
    source: Path,
) -> None:
    kopia.create()
    if ignored:
        kopia("policy", "set", source, *(f"--ignore-{kind}-errors=true" for kind in ignored))
    theirs = kopia("snapshot", "create", source, "--no-progress", "--json", check=False)
    ours = mover("backup", source, "--json", check=False)
    assert (theirs.returncode != 0) == (counts[0] > 0), theirs.stderr
    assert ours.returncode == (5 if counts[0] else 0), ours.stderr
    manifest = json.loads(ours.stdout)
    assert (manifest["stats"]["errorCount"], manifest["stats"]["ignoredErrorCount"]) == counts
    by_kopia, by_mover = kopia.snapshots()
    assert _recorded(by_mover) == _recorded(by_kopia) == _recorded(manifest)
    # The objects differ: they hold the words of the errors.
    assert mover("ls", "-r", by_mover["id"]).stdout == mover("ls", "-r", by_kopia["id"]).stdout
    for name in SHUT:
        assert f"cannot back up {name}: ".encode() in ours.stderr
        assert b"permission denied" in ours.stderr


def test_fail_fast_ends_at_what_may_not_be_read(kopia: Kopia, mover: Mover, source: Path) -> None:
    kopia.create()
    assert kopia("snapshot", "create", source, "--no-progress", "--fail-fast", check=False).returncode != 0
    done = mover("backup", source, "--fail-fast", check=False)
    assert done.returncode == 5
    assert b"permission denied" in done.stderr
    kopia("policy", "set", source, "--ignore-file-errors=true", "--ignore-dir-errors=true")
    assert mover("backup", source, "--fail-fast", check=False).returncode == 0


def test_a_source_that_may_not_be_read_is_an_error(kopia: Kopia, mover: Mover, source: Path) -> None:
    kopia.create()
    shut = source / "shut-directory"
    assert kopia("snapshot", "create", shut, "--no-progress", check=False).returncode != 0
    done = mover("backup", shut, check=False)
    assert done.returncode not in {0, 5, 10}
    assert b"permission denied" in done.stderr
    assert b"Traceback" not in done.stderr
    assert not mover.snapshots()
