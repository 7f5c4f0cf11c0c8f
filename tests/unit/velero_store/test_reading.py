"""Volumes of real repositories in a bucket that was copied to a disk: every byte, by the commands a person types."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mover import cli
from mover.console import escaped
from repository import BackupOptions, OpenOptions, RestoreOptions, Stream, open_repository
from repository.errors import (
    AccessDeniedError,
    InvalidPasswordError,
    ObjectNotFoundError,
    UnsupportedFormatError,
)
from repository.requests import ConnectionOptions
from tests.trees import assert_same_tree, sample_tree, sparse_file
from tests.velero_buckets import (
    DEFAULT_PASSWORD,
    BucketCopy,
    claim,
    data_upload,
    movement_info,
    operation,
    pod_volume_backup,
    pod_volume_info,
    upstream_stream,
)
from velero_store import State, open_velero_store

DISK_BYTES = 24 << 20
OPERATION_TAG = "velero.io/async-operation-id"
Typed = Callable[..., tuple[int, str, str]]


class Rescue:
    """What is in the bucket, and what it was made of."""

    def __init__(self, root: Path) -> None:
        self.copy = BucketCopy(root / "bucket")
        self.data = sample_tree(root / "data", large_bytes=3_000_000, small_count=20)
        self.later = root / "later"
        shutil.copytree(self.data, self.later, symlinks=True)
        (self.later / "large.bin").write_bytes(b"changed" * 100_000)
        (self.later / "added").write_text("new")
        (self.later / "empty").unlink()
        self.log = root / "log"
        self.log.mkdir()
        (self.log / "only").write_bytes(os.urandom(70_000))
        self.disk = sparse_file(root / "disk", length_bytes=DISK_BYTES)
        self.ids: dict[str, str] = {}
        with self.copy.repository("shop") as session:
            for name, path in (("data", self.data), ("later", self.later), ("log", self.log)):
                self.ids[name] = session.backup(path).snapshot.id
            with self.disk.open("rb") as disk:
                options = BackupOptions(
                    stream=upstream_stream(disk.fileno(), "/dev/xvd/a"), tags={OPERATION_TAG: "du-uid.disk"}
                )
                self.ids["disk"] = session.backup("shop/disk", options).snapshot.id
        with self.copy.repository("crm") as session:
            self.ids["crm"] = session.backup(self.log).snapshot.id
        self._write()
        self.copy.flatten()

    def _write(self) -> None:
        ids = self.ids
        self.copy.backup(
            "monday",
            started="2026-11-30T01:00:00Z",
            podvolumebackups=[],
            itemoperations=[operation("shop", "data")],
            members=claim("shop", "data") | data_upload("shop", "data", ids["data"]),
        )
        self.copy.backup(
            "tuesday",
            started="2026-12-01T01:00:00Z",
            schedule="nightly",
            members=claim("shop", "data") | claim("shop", "disk", mode="Block"),
            podvolumebackups=[
                pod_volume_backup("shop", "db-0", "log", ids["log"]),
                pod_volume_backup("shop", "db-0", "tmp", "", claim_name="tmp"),
                pod_volume_backup("crm", "web-0", "log", ids["crm"], claim_name="log"),
            ],
            itemoperations=[operation("shop", "data"), operation("shop", "disk")],
            volumeinfo=[
                movement_info("shop", "data", ids["later"]),
                # of 1.13, and its DataUpload is not in the tarball: only the tag of its snapshot is left
                movement_info("shop", "disk", ""),
                pod_volume_info("crm", "web-0", "log", ids["crm"], "log"),
                {"pvcName": "scratch", "pvcNamespace": "shop", "skipped": True, "skippedReason": "policy"},
            ],
            resource_list={"v1/Pod": ["shop/db-0", "crm/web-0"]},
            results={"errors": {}, "warnings": {"namespaces": {"shop": ["slow"]}}},
        )
        self.copy.backup(
            "lost",
            started="2026-10-01T01:00:00Z",
            podvolumebackups=[
                pod_volume_backup("shop", "db-0", "data", "fb55f1a5", uploader=None),
                pod_volume_backup("shop", "db-0", "gone", "0" * 32),
                pod_volume_backup("none", "db-0", "data", "1" * 32),
                pod_volume_backup("shop", "db-0", "log", ids["log"]),
            ],
        )


@pytest.fixture(scope="module")
def rescue(tmp_path_factory: pytest.TempPathFactory) -> Rescue:
    return Rescue(tmp_path_factory.mktemp("rescue"))


@pytest.fixture
def typed(
    tmp_path: Path, rescue: Rescue, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Typed:
    """Runs `mover velero WORDS` with the store behind the first word."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KOPIA_PASSWORD", raising=False)

    def run(command: str, *words: str | Path) -> tuple[int, str, str]:
        code = cli.main(["velero", command, str(rescue.copy.root), *map(str, words), "--no-cache"])
        shown = capfd.readouterr()
        return code, shown.out, shown.err

    return run


