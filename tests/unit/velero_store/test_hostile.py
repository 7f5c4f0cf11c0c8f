"""Whatever stands in the bucket: bounded, told, and the rest stays readable."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from repository.errors import CorruptedError, InvalidRequestError, ObjectNotFoundError
from tests.velero_buckets import BucketCopy, claim, data_upload, packed, pod_volume_backup, tarball
from velero_store import bucket, open_velero_store
from velero_store import tarball as tarballs
from velero_store.bucket import unpacked
from velero_store.fields import printable
from velero_store.tarball import read_tarball

KOPIA = "a" * 32


@pytest.fixture
def copy(tmp_path: Path) -> BucketCopy:
    return BucketCopy(tmp_path / "bucket")


def read(content: bytes) -> tarballs.TarFindings:
    return read_tarball(io.BufferedReader(io.BytesIO(content)))  # type: ignore[arg-type]


def test_a_bomb_in_a_list_ends_at_the_bound(monkeypatch: pytest.MonkeyPatch, copy: BucketCopy) -> None:
    monkeypatch.setattr(bucket, "DOCUMENT_BYTES_MAX", 1 << 20)
    bomb = gzip.compress(bytes(2 << 20))
    with pytest.raises(CorruptedError, match="unpacks to more than 1,048,576 bytes"):
        unpacked("x.gz", bomb)
    copy.backup("b", podvolumebackups=[pod_volume_backup("shop", "db-0", "data", KOPIA)])
    copy.put("backups/b/b-volumeinfo.json.gz", bomb)
    with open_velero_store(str(copy.root)) as store:
        backup = store.backup("b")
        assert [one.snapshot_id for one in backup.volumes()] == [KOPIA]
        assert "b-volumeinfo.json.gz" in backup.damages()[0]


def test_a_stored_object_that_is_too_long_is_not_read_whole(
    monkeypatch: pytest.MonkeyPatch, copy: BucketCopy
) -> None:
    monkeypatch.setattr(bucket, "STORED_BYTES_MAX", 1000)
    copy.backup("good")
    copy.backup("long")
    copy.put("backups/long/velero-backup.json", b"{" + b" " * 2000 + b"}")
    with open_velero_store(str(copy.root)) as store:
        assert {one.name: one.phase for one in store.backups()} == {"good": "Completed", "long": "Damaged"}


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", packed([])[:-4], packed([])[:9], gzip.compress(b"[" * 200_000), gzip.compress(b"{]")],
    ids=["empty", "plain", "no checksum", "cut off", "too deep", "no JSON"],
)
def test_a_damaged_list_is_told_and_the_others_are_read(copy: BucketCopy, content: bytes) -> None:
    copy.backup("b", podvolumebackups=[pod_volume_backup("shop", "db-0", "data", KOPIA)], itemoperations=[])
    copy.put("backups/b/b-itemoperations.json.gz", content)
    with open_velero_store(str(copy.root)) as store:
        backup = store.backup("b")
        assert [one.snapshot_id for one in backup.volumes()] == [KOPIA]
        assert "b-itemoperations.json.gz" in backup.damages()[0]
        with pytest.raises(CorruptedError, match="itemoperations"):
            backup.volume("shop/missing")


def test_bytes_after_the_value_and_more_gzip_members_are_accepted(copy: BucketCopy) -> None:
    copy.backup("b")
    one = json.dumps([pod_volume_backup("shop", "db-0", "data", KOPIA)]).encode()
    copy.put("backups/b/b-podvolumebackups.json.gz", gzip.compress(one) + gzip.compress(b"\n trailing"))
    with open_velero_store(str(copy.root)) as store:
        assert store.backup("b").volume("shop/pods/db-0/data").snapshot_id == KOPIA
        assert store.backup("b").damages() == []


def test_what_the_tarball_said_before_it_was_cut_off_is_kept(copy: BucketCopy) -> None:
    members = {f"resources/pods/namespaces/x/p{number}.json": b"{}" + bytes(20_000) for number in range(20)}
    whole = tarball(data_upload("shop", "data", KOPIA) | members)
    for content in (whole[: len(whole) // 2], whole[:-4], whole[:-8] + bytes(8)):
        findings = read(content)
        assert list(findings.uploads) == [("shop", "data")]
        assert findings.damage
    assert read(whole).damage == ""
    copy.backup("b", podvolumebackups=[])
    copy.put("backups/b/b.tar.gz", whole[: len(whole) // 2])
    with open_velero_store(str(copy.root)) as store:
        backup = store.backup("b")
        assert backup.volume("shop/data").snapshot_id == KOPIA
        assert "cannot read the tarball" in backup.damages()[0]


@pytest.mark.parametrize("content", [b"", b"x", gzip.compress(b"no tar" * 500), tarball({})[:20]])
def test_what_is_no_tarball_is_told(content: bytes) -> None:
    assert read(content).damage


def test_a_tar_bomb_ends_at_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarballs, "TAR_BYTES_MAX", 4 << 20)
    content = tarball(
        data_upload("shop", "data", KOPIA) | {"bomb": bytes(8 << 20)} | data_upload("shop", "late", KOPIA)
    )
    findings = read(content)
    assert list(findings.uploads) == [("shop", "data")]
    assert "unpacks to more than" in findings.damage


def test_a_header_that_would_be_read_into_memory_whole_is_refused() -> None:
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        out = io.BytesIO()
        member = tarfile.TarInfo("x")
        member.type, member.size = kind, 1 << 30
        with gzip.GzipFile(fileobj=out, mode="wb") as plain:
            plain.write(member.tobuf() + bytes(1 << 20))
        assert "a header of 1,073,741,824 bytes" in read(out.getvalue()).damage


def test_so_many_volumes_that_nobody_has_them_end_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarballs, "KEPT_MAX", 50)
    members: dict[str, bytes] = {}
    for number in range(100):
        members |= claim("shop", f"c{number}")
    findings = read(tarball(members))
    assert 50 <= len(findings.claims) <= 52
    assert "more than 50 volumes" in findings.damage


def test_names_in_the_tarball_lead_nowhere_and_what_is_no_object_is_passed_over(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in {
            "../../../escaped": b"x",
            "/etc/escaped": b"x",
            "resources/datauploads.velero.io/namespaces/../x.json": b"not JSON",
            "resources/datauploads.velero.io/namespaces/velero/deep.json": b"[" * 100_000,
            "resources/datauploads.velero.io/namespaces/velero/list.json": b"[1]",
            "resources/datauploads.velero.io/other/namespaces/velero/x.json": data_upload(
                "no", "no", KOPIA
            ).popitem()[1],
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("resources/datauploads.velero.io/namespaces/velero/link.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        for name, content in data_upload("shop", "data", KOPIA).items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    findings = read(out.getvalue())
    assert (list(findings.uploads), findings.damage) == ([("shop", "data")], "")
    assert list(tmp_path.iterdir()) == []


def test_a_backup_in_flight_and_foreign_folders_are_shown_and_break_nothing(copy: BucketCopy) -> None:
    copy.backup("done")
    copy.put("backups/half/half-logs.gz", b"")
    copy.put("backups/broken/velero-backup.json", b"\x00\xff")
    copy.put("backups/list/velero-backup.json", b"[]")
    copy.put("backups/Not A Name/velero-backup.json", b"{}")
    copy.put("backups/file-beside", b"")
    with open_velero_store(str(copy.root)) as store:
        phases = {one.name: one.phase for one in store.backups()}
        assert phases == {
            "broken": "Damaged",
            "done": "Completed",
            "half": "Incomplete",
            "list": "Incomplete",
        }
        assert store.backup("half").volumes() == []
        with pytest.raises(ObjectNotFoundError, match=r"the last are broken, done, half"):
            store.backup("none")
        for name in ("../done", "a/b", "", "."):
            with pytest.raises(InvalidRequestError):
                store.backup(name)


def test_no_backups_at_all_ask_for_the_right_prefix(copy: BucketCopy) -> None:
    copy.put("prefix/backups/b/velero-backup.json", b"{}")
    with open_velero_store(str(copy.root)) as store:
        assert list(store.backups()) == []
        with pytest.raises(ObjectNotFoundError, match="is this the bucket and prefix"):
            store.backup("b")
        with pytest.raises(ObjectNotFoundError, match="has ended well"):
            store.backup("latest")


def test_latest_is_the_newest_that_ended_well(copy: BucketCopy) -> None:
    copy.backup("a", started="2026-01-03T00:00:00Z", schedule="nightly")
    copy.backup("b", started="2026-01-02T00:00:00Z", schedule="weekly", phase="PartiallyFailed")
    copy.backup("c", started="2026-01-09T00:00:00Z", phase="Failed")
    copy.backup("d", started="nonsense")
    with open_velero_store(str(copy.root)) as store:
        assert store.backup("latest").name == "a"
        assert store.backup("latest:weekly").name == "b"
        with pytest.raises(ObjectNotFoundError, match="of schedule hourly"):
            store.backup("latest:hourly")


def test_texts_of_the_bucket_drive_no_terminal() -> None:
    assert printable("a\x1b[2Jb\ud800c\u202e\n") == "a\ufffd[2Jb?c\ufffd\n"
    assert len(printable("x" * 10_000)) == 2000


def test_reading_changes_nothing_in_the_bucket(copy: BucketCopy) -> None:
    copy.backup("b", members=data_upload("shop", "data", KOPIA), podvolumebackups=[])
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in copy.root.rglob("*")}
    with open_velero_store(str(copy.root)) as store:
        assert [one.volumes(detail=True)[0].path for one in store.backups()] == ["shop/data"]
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in copy.root.rglob("*")} == before
