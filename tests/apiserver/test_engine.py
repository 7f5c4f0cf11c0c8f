"""The engine really runs: DataUpload → snapshot in a repository that the real kopia made → DataDownload → equal bytes."""

from __future__ import annotations

import filecmp
import json
import os
from typing import TYPE_CHECKING

import pytest

from agent.control.mover_inputs import BACKUP_STORAGE_LOCATION
from agent.control.world import RESOURCES
from kube.api import PVC, SECRET
from mover.protocol import decode_progress
from tests.apiserver.mover_process import MoverProcess
from tests.apiserver.repository import Kopia, grow_tree
from tests.apiserver.test_monitoring import samples
from tests.fakes import scene

if TYPE_CHECKING:
    from pathlib import Path

    from kube.api import Json
    from tests.apiserver.conftest import Stage

engine = pytest.importorskip("repository._native", reason="the engine is not built: make build")


def assert_equal_trees(one: Path, other: Path) -> None:
    compared = filecmp.dircmp(one, other, ignore=[".velero"])
    assert not compared.left_only + compared.right_only + compared.funny_files
    _, mismatch, errors = filecmp.cmpfiles(one, other, compared.common_files, shallow=False)
    assert not mismatch + errors
    for name in compared.common_dirs:
        assert_equal_trees(one / name, other / name)


@pytest.fixture
async def moving(stage: Stage, tmp_path: Path, kopia_binary: Path) -> tuple[MoverProcess, Kopia, Path]:
    """A mover on a source tree, with a repository in the location."""
    root, source = tmp_path / "location", tmp_path / "source"
    root.mkdir()
    kopia = Kopia(kopia_binary, root)
    config = {"spec": {"config": {"fspath": str(root)}}}
    await stage.kube.patch(BACKUP_STORAGE_LOCATION, "velero", "default", config)
    grow_tree(source)
    mover = MoverProcess(stage.kube, tmp_path / "pods", {"move-1": source})
    stage.kubelet.mover = mover
    return mover, kopia, source


async def test_data_upload_is_a_snapshot_that_the_real_kopia_restores(
    stage: Stage, moving: tuple[MoverProcess, Kopia, Path], tmp_path: Path
) -> None:
    mover, kopia, source = moving
    await stage.source_volume()
    await stage.start_agent()
    await stage.create("DataUpload", metadata={"labels": {"velero.io/async-operation-id": "du-1"}})
    status = await stage.phase("DataUpload", "Completed", seconds=60)
    assert status["progress"] == {"totalBytes": 3_000_005, "bytesDone": 3_000_005}
    assert status["incrementalBytes"] == 3_000_005
    notes = (await stage.kube.get(RESOURCES["DataUpload"], "velero", "move-1"))["metadata"]["annotations"]
    record = json.loads(notes["kopia-data-mover.io/transfer-record"])
    assert (record["files"], record["readBytes"], record["parents"]) == (3, 3_000_005, [])
    assert record["fullBecause"] == "no earlier snapshot of this volume"
    assert (record["scannedBytes"], record["retries"]) == (3_000_005, 0)
    assert record["slowestStage"] in record["seconds"]
    kopia("snapshot", "verify", "--verify-files-percent", "100")
    kopia("snapshot", "restore", status["snapshotID"], str(tmp_path / "restored"))
    assert_equal_trees(source, tmp_path / "restored")
    listed = kopia("snapshot", "list", "--all", "--tags", "velero.io/async-operation-id:du-1")
    assert (
        "default@default:snapshot-data-upload-download/kopia/app/data"
        in kopia("snapshot", "list", "--all") + listed
    )
    assert any('"event":"progress"' in line for line in mover.lines)


async def test_second_backup_goes_on_from_the_first(
    stage: Stage, moving: tuple[MoverProcess, Kopia, Path]
) -> None:
    mover, _, source = moving
    await stage.running_pod()
    directory = f"/var/lib/kubelet/pods/{stage.pod_uid}/volumes/kubernetes.io~empty-dir/data"
    mover.volumes[directory] = source
    await stage.start_agent()
    for name, incremental in (("pvb-1", 3_000_005), ("pvb-2", 0)):
        await stage.create("PodVolumeBackup", name)
        status = await stage.phase("PodVolumeBackup", "Completed", name, seconds=60)
        assert status.get("incrementalBytes", 0) == incremental
        assert status["progress"]["totalBytes"] == 3_000_005


