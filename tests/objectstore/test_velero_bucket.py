"""Velero's buckets on every object store by a real server: folders, objects and repositories below one prefix."""

from __future__ import annotations

from pathlib import Path

import pytest

from mover import cli
from repository import BackupOptions, ConnectionOptions, OpenOptions, Throttle, open_repository
from repository.engine import ObjectStore
from repository.errors import BlobNotFoundError
from repository.requests import encode
from tests.drivers import Mover
from tests.objectstore.source import contents, tree
from tests.objectstore.test_providers import Server
from tests.velero_buckets import BucketCopy, data_upload, movement_info, operation, pod_volume_backup
from velero_store import open_velero_store
from velero_store.bucket import Bucket

REPOSITORY_REQUESTS_MAX = 12


@pytest.fixture(params=["s3", "azure", "gcs"])
def server(request: pytest.FixtureRequest) -> Server:
    """One server after the other."""
    found: Server = request.getfixturevalue(request.param)
    return found


def upload(copy: BucketCopy, server: Server, prefix: str) -> None:
    """Puts a store into the bucket."""
    copy.flatten()
    for path in copy.root.rglob("*"):
        if path.is_file():
            server.put(f"{prefix}/{path.relative_to(copy.root)}", path.read_bytes())


def test_a_store_in_a_bucket_is_listed_and_read(server: Server, tmp_path: Path) -> None:
    copy = BucketCopy(tmp_path / "bucket")
    source = tree(tmp_path / "source", seed=3, large_bytes=3 << 20)
    with copy.repository("shop") as session:
        options = BackupOptions(tags={"velero.io/async-operation-id": "du-uid.data"})
        snapshot = session.backup(source, options).snapshot.id
    filler = {
        f"resources/pods/namespaces/x/p{number}.json": f'{{"n": {number}}}'.encode() * 50
        for number in range(300)
    }
    copy.backup(
        "monday", podvolumebackups=[pod_volume_backup("shop", "db-0", "data", snapshot, claim_name="data")]
    )
    copy.backup(
        "tuesday",
        itemoperations=[operation("shop", "data")],
        members=filler | data_upload("shop", "data", snapshot),
    )
    copy.backup("wednesday", volumeinfo=[movement_info("shop", "data", snapshot)])
    prefix = f"velero-{tmp_path.name}"
    upload(copy, server, prefix)
    with open_velero_store(server.url(prefix)) as store:
        assert [one.name for one in store.backups()] == ["monday", "tuesday", "wednesday"]
        assert [one.volume("shop/data").snapshot_id for one in store.backups()] == [snapshot] * 3
        with (
            store.reader(store.backup("tuesday").volume("shop/data")) as reader,
            reader.open_file("large") as large,
        ):
            assert large.read() == (source / "large").read_bytes()
    with open_velero_store(server.url(prefix)) as store:
        with (
            store.reader(store.backup("wednesday").volume("shop/data")) as reader,
            reader.open_file("d1/file-8") as file,
        ):
            assert file.read() == (source / "d1/file-8").read_bytes()
        of_repository = sum(one["requests"] for one in store.session("shop").storage_metrics())
        # one listing and two lists of the backup; of the repository what opening it and one file need
        assert (store.bucket.requests(), of_repository <= REPOSITORY_REQUESTS_MAX) == (3, True), of_repository
    out = tmp_path / "out"
    words = ["velero", "restore", server.url(f"{prefix}/"), "monday", "--all", "--into", str(out)]
    assert cli.main([*words, "--cache-directory", str(tmp_path / "cache")]) == 0
    assert contents(out / "shop/data") == contents(source)


@pytest.mark.parametrize("limit", [None, 50 << 20])
def test_objects_are_read_up_to_their_ends(server: Server, tmp_path: Path, limit: int | None) -> None:
    copy = BucketCopy(tmp_path / "bucket")
    copy.repository("shop").close()
    copy.backup("b")
    copy.put("backups/b/empty", b"")
    copy.put("backups/b/b-logs.gz", bytes(range(256)) * 100)
    prefix = f"objects-{tmp_path.name}"
    upload(copy, server, prefix)
    options = ConnectionOptions(throttle=Throttle(download_bytes_per_second=limit))
    bucket = Bucket.open(server.url(prefix), options)
    assert bucket.folders("") == ["backups/", "kopia/"]
    lengths = bucket.lengths("backups/b/")
    assert (lengths["b-logs.gz"], lengths["empty"]) == (25_600, 0)
    assert bucket.folders("backups/") == ["b/"]
    assert bucket.lengths("backups/none/") == {}
    assert bucket.read("backups/b/b-logs.gz") == bytes(range(256)) * 100
    assert bucket.read("backups/b/empty") == b""
    assert bucket.read("backups/b/none") is None
    with bucket.stream("backups/b/b-logs.gz") as stream:
        assert stream.read() == bytes(range(256)) * 100
    native = ObjectStore.open(server.url(prefix), encode(options))
    assert native.read("backups/b/b-logs.gz", 25_599, 5) == b"\xff"
    assert native.read("backups/b/b-logs.gz", 25_600, 5) == b""
    assert native.read("backups/b/b-logs.gz", 99_000, 5) == b""
    with bucket.stream("backups/b/none") as stream, pytest.raises(BlobNotFoundError):
        stream.read()


def test_a_repository_that_was_copied_from_the_bucket_opens(server: Server, tmp_path: Path) -> None:
    """What `rclone copy` leaves: files with the names of the objects."""
    copy = BucketCopy(tmp_path / "bucket")
    source = tree(tmp_path / "source", seed=4, large_bytes=3 << 20)
    with copy.repository("shop") as session:
        snapshot = session.backup(source).snapshot.id
    prefix = f"copied-{tmp_path.name}"
    mover = Mover(tmp_path / "mover-home", copy.sharded("shop"), copy.password)
    mover("repo", "sync-to", server.url(prefix))
    flat = tmp_path / "flat"
    flat.mkdir()
    with open_repository(server.url(prefix), copy.password) as session:
        for blob in session.blobs():
            (flat / blob["id"]).write_bytes(session.blob(blob["id"]))
    options = OpenOptions(connection=ConnectionOptions(read_only=True))
    with open_repository(str(flat), copy.password, options) as session:
        session.restore(snapshot, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(source)
