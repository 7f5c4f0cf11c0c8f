"""The mover in Velero's block layout: what it goes on from, what its record says, what comes back."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from mover.block_backup import choose_parent
from mover.cancel import CancelToken
from mover.protocol import BackupRequest, RepositoryAccess, RestoreRequest, decode_request, encode_request

if TYPE_CHECKING:
    from pathlib import Path

repository = pytest.importorskip("repository", reason="the engine is not built: make build")
kopia_engine = pytest.importorskip("mover.kopia_engine")

MIB = 1 << 20
DEVICE_BYTES = 6 * MIB + 12288
PATH = "snapshot-data-upload-download/velero-block/app/data"


def tags(change: str = "snap-1", volume: str = "disk-1") -> dict[str, str]:
    chain = {"snapshot-requester": "snapshot-data-upload-download", "snapshot-uploader": "velero-block"}
    return chain | {"cbt-change-id": change, "cbt-volume-id": volume}


def wanted(path: str, access: RepositoryAccess, parent: str = "", **more: str) -> BackupRequest:
    request = BackupRequest("du", "uid", path, "Block", access, PATH, tags(**more), parent_snapshot=parent)
    decoded = decode_request(encode_request(request))
    assert isinstance(decoded, BackupRequest)
    return decoded


@pytest.fixture
def access(tmp_path: Path) -> RepositoryAccess:
    (tmp_path / "kopia").mkdir()
    repository.create_repository(str(tmp_path / "kopia" / "app"), "password")
    (tmp_path / "password").write_text("password")
    return RepositoryAccess(
        "default", {"provider": "fs", "config": {"fspath": str(tmp_path)}}, "app", str(tmp_path / "password")
    )


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "device"
    content = random.Random(7).randbytes(4 * MIB) + bytes(2 * MIB) + random.Random(8).randbytes(12288)
    path.write_bytes(content)
    return path


def back_up(access: RepositoryAccess, request: BackupRequest) -> Any:
    with kopia_engine.KopiaEngine().open(access) as opened:
        return opened.backup(request, CancelToken())


def test_device_goes_and_comes_back_with_an_honest_record(
    tmp_path: Path, access: RepositoryAccess, device: Path
) -> None:
    first = back_up(access, wanted(str(device), access))
    assert first.record["fullBecause"] == "no earlier snapshot of this volume"
    assert (first.total_bytes, first.incremental_bytes) == (DEVICE_BYTES, 4 * MIB + 12288)
    with device.open("r+b") as file:
        file.seek(MIB + 9)
        file.write(b"changed")
    second = back_up(access, wanted(str(device), access, change="snap-2"))
    assert second.incremental_bytes == MIB
    assert second.record["parents"] == [first.snapshot_id]
    assert second.record["fullBecause"] == ""
    full = back_up(access, wanted(str(device), access, parent="none"))
    assert (full.record["parents"], full.record["fullBecause"]) == ([], "full backup asked for")
    with kopia_engine.KopiaEngine().open(access) as opened:
        target = tmp_path / "restored"
        restored = opened.restore(
            RestoreRequest("dd", "uid", str(target), "Block", access, second.snapshot_id), CancelToken()
        )
        assert target.read_bytes() == device.read_bytes()
        assert restored.total_bytes == DEVICE_BYTES
        # Two pieces, and no more, are zero: nothing was written for them.
        assert restored.record["writtenBytes"] == DEVICE_BYTES - 2 * MIB
        refused = RestoreRequest("dd", "uid", str(tmp_path / "x"), "Filesystem", access, second.snapshot_id)
        with pytest.raises(repository.DataMoverError, match="image of a block device"):
            opened.restore(refused, CancelToken())
        snapshot = opened._session.snapshot(second.snapshot_id)
    assert snapshot.tags == tags("snap-2") | {"bdev-source-size": str(DEVICE_BYTES)}
    assert (snapshot.description, snapshot.pins) == ("Block Uploader", ("velero-pin",))


def test_lost_parent_is_told_and_everything_is_read(
    tmp_path: Path, access: RepositoryAccess, device: Path
) -> None:
    back_up(access, wanted(str(device), access))
    named = back_up(access, wanted(str(device), access, parent="0123abcd"))
    assert "0123abcd" in named.record["fullBecause"]
    assert named.record["readBytes"] == DEVICE_BYTES


def test_files_are_not_written_as_a_device(access: RepositoryAccess, tmp_path: Path) -> None:
    request = BackupRequest("du", "uid", str(tmp_path), "Filesystem", access, PATH, tags())
    with pytest.raises(repository.DataMoverError, match="reads devices"):
        back_up(access, request)


def snapshot(name: str, **more: Any) -> Any:
    document = {"id": name, "tags": tags(), "startTime": "2026-01-01T00:00:00Z"} | more
    return repository.Snapshot(document)


def test_parent_is_the_newest_of_this_volume_and_uploader(access: RepositoryAccess) -> None:
    other = {"tags": tags(volume="disk-2")}
    files = {"tags": tags() | {"snapshot-uploader": "kopia"}}
    chain = [snapshot("a"), snapshot("b"), snapshot("c", **other), snapshot("d", **files)]
    chain.append(snapshot("e", incomplete="canceled"))
    found = choose_parent(chain, wanted("/dev/x", access))
    assert found.snapshot is not None
    assert (found.snapshot.id, found.change_id(wanted("/dev/x", access))) == ("b", "snap-1")
    # A volume that came back under another handle is compared with, and never asked about.
    moved = wanted("/dev/x", access, volume="disk-9")
    found = choose_parent(chain, moved)
    assert found.snapshot is not None
    assert (found.snapshot.id, found.change_id(moved)) == ("c", "")
    assert choose_parent(chain, wanted("/dev/x", access, parent="a")).snapshot is chain[0]
    assert choose_parent(chain, wanted("/dev/x", access, parent="d")).snapshot is None
