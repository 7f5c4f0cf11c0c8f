"""Backups as each Velero wrote them: every volume is found, with its snapshot, and why another cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from repository.errors import InvalidRequestError, ObjectNotFoundError
from tests.velero_buckets import (
    BucketCopy,
    claim,
    data_upload,
    movement_info,
    operation,
    pod,
    pod_volume_backup,
    pod_volume_info,
)
from velero_store import State, Volume, open_velero_store

KOPIA, OTHER, RESTIC = "a" * 32, "b" * 32, "fb55f1a5"


@pytest.fixture
def copy(tmp_path: Path) -> BucketCopy:
    return BucketCopy(tmp_path / "bucket")


def found(copy: BucketCopy, *, detail: bool = False) -> list[tuple[str, str, str]]:
    """Path, state and snapshot of each volume of the backup `b`."""
    return [(one.path, one.state.value, one.snapshot_id) for one in volumes(copy, detail=detail)]


def volumes(copy: BucketCopy, *, detail: bool = False) -> list[Volume]:
    with open_velero_store(str(copy.root)) as store:
        return store.backup("b").volumes(detail=detail)


def requests(copy: BucketCopy) -> int:
    with open_velero_store(str(copy.root)) as store:
        before = store.bucket.requests()
        store.backup("b").volumes()
        return store.bucket.requests() - before


def test_1_0_restic_snapshots_stand_on_the_pods(copy: BucketCopy) -> None:
    annotations = {"snapshot.velero.io/data": RESTIC}
    copy.backup("b", members=pod("shop", "db-0", {"data": "data"}, annotations))
    assert found(copy) == [("shop/data", "unreadable", RESTIC)]


def test_1_9_restic_without_an_uploader_type_and_the_claim_by_the_pod(copy: BucketCopy) -> None:
    copy.backup(
        "b",
        members=pod("shop", "db-0", {"data": "data"}) | claim("shop", "data"),
        podvolumebackups=[
            pod_volume_backup("shop", "db-0", "data", RESTIC, uploader=None),
            pod_volume_backup("shop", "db-0", "tmp", "", uploader=None),
        ],
        volumesnapshots=[{"spec": {"persistentVolumeName": "pv-old"}, "status": {"phase": "completed"}}],
        csi_volumesnapshots=[
            {"metadata": {"namespace": "shop"}, "spec": {"source": {"persistentVolumeClaimName": "csi"}}}
        ],
    )
    assert found(copy) == [
        ("/?", "snapshot-only", ""),
        ("shop/csi", "snapshot-only", ""),
        ("shop/data", "unreadable", RESTIC),
        ("shop/pods/db-0/tmp", "empty", ""),
    ]
    restic = volumes(copy)[2]
    assert (restic.uploader, restic.reason) == ("restic", "it was written by restic, into restic/shop")
    assert (restic.mode, restic.storage_class, restic.persistent_volume) == ("Filesystem", "fast", "pv-data")


def test_1_11_kopia_by_the_uploader_type(copy: BucketCopy) -> None:
    copy.backup(
        "b",
        podvolumebackups=[
            pod_volume_backup("shop", "db-0", "data", KOPIA, claim_name="data"),
            pod_volume_backup("shop", "db-0", "cache", OTHER),
        ],
        itemoperations=[],
    )
    assert found(copy) == [
        ("shop/data", "restorable", KOPIA),
        ("shop/pods/db-0/cache", "restorable", OTHER),
    ]


def test_1_12_data_movement_is_known_by_the_tarball_alone(copy: BucketCopy) -> None:
    copy.backup(
        "b",
        members=claim("shop", "disk", mode="Block")
        | claim("shop", "bad")
        | data_upload("shop", "disk", KOPIA)
        | data_upload("shop", "bad", "", phase="Failed", message="no room"),
        podvolumebackups=[],
        itemoperations=[operation("shop", "disk"), operation("shop", "bad", phase="Failed", error="no room")],
    )
    assert found(copy) == [("shop/bad", "failed", ""), ("shop/disk", "restorable", KOPIA)]
    bad, disk = volumes(copy)
    assert bad.reason == "no room"
    assert (disk.mode, disk.size_bytes, disk.uploader, disk.driver) == (
        "Block",
        4711,
        "kopia",
        "csi.example.com",
    )


def test_1_13_an_entry_without_its_handle_is_looked_up_in_the_tarball(copy: BucketCopy) -> None:
    copy.backup(
        "b",
        members=data_upload("shop", "data", KOPIA),
        podvolumebackups=[],
        itemoperations=[operation("shop", "data")],
        volumeinfo=[movement_info("shop", "data", "")],
    )
    assert found(copy) == [("shop/data", "restorable", KOPIA)]


@pytest.mark.parametrize("lower", [False, True])
def test_1_14_an_entry_of_volumeinfo_may_be_missing(copy: BucketCopy, lower: bool) -> None:
    copy.backup(
        "b",
        members=data_upload("shop", "data", KOPIA) | data_upload("shop", "forgotten", OTHER),
        podvolumebackups=[pod_volume_backup("shop", "db-0", "log", OTHER)],
        itemoperations=[operation("shop", "data"), operation("shop", "forgotten", lower=lower)],
        volumeinfo=[movement_info("shop", "data", KOPIA)],
    )
    assert found(copy) == [
        ("shop/data", "restorable", KOPIA),
        ("shop/forgotten", "restorable", OTHER),
        ("shop/pods/db-0/log", "restorable", OTHER),
    ]


def test_1_18_everything_in_volumeinfo_needs_no_tarball(copy: BucketCopy) -> None:
    copy.backup(
        "b",
        podvolumebackups=[
            pod_volume_backup("shop", "db-0", "log", OTHER, claim_name="log", incrementalBytes=7),
            pod_volume_backup("shop", "db-0", "hung", "", phase="InProgress"),
            pod_volume_backup("shop", "db-0", "lost", "", phase="Failed", message="pod is gone"),
        ],
        itemoperations=[operation("shop", "data"), operation("shop", "late", phase="InProgress")],
        volumeinfo=[
            movement_info("shop", "data", KOPIA, incrementalSize=9, Phase="Completed")
            | {"result": "succeeded"},
            movement_info("shop", "late", "", Phase="InProgress"),
            movement_info("shop", "bad", "", Phase="Failed") | {"result": "failed"},
            movement_info("shop", "far", KOPIA, dataMover="other-vendor"),
            pod_volume_info("shop", "db-0", "log", OTHER, "log"),
            pod_volume_info("shop", "gone-0", "x", KOPIA),
            {"pvcName": "skip", "pvcNamespace": "shop", "skipped": True, "skippedReason": "policy"},
            {
                "pvcName": "snap",
                "pvcNamespace": "shop",
                "backupMethod": "CSISnapshot",
                "csiSnapshotInfo": {"driver": "csi.example.com", "size": 5},
            },
        ],
        results={"errors": {"velero": ["one"], "namespaces": {"shop": ["two"]}}, "warnings": {}},
    )
    assert found(copy) == [
        ("shop/bad", "failed", ""),
        ("shop/data", "restorable", KOPIA),
        ("shop/far", "foreign", KOPIA),
        ("shop/late", "pending", ""),
        ("shop/log", "restorable", OTHER),
        ("shop/pods/db-0/hung", "pending", ""),
        ("shop/pods/db-0/lost", "failed", ""),
        ("shop/pods/gone-0/x", "restorable", KOPIA),
        ("shop/skip", "skipped", ""),
        ("shop/snap", "snapshot-only", ""),
    ]
    by_path = {one.path: one for one in volumes(copy)}
    assert by_path["shop/log"].incremental_bytes == 7
    assert by_path["shop/data"].incremental_bytes == 9
    assert by_path["shop/far"].reason == "it is not readable: data mover other-vendor"
    assert by_path["shop/pods/db-0/lost"].reason == "pod is gone"
    assert by_path["shop/skip"].reason == "policy"
    with open_velero_store(str(copy.root)) as store:
        assert store.backup("b").results() == {"errors": ["one", "shop: two"], "warnings": []}


def test_a_backup_with_all_handles_is_five_requests_and_one_without_reads_the_tarball_too(
    copy: BucketCopy,
) -> None:
    copy.backup(
        "b", podvolumebackups=[], itemoperations=[], volumeinfo=[movement_info("shop", "data", KOPIA)]
    )
    assert requests(copy) == 5  # velero-backup.json, a listing, three lists
    copy.backup("b", podvolumebackups=[], itemoperations=[], volumeinfo=[movement_info("shop", "data", "")])
    assert requests(copy) > 5


def test_velero_block_is_known_by_the_data_mover(copy: BucketCopy) -> None:
    copy.backup(
        "b",
        podvolumebackups=[],
        volumeinfo=[movement_info("shop", "disk", KOPIA, dataMover="velero-block")],
    )
    assert [(one.uploader, one.state) for one in volumes(copy)] == [("velero-block", State.RESTORABLE)]


def test_what_the_record_names_counts_more_than_volumeinfo(copy: BucketCopy) -> None:
    copy.backup(
        "b",
        members=data_upload("shop", "data", KOPIA),
        podvolumebackups=[pod_volume_backup("shop", "db-0", "log", KOPIA, claim_name="log")],
        itemoperations=[],
        volumeinfo=[
            movement_info("shop", "data", OTHER),
            pod_volume_info("shop", "db-0", "log", OTHER, "log"),
        ],
    )
    assert found(copy, detail=True) == [("shop/data", "restorable", KOPIA), ("shop/log", "restorable", KOPIA)]


@pytest.mark.parametrize("hostile", ["..", "../../etc", "/dev/sda", "a\nb", "a/b", "UPPER", "x" * 254, "-rf"])
def test_names_that_no_kubernetes_object_has_are_never_used(copy: BucketCopy, hostile: str) -> None:
    copy.backup(
        "b",
        members=data_upload(hostile, "data", KOPIA) | data_upload("shop", hostile, OTHER),
        podvolumebackups=[
            pod_volume_backup(hostile, "db-0", "data", KOPIA),
            pod_volume_backup("shop", hostile, "data", KOPIA),
            pod_volume_backup("shop", "db-0", hostile, KOPIA),
            pod_volume_backup("shop", "db-0", "data", KOPIA, claim_name=hostile),
        ],
    )
    states = [one.state for one in volumes(copy)]
    assert states == [State.UNREADABLE] * 6


@pytest.mark.parametrize("snapshot", ["x", "../x", "A" * 32, "a" * 31, "k" + "a" * 32])
def test_an_id_of_no_known_form_is_not_asked_for(copy: BucketCopy, snapshot: str) -> None:
    copy.backup("b", podvolumebackups=[pod_volume_backup("shop", "db-0", "data", snapshot)])
    assert found(copy) == [("shop/pods/db-0/data", "unreadable", snapshot)]


def test_values_of_the_wrong_type_are_as_if_they_were_missing(copy: BucketCopy) -> None:
    copy.backup(
        "b",
        podvolumebackups=[
            7,
            {"spec": [], "status": "x", "metadata": None},
            pod_volume_backup(
                "shop", "db-0", "data", KOPIA, progress=[1], incrementalBytes=-5, startTimestamp=12
            ),
        ],
        volumeinfo={"not": "a list"},
        itemoperations=None,
    )
    good = next(one for one in volumes(copy) if one.namespace == "shop")
    assert (good.snapshot_id, good.size_bytes, good.incremental_bytes, good.taken_at) == (
        KOPIA,
        None,
        None,
        None,
    )
    assert [one.state for one in volumes(copy) if one.namespace == ""] == [State.PENDING]


def test_a_claim_that_was_saved_by_two_pods_has_to_be_named_by_pod(copy: BucketCopy) -> None:
    copy.backup(
        "b",
        podvolumebackups=[
            pod_volume_backup("shop", "db-0", "data", KOPIA, claim_name="shared"),
            pod_volume_backup("shop", "db-1", "data", OTHER, claim_name="shared"),
        ],
    )
    with open_velero_store(str(copy.root)) as store:
        backup = store.backup("b")
        with pytest.raises(InvalidRequestError, match=r"shop/pods/db-0/data, shop/pods/db-1/data"):
            backup.choose("shop/shared/file")
        volume, inside = backup.choose("shop/pods/db-1/data/dir/file")
        assert (volume.snapshot_id, inside) == (OTHER, "dir/file")
        assert backup.choose(f"shop/{KOPIA}/x")[0].pod == "db-0"
        with pytest.raises(ObjectNotFoundError, match="there are shop/shared"):
            backup.volume("shop/none")


def test_a_second_try_counts_where_the_first_failed(copy: BucketCopy) -> None:
    copy.backup(
        "b",
        podvolumebackups=[
            pod_volume_backup("shop", "db-0", "data", "", phase="Failed"),
            pod_volume_backup("shop", "db-0", "data", KOPIA),
            pod_volume_backup("shop", "db-0", "data", "", phase="Canceled"),
        ],
    )
    assert found(copy) == [("shop/pods/db-0/data", "restorable", KOPIA)]