def test_backups_volumes_and_files_are_listed(typed: Typed, rescue: Rescue) -> None:
    code, out, err = typed("ls")
    assert (code, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [
        ["lost", "Completed"],
        ["monday", "Completed"],
        ["tuesday", "Completed"],
    ]
    code, out, _ = typed("ls", "latest", "--json")
    assert {f"{one['namespace']}/{one['name']}": one["state"] for one in json.loads(out)} == {
        "crm/log": "restorable",
        "shop/data": "restorable",
        "shop/disk": "pending",
        "shop/pods/db-0/log": "restorable",
        "shop/scratch": "skipped",
        "shop/tmp": "empty",
    }
    code, out, err = typed("ls", "tuesday", "shop/data/odd")
    assert code == 0
    assert "default password of Velero" in err
    assert sorted(out.rstrip("\n").split("\n")) == sorted(map(escaped, os.listdir(rescue.data / "odd")))
    code, out, _ = typed("ls", "tuesday", "shop/disk", "-l")
    assert (code, out.split()[1], out.split()[-1]) == (0, str(DISK_BYTES), "disk.img")
    code, out, _ = typed("ls", "--long", "--json")
    assert [(one["name"], one["volumes"]) for one in json.loads(out)] == [
        ("lost", 4),
        ("monday", 1),
        ("tuesday", 6),
    ]


def test_a_file_and_an_image_are_printed(
    rescue: Rescue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KOPIA_PASSWORD", raising=False)
    for words, path in (
        (("monday", "shop/data/large.bin"), rescue.data / "large.bin"),
        (("tuesday", "shop/data/large.bin"), rescue.later / "large.bin"),
        (("tuesday", "shop/pods/db-0/log/only"), rescue.log / "only"),
        (("tuesday", "shop/disk"), rescue.disk),
        (("tuesday", "shop/disk/disk.img"), rescue.disk),
    ):
        assert cli.main(["velero", "cat", str(rescue.copy.root), *words, "--no-cache"]) == 0
        assert capfdbinary.readouterr().out == path.read_bytes()


def test_all_volumes_of_a_backup_are_restored_byte_for_byte(
    typed: Typed, rescue: Rescue, tmp_path: Path
) -> None:
    into = tmp_path / "rescued"
    code, out, err = typed("restore", "latest:nightly", "--all", "--into", into)
    assert code == 0, err
    assert_same_tree(rescue.later, into / "shop/data")
    assert_same_tree(rescue.log, into / "shop/pods/db-0/log")
    assert_same_tree(rescue.log, into / "crm/log")
    image = into / "shop/disk.img"
    assert image.read_bytes() == rescue.disk.read_bytes()
    assert image.stat().st_blocks * 512 < DISK_BYTES / 4  # sparse
    assert list((into / "shop/tmp").iterdir()) == []
    assert not (into / "shop/scratch").exists()
    assert "restored 5 volumes of 6" in out
    assert "policy" in out
    code, out, _ = typed("restore", "tuesday", "--all", "--into", into, "--overwrite", "skip", "--json")
    results = {one["name"]: one for one in json.loads(out)["volumes"]}
    assert (code, results["data"]["restore"]["fileCount"]) == (0, 0)
    assert results["scratch"]["result"] == "left out"


def test_what_cannot_be_had_is_told_counted_and_keeps_nothing_else_back(
    typed: Typed, rescue: Rescue, tmp_path: Path
) -> None:
    code, out, _ = typed("restore", "lost", "--all", "--into", tmp_path / "rescued")
    assert code == 5
    assert_same_tree(rescue.log, tmp_path / "rescued/shop/pods/db-0/log")
    assert "restored 1 volume of 4" in out
    assert "restic/shop" in out
    assert "0" * 32 in out
    assert "no repository" in out


def test_one_volume_one_file_and_a_directory_are_restored(
    typed: Typed, rescue: Rescue, tmp_path: Path
) -> None:
    assert typed("restore", "monday", "shop/data", tmp_path / "volume")[0] == 0
    assert_same_tree(rescue.data, tmp_path / "volume")
    assert typed("restore", "monday", "shop/data/odd", tmp_path / "odd")[0] == 0
    assert_same_tree(rescue.data / "odd", tmp_path / "odd")
    assert typed("restore", "monday", "shop/data/large.bin", tmp_path / "file")[0] == 0
    assert (tmp_path / "file").read_bytes() == (rescue.data / "large.bin").read_bytes()
    code, _, err = typed("restore", "monday", "shop/data/none", tmp_path / "none")
    assert (code, (tmp_path / "none").exists()) == (30, False)
    assert "none" in err
    code, _, err = typed("restore", "lost", "shop/pods/db-0/data", tmp_path / "restic")
    assert (code, (tmp_path / "restic").exists()) == (30, False)
    assert "written by restic" in err


def test_versions_of_a_file_are_found_and_compared(typed: Typed, rescue: Rescue) -> None:
    _, out, _ = typed("find", "shop/data", "text.log", "--json")
    assert [(one["backup"], one["same"]) for one in json.loads(out)] == [("tuesday", True), ("monday", False)]
    code, out, _ = typed("find", "shop/data", "large.bin", "--json")
    assert [(one["backup"], one["same"], one["size"]) for one in json.loads(out)] == [
        ("tuesday", False, 700_000),
        ("monday", False, 3_000_000),
    ]
    code, out, _ = typed("find", "shop/data/added")
    assert [line.split()[0] for line in out.splitlines()] == ["BACKUP", "tuesday", "1"]
    assert typed("find", "shop/none")[0] == 30
    code, out, _ = typed("diff", "monday", "tuesday", "shop/data")
    assert set(out.splitlines()) == {"M .", "M large.bin", "+ added", "- empty"}
    code, out, _ = typed("diff", "lost", "tuesday", "shop/pods/db-0/log")
    assert (code, out) == (0, "")


def test_a_backup_and_where_a_volume_lies_are_shown(typed: Typed, rescue: Rescue) -> None:
    code, out, _ = typed("show", "tuesday")
    assert code == 0
    assert "warning: shop: slow" in out
    assert "2 v1/Pod" in out
    code, out, _ = typed("show", "tuesday", "shop/disk", "--json")
    shown = json.loads(out)
    assert (shown["snapshotID"], shown["volumeMode"]) == (rescue.ids["disk"], "Block")
    with open_repository(shown["repository"], DEFAULT_PASSWORD) as session:
        assert session.snapshot(shown["snapshotID"]).id == rescue.ids["disk"]


def test_a_check_asks_the_repositories(typed: Typed, rescue: Rescue) -> None:
    _code, out, _ = typed("ls", "lost", "--check", "--json")
    assert {one["namespace"] + "/" + one["name"]: one["reason"] for one in json.loads(out)} == {
        "none/pods/db-0/data": "its namespace has no repository",
        "shop/pods/db-0/data": "it was written by restic, into restic/shop",
        "shop/pods/db-0/gone": "its snapshot is missing in the repository",
        "shop/pods/db-0/log": None,
    }


def test_a_wrong_password_names_the_secret(
    typed: Typed, rescue: Rescue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOPIA_PASSWORD", "wrong")
    code, _, err = typed("ls", "tuesday", "shop/data")
    assert code == 32
    assert "velero-repo-credentials" in err
    with (
        open_velero_store(str(rescue.copy.root), password="wrong") as store,
        store.reader(store.backup("monday").volume("shop/data")) as reader,
        pytest.raises(InvalidPasswordError, match="the password does not open"),
    ):
        list(reader.entries())


def test_the_location_of_a_cluster_that_is_gone_is_enough(
    rescue: Rescue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    location = {
        "kind": "BackupStorageLocation",
        "spec": {"provider": "velero.io/fs", "config": {"fspath": str(rescue.copy.root)}},
    }
    (tmp_path / "bsl.yaml").write_text(json.dumps(location))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert (
        cli.main(["velero", "ls", "--bsl", str(tmp_path / "bsl.yaml"), "latest", "shop/pods/db-0/log"]) == 0
    )
    assert capfd.readouterr().out == "only\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ls"], "no store"),
        (["ls", "DIR", "a", "b", "c"], "3 words"),
        (["cat", "DIR", "monday"], "1 words"),
        (["cat", "DIR", "monday", "shop/data"], "whole volume"),
        (["cat", "DIR", "monday", "shop"], "names no volume"),
        (["ls", "DIR", "--repo", "x"], "--repo is not for"),
        (["restore", "DIR", "monday", "--all"], "go together"),
        (["restore", "DIR", "monday", "--into", "x"], "go together"),
        (["restore", "DIR", "monday", "--all", "--into", "x", "--format", "tar"], "one volume"),
        (["ls", "DIR", "../x"], "not the name of a backup"),
        (["ls", "ftp://x/y"], "unknown"),
    ],
)
def test_wrong_usage_is_said_in_a_line(
    rescue: Rescue, capfd: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert cli.main(["velero", *[str(rescue.copy.root) if word == "DIR" else word for word in words]]) == 2
    shown = capfd.readouterr()
    assert said in shown.err
    assert shown.err.count("\n") == 1


def test_the_image_of_velero_block_has_the_size_of_its_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """It stores whole pieces of 1 MiB; what the device has is in a tag (Velero main)."""
    size = (2 << 20) + 4096
    padded = tmp_path / "padded"
    padded.write_bytes(os.urandom(size) + bytes((3 << 20) - size))
    copy = BucketCopy(tmp_path / "bucket")
    tags = {"snapshot-uploader": "velero-block", "bdev-source-size": str(size)}
    with copy.repository("shop") as session, padded.open("rb") as disk:
        name = "snapshot-data-upload-download-velero-block-shop-disk"
        options = BackupOptions(stream=Stream(disk.fileno(), name), tags=tags)
        snapshot = session.backup("shop/disk", options).snapshot.id
    copy.backup("b", volumeinfo=[movement_info("shop", "disk", snapshot, dataMover="velero-block")])
    copy.flatten()
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = padded.read_bytes()[:size]
    store = str(copy.root)
    assert cli.main(["velero", "restore", store, "b", "--all", "--into", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/shop/disk.img").read_bytes() == expected
    capfdbinary.readouterr()
    for words in (["cat", store, "b", "shop/disk"], ["restore", store, "b", "shop/disk", "-"]):
        assert cli.main(["velero", *words]) == 0
        assert capfdbinary.readouterr().out == expected
    with open_velero_store(store) as opened:
        reader = opened.reader(opened.backup("b").volume("shop/disk"))
        assert [(entry.name, entry.size_bytes) for entry in reader.entries()] == [("disk.img", size)]
        with reader.open_file() as image:
            assert (image.seek(-10, 2), image.read()) == (size - 10, expected[-10:])


def test_python_reads_a_file_at_any_place(rescue: Rescue) -> None:
    expected = (rescue.data / "large.bin").read_bytes()
    with (
        open_velero_store(str(rescue.copy.root)) as store,
        store.reader(store.backup("monday").volume("shop/data")) as reader,
        reader.open_file("large.bin") as file,
    ):
        file.seek(2_000_000)
        assert file.read(1000) == expected[2_000_000:2_001_000]
        empty = store.reader(store.backup("tuesday").volume("shop/tmp"))
        assert (empty.is_empty, list(empty.walk())) == (True, [])
        with pytest.raises(ObjectNotFoundError, match="nothing was in it"):
            empty.open_file("x")
        with pytest.raises(UnsupportedFormatError, match="restic"):
            list(store.reader(store.backup("lost").volume("shop/pods/db-0/data")).entries())


def test_more_namespaces_than_repositories_may_be_open_are_read_side_by_side(
    tmp_path: Path, rescue: Rescue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("velero_store.store.SESSIONS_MAX", 1)
    with open_velero_store(str(rescue.copy.root)) as store:
        backup = store.backup("tuesday")
        shop, crm = (store.reader(backup.volume(path)) for path in ("shop/pods/db-0/log", "crm/log"))
        with shop.open_file("only") as one, crm.open_file("only") as other:
            assert one.read() == other.read() == (rescue.log / "only").read_bytes()
        shop.restore("", tmp_path / "out", RestoreOptions())
        assert_same_tree(rescue.log, tmp_path / "out")


def test_a_repository_copied_out_of_a_bucket_is_read_and_never_written(
    rescue: Rescue, tmp_path: Path
) -> None:
    root = rescue.copy.root / "kopia/shop"
    (root / ".shards").write_text("{}")  # as kopia leaves one behind where it found no repository
    (root / "p0123.4af0.partial").write_bytes(b"half")
    before = sorted(path.name for path in root.iterdir())
    options = OpenOptions(connection=ConnectionOptions(read_only=False))
    with open_repository(str(root), DEFAULT_PASSWORD, options) as session:
        session.restore(rescue.ids["data"], tmp_path / "out")
        assert_same_tree(rescue.data, tmp_path / "out")
        assert "p0123" not in json.dumps(list(session.blobs()))
        with pytest.raises(AccessDeniedError, match="sync-to"):
            session.backup(rescue.log)
    assert sorted(path.name for path in root.iterdir()) == before
    (root / ".shards").unlink()
    (root / "p0123.4af0.partial").unlink()


def test_states_of_a_backup_can_be_asked_for(rescue: Rescue) -> None:
    with open_velero_store(str(rescue.copy.root)) as store:
        disk = store.backup("tuesday").volume("shop/disk")
        assert (disk.state, disk.reason) == (State.PENDING, "its DataUpload is not in the tarball")
        assert store.resolved(disk).snapshot_id == rescue.ids["disk"]