async def test_every_number_of_two_backups_is_true(
    stage: Stage, moving: tuple[MoverProcess, Kopia, Path]
) -> None:
    """Records, status, progress and metrics of a full backup and one that goes on from it."""
    mover, _, source = moving
    twin = os.urandom(100_000)
    for name in ("one", "twin"):
        (source / name).write_bytes(twin)
    (source / "sub" / "hole").touch()
    os.truncate(source / "sub" / "hole", 50_000_000)
    files, total, link = 6, 53_200_005, len("sub/random")
    await stage.running_pod()
    directory = f"/var/lib/kubelet/pods/{stage.pod_uid}/volumes/kubernetes.io~empty-dir/data"
    mover.volumes[directory] = source
    agent = await stage.start_agent()

    full = await backed_up(stage, "pvb-1")
    record = full["record"]
    assert full["status"]["progress"] == {"totalBytes": total, "bytesDone": total}
    assert full["status"]["incrementalBytes"] == total
    assert (record["files"], record["scannedBytes"], record["readBytes"]) == (files, total, total)
    assert record["unchangedBytes"] == 0
    hashed, uploaded = record["hashedBytes"], record["uploadedBytes"]
    assert 3_200_005 + link <= hashed <= 3_200_005 + link + (17 << 20), "zeros in a hole are hashed once"
    assert 3_100_005 + link <= uploaded <= hashed - 100_000 + 4096
    assert record["deduplicatedBytes"] >= 100_000
    assert (record["parents"], record["fullBecause"]) == ([], "no earlier snapshot of this volume")
    assert_way(record)
    last = [progress for progress in map(decode_progress, mover.lines) if progress][-1]
    assert (last.total_bytes, last.done_bytes, last.files) == (total, total, files)
    assert (last.read_bytes, last.uploaded_bytes) == (total, uploaded)

    (source / "hello").write_text("changed")
    more = await backed_up(stage, "pvb-2")
    second = more["record"]
    total += 2
    assert more["status"]["progress"] == {"totalBytes": total, "bytesDone": total}
    assert more["status"]["incrementalBytes"] == 7
    assert (second["files"], second["scannedBytes"], second["readBytes"]) == (files, total, 7)
    assert (second["hashedBytes"], second["unchangedBytes"], second["deduplicatedBytes"]) == (7, total - 7, 0)
    assert 7 < second["uploadedBytes"] < 100
    assert (second["parents"], second["fullBecause"]) == ([full["status"]["snapshotID"]], "")
    assert_way(second)

    told = samples(agent.world.metrics)
    ours = {
        name: told[f"kopia_data_mover_{name}_bytes_total"]
        for name in ("source", "hashed", "uploaded", "cached")
    }
    assert ours == {
        "source": total - 2 + 7,
        "hashed": hashed + 7,
        "uploaded": uploaded + second["uploadedBytes"],
        "cached": record["deduplicatedBytes"] + total - 7,
    }
    kind = 'kind="PodVolumeBackup"'
    assert told[f'kopia_data_mover_moves_total{{{kind},phase="Completed"}}'] == 2
    assert told[f'kopia_data_mover_phase_reached_seconds_count{{{kind},phase="Prepared"}}'] == 2
    assert told['kopia_data_mover_fallbacks_total{reason="full_backup"}'] == 1
    assert told["kopia_data_mover_node_slots_in_use"] == 0
    for name in ("enqueue", "dequeue"):
        assert told[f'podVolume_pod_volume_backup_{name}_count{{node="node-1"}}'] == 2


async def backed_up(stage: Stage, name: str) -> Json:
    """Status and transfer record of a PodVolumeBackup that was made and is over."""
    await stage.create("PodVolumeBackup", name)
    status = await stage.phase("PodVolumeBackup", "Completed", name, seconds=60)
    notes = (await stage.kube.get(RESOURCES["PodVolumeBackup"], "velero", name))["metadata"]["annotations"]
    return {"status": status, "record": json.loads(notes["kopia-data-mover.io/transfer-record"])}


