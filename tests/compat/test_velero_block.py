"""Upstream's block snapshots and ours are the same: read byte for byte, written object for object.

The repository was written by the block uploader of Velero's main branch (tests/fixtures/vectors/VECTORS.md).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import repository
from mover import cli
from repository.errors import NoSpaceError
from tests.loop import loop_device

VECTORS = Path(__file__).parent.parent / "fixtures" / "vectors" / "velero-block"
EXPECTED = json.loads((VECTORS / "block-chain.expected.json").read_text())
SNAPSHOTS: dict[str, dict[str, Any]] = {one["name"]: one for one in EXPECTED["snapshots"]}
SOURCE = repository.Source("default", "default", "snapshot-data-upload-download/velero-block/app/data")
MIB = 1 << 20


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[repository.Session]:
    root = tmp_path_factory.mktemp("velero-block")
    with tarfile.open(VECTORS / "block-chain.tar.xz") as archive:
        archive.extractall(root, filter="tar")
    options = repository.OpenOptions(username="default", hostname="default")
    with repository.open_repository(str(root / "block-chain"), EXPECTED["password"], options) as opened:
        yield opened


def restored(session: repository.Session, name: str, target: Path) -> Path:
    session.restore_block(SNAPSHOTS[name]["manifestID"], target)
    return target


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def object_of(session: repository.Session, snapshot_id: str) -> str:
    return next(iter(session.entries(snapshot_id))).object_id


def back_up(session: repository.Session, path: Path, **more: Any) -> repository.BlockBackupResult:
    changed = more.pop("changed", None)
    options = repository.BlockBackupOptions(source=SOURCE, description="Block Uploader", **more)
    return session.backup_block(path, options, changed=changed)


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_upstreams_snapshots_are_restored_byte_for_byte(
    session: repository.Session, tmp_path: Path, name: str
):
    target = restored(session, name, tmp_path / "device")
    assert target.stat().st_size == SNAPSHOTS[name]["deviceSize"]
    assert sha256(target) == SNAPSHOTS[name]["sha256"]
    assert target.stat().st_blocks * 512 <= 8 * MIB, "holes stay holes"


@pytest.mark.parametrize("name", ["s1-full-allocated", "s2-incremental", "s7-big"])
def test_the_same_device_gives_upstreams_objects(session: repository.Session, tmp_path: Path, name: str):
    device = restored(session, name, tmp_path / "device")
    ours = back_up(session, device, tags={"cbt-volume-id": "v1"}, pins=["velero-pin"])
    assert object_of(session, ours.snapshot.id) == SNAPSHOTS[name]["object"]
    assert ours.snapshot.root.object_id == SNAPSHOTS[name]["directory"]
    assert ours.bytes_uploaded == 0, "every content has upstream's ID"
    theirs = session.snapshot(SNAPSHOTS[name]["manifestID"]).document
    kept = {key: theirs[key] for key in ("description", "rootEntry", "stats", "source", "pins")}
    assert {key: ours.snapshot.document[key] for key in kept} == kept
    assert ours.snapshot.tags["bdev-source-size"] == theirs["tags"]["bdev-source-size"]


def test_an_increment_on_upstreams_parent_has_upstreams_objects(session: repository.Session, tmp_path: Path):
    # What upstream was told to have changed between s1 and s2: the piece at 3 MiB.
    device = restored(session, "s2-incremental", tmp_path / "device")
    changed = repository.ChangedBlocks(SNAPSHOTS["s2-incremental"]["deviceSize"])
    changed.mark(3 * MIB + 17, 1)
    parent = SNAPSHOTS["s1-full-allocated"]["manifestID"]
    ours = back_up(session, device, parent=parent, changed=changed)
    assert ours.parent == parent
    assert ours.bytes_read == MIB + 12288, "the marked piece, and the short one that upstream reads too"
    assert object_of(session, ours.snapshot.id) == SNAPSHOTS["s2-incremental"]["object"]


def test_a_full_device_is_continued_without_tracking(session: repository.Session, tmp_path: Path):
    device = restored(session, "s2-incremental", tmp_path / "device")
    with device.open("r+b") as file:
        file.seek(4 * MIB + 3)
        file.write(b"changed")
    ours = back_up(session, device, parent=SNAPSHOTS["s6-auto"]["manifestID"])
    assert ours.incremental_bytes == MIB, "only the piece that differs from upstream's"
    session.restore_block(ours.snapshot.id, tmp_path / "again")
    assert sha256(tmp_path / "again") == sha256(device)


def test_a_real_device_is_read_and_written_whole(session: repository.Session, tmp_path: Path):
    """Old bytes of the target are gone, its zeroes take no room, and what is larger than it is refused."""
    name = "s2-incremental"
    image = tmp_path / "image"
    image.write_bytes(random.Random(1).randbytes(8 * MIB))
    with loop_device(image) as device:
        session.restore_block(SNAPSHOTS[name]["manifestID"], device)
        content = device.read_bytes()
        size = SNAPSHOTS[name]["deviceSize"]
        assert hashlib.sha256(content[:size]).hexdigest() == SNAPSHOTS[name]["sha256"]
        assert len(content) == 8 * MIB
        backed_up = back_up(session, device)
        assert backed_up.device_bytes == 8 * MIB
        session.restore_block(backed_up.snapshot.id, tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == content
    os.sync()
    assert image.stat().st_blocks * 512 <= 7 * MIB, "the piece of zeroes was deallocated"
    small = tmp_path / "small"
    small.write_bytes(b"old" * 1000 + bytes(512 * 1024 - 3000))
    with loop_device(small) as device:
        with pytest.raises(NoSpaceError, match=f"{SNAPSHOTS[name]['deviceSize']}"):
            session.restore_block(SNAPSHOTS[name]["manifestID"], device)
        assert device.read_bytes()[:3] == b"old"


def test_by_hand_a_device_no_larger_than_the_one_that_was_is_enough(
    session: repository.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    snapshot = SNAPSHOTS["s2-incremental"]
    image = tmp_path / "exact"
    image.write_bytes(random.Random(1).randbytes(snapshot["deviceSize"]))
    monkeypatch.setenv("KOPIA_PASSWORD", EXPECTED["password"])
    url = session.status()["storage"]["url"].removeprefix("file://")
    with loop_device(image) as device:
        words = ["restore", snapshot["manifestID"], str(device), "--repo", url, "--no-cache", "--quiet"]
        assert cli.main(words) == 0
        assert sha256(device) == snapshot["sha256"]
