"""What Velero 1.19 asks of a mover: a parent by choice, and no image file in a volume of files."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from mover import cli
from mover.cancel import CancelToken
from mover.protocol import BackupRequest, RepositoryAccess, RestoreRequest, decode_request, encode_request

if TYPE_CHECKING:
    from pathlib import Path

repository = pytest.importorskip("repository", reason="the engine is not built: make build")
kopia_engine = pytest.importorskip("mover.kopia_engine")

TAGS = {"snapshot-requester": "snapshot-data-upload-download", "snapshot-uploader": "kopia"}
MIB = 1 << 20
DEVICE_BYTES = 5 * MIB + 12288


@pytest.fixture
def access(tmp_path: Path) -> RepositoryAccess:
    (tmp_path / "kopia").mkdir()
    repository.create_repository(str(tmp_path / "kopia" / "app"), "password")
    (tmp_path / "password").write_text("password")
    return RepositoryAccess(
        "default", {"provider": "fs", "config": {"fspath": str(tmp_path)}}, "app", str(tmp_path / "password")
    )


def backed_up(access: RepositoryAccess, root: Path, parent: str = "", tags: dict[str, str] = TAGS) -> Any:
    request = BackupRequest(
        "du", "uid", str(root / "source"), "Filesystem", access, "app/data", tags, parent_snapshot=parent
    )
    request = decode_request(encode_request(request))
    with kopia_engine.KopiaEngine().open(access) as opened:
        return opened.backup(request, CancelToken())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_bytes(os.urandom(50_000))
    return tmp_path / "source"


def test_b3_full_backup_reads_every_byte_again(
    tmp_path: Path, access: RepositoryAccess, source: Path
) -> None:
    first = backed_up(access, tmp_path)
    full = backed_up(access, tmp_path, "none")
    assert (full.record["parents"], full.record["fullBecause"]) == ([], "full backup asked for")
    assert full.record["readBytes"] == (source / "file").stat().st_size
    assert full.incremental_bytes == full.total_bytes
    for automatic in ("", "auto"):
        following = backed_up(access, tmp_path, automatic)
        assert following.record["parents"] == [full.snapshot_id]
        assert (following.record["fullBecause"], following.record["readBytes"]) == ("", 0)
        full = following
    assert first.snapshot_id != full.snapshot_id


def test_b3_snapshot_that_is_named_is_the_parent(
    tmp_path: Path, access: RepositoryAccess, source: Path
) -> None:
    first = backed_up(access, tmp_path)
    (source / "file").write_bytes(b"second")
    backed_up(access, tmp_path)
    named = backed_up(access, tmp_path, first.snapshot_id)
    assert named.record["parents"] == [first.snapshot_id]
    assert named.record["readBytes"] == len(b"second")  # the newest would have had it


@pytest.mark.parametrize("what", ["missing", "other"])
def test_b3_parent_that_cannot_be_one_makes_a_full_backup_that_says_so(
    tmp_path: Path, access: RepositoryAccess, source: Path, what: str
) -> None:
    backed_up(access, tmp_path)
    other = backed_up(access, tmp_path, tags=TAGS | {"snapshot-uploader": "another"})
    parent = "0123456789abcdef" if what == "missing" else other.snapshot_id
    result = backed_up(access, tmp_path, parent)
    assert result.record["parents"] == []
    assert parent in result.record["fullBecause"]
    assert result.record["readBytes"] == (source / "file").stat().st_size


def test_b3_named_snapshot_whose_source_was_deleted_is_no_parent(
    tmp_path: Path, access: RepositoryAccess, source: Path
) -> None:
    """What it lacks was never seen to be gone."""
    first = backed_up(access, tmp_path)
    with repository.open_repository(str(tmp_path / "kopia" / "app"), "password") as session:
        manifest = dict(session.snapshot(first.snapshot_id).document)
        manifest.pop("id")
        lacking = session.save_snapshot(manifest | {"incomplete": "source deleted"})
    result = backed_up(access, tmp_path, lacking)
    assert (result.record["parents"], result.record["readBytes"]) == ([], (source / "file").stat().st_size)
    assert "is not complete" in result.record["fullBecause"]


@pytest.fixture
def block_snapshot(tmp_path: Path, access: RepositoryAccess) -> tuple[str, bytes]:
    """A snapshot of Velero's block mover: one file, padded to 1 MiB, and the real size in a tag."""
    device = b"a" * MIB + bytes(3 * MIB) + os.urandom(DEVICE_BYTES - 4 * MIB)
    (tmp_path / "device").write_bytes(device)
    tags = TAGS | {"snapshot-uploader": "velero-block"}
    path = "snapshot-data-upload-download/velero-block/app/data"
    request = BackupRequest("du", "uid", str(tmp_path / "device"), "Block", access, path, tags)
    with kopia_engine.KopiaEngine().open(access) as opened:
        return opened.backup(request, CancelToken()).snapshot_id, device


def test_b2_block_snapshot_is_not_restored_into_a_volume_of_files(
    tmp_path: Path, access: RepositoryAccess, block_snapshot: tuple[str, bytes]
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "mine").write_text("there before")
    request = RestoreRequest("dd", "uid", str(volume), "Filesystem", access, block_snapshot[0])
    with (
        kopia_engine.KopiaEngine().open(access) as opened,
        pytest.raises(repository.DataMoverError, match="image of a block device") as raised,
    ):
        opened.restore(request, CancelToken())
    assert "mode Block" in str(raised.value)
    assert {path.name: path.read_text() for path in volume.iterdir()} == {"mine": "there before"}


@pytest.mark.parametrize("part", [False, True])
def test_b2_by_hand_an_image_of_the_devices_real_size_is_made_and_said(
    tmp_path: Path,
    access: RepositoryAccess,
    block_snapshot: tuple[str, bytes],
    capsys: pytest.CaptureFixture[str],
    *,
    part: bool,
) -> None:
    snapshot, device = block_snapshot
    name = "snapshot-data-upload-download-velero-block-app-data"
    target = tmp_path / "image"
    arguments = ["--repo", str(tmp_path / "kopia" / "app"), "--password-file", access.password_path]
    what = f"{snapshot}/{name}" if part else snapshot
    assert cli.main(["restore", what, str(target), *arguments]) == 0
    assert "image of a block device" in capsys.readouterr().err
    image = target if part else target / name
    assert image.read_bytes() == device
    assert image.stat().st_blocks * 512 <= DEVICE_BYTES - 2 * MIB  # holes stay holes


def test_b2_size_that_cannot_be_is_refused_before_anything_is_written(
    tmp_path: Path, access: RepositoryAccess, block_snapshot: tuple[str, bytes]
) -> None:
    for size in ("9" * 30, "-1", str(7 * MIB), "²"):
        with repository.open_repository(str(tmp_path / "kopia" / "app"), "password") as session:
            manifest = json.loads(json.dumps(session.snapshot(block_snapshot[0]).document))
            manifest["tags"]["bdev-source-size"] = size
            snapshot = session.save_snapshot({key: manifest[key] for key in manifest if key != "id"})
        arguments = ["--repo", str(tmp_path / "kopia" / "app"), "--password-file", access.password_path]
        assert cli.main(["restore", snapshot, str(tmp_path / "none"), *arguments]) != 0
        assert not (tmp_path / "none").exists()