def assert_way(record: Json) -> None:
    """Every stage has its seconds, none more than the move took, and the slowest is the slowest."""
    seconds = record["seconds"]
    assert set(seconds) <= {"open", "prepare", "scan", "read", "hash", "store", "flush"}
    assert {"open", "prepare", "read", "flush"} <= set(seconds)
    assert seconds[record["slowestStage"]] == max(seconds.values()) > 0
    assert record["retries"] == 0


async def test_wrong_password_fails_with_what_to_do(
    stage: Stage, moving: tuple[MoverProcess, Kopia, Path]
) -> None:
    wrong = {"data": {"repository-password": "d3Jvbmc="}}
    right = {"data": scene.password_secret()["data"]}
    await stage.kube.patch(SECRET, "velero", "velero-repo-credentials", wrong)
    try:
        await stage.source_volume()
        await stage.start_agent()
        await stage.create("DataUpload")
        status = await stage.phase("DataUpload", "Failed", seconds=60)
        assert "password" in status["message"]
        assert "wrong" not in status["message"].replace("wrong password", "")
    finally:
        await stage.kube.patch(SECRET, "velero", "velero-repo-credentials", right)


async def test_missing_repository_fails_with_its_place(
    stage: Stage, moving: tuple[MoverProcess, Kopia, Path]
) -> None:
    _, kopia, _ = moving
    (kopia.path / "kopia.repository.f").unlink()
    await stage.source_volume()
    await stage.start_agent()
    await stage.create("DataUpload")
    status = await stage.phase("DataUpload", "Failed", seconds=60)
    assert "kopia/app" in status["message"]


async def test_data_upload_and_data_download_give_equal_bytes(
    stage: Stage, moving: tuple[MoverProcess, Kopia, Path], tmp_path: Path
) -> None:
    mover, _, source = moving
    target = tmp_path / "target"
    target.mkdir()
    mover.volumes["dd-1"] = target
    await stage.source_volume()
    await stage.start_agent()
    await stage.create("DataUpload")
    status = await stage.phase("DataUpload", "Completed", seconds=60)
    await stage.kube.put(
        PVC, scene.claim("new", selector={"matchLabels": {"velero.io/dynamic-pv-restore": "x"}})
    )
    spec = {"targetVolume": {"namespace": "app", "pvc": "new", "pv": ""}, "snapshotID": status["snapshotID"]}
    await stage.create("DataDownload", "dd-1", spec=spec)
    restored = await stage.phase("DataDownload", "Completed", "dd-1", seconds=60)
    assert restored["progress"]["totalBytes"] == 3_000_005
    assert_equal_trees(source, target)


async def test_pod_volume_restore_writes_the_done_file(
    stage: Stage, moving: tuple[MoverProcess, Kopia, Path], tmp_path: Path
) -> None:
    mover, kopia, source = moving
    kopia("snapshot", "create", str(source))
    snapshot_id = kopia("snapshot", "list", "--all", "--json").split('"id":"')[1].split('"')[0]
    target = tmp_path / "target"
    target.mkdir()
    await stage.running_pod(waits=True)
    mover.volumes[f"/var/lib/kubelet/pods/{stage.pod_uid}/volumes/kubernetes.io~empty-dir/data"] = target
    await stage.start_agent()
    pod = {"kind": "Pod", "namespace": "app", "name": "web-0", "uid": stage.pod_uid}
    await stage.create(
        "PodVolumeRestore", "pvr-1", spec={"pod": pod, "snapshotID": snapshot_id}, owner="restore-uid"
    )
    await stage.phase("PodVolumeRestore", "Completed", "pvr-1", seconds=60)
    assert_equal_trees(source, target)
    body = await stage.kube.get(RESOURCES["PodVolumeRestore"], "velero", "pvr-1")
    record = json.loads(body["metadata"]["annotations"]["kopia-data-mover.io/transfer-record"])
    assert (record["files"], record["writtenBytes"]) == (3, 3_000_005)
    assert 3_000_005 < record["downloadedBytes"] < 3_001_000
    assert set(record["seconds"]) == {"open", "read", "store"}
    assert (target / ".velero" / "restore-uid").stat().st_mode & 0o777 == 0o644
