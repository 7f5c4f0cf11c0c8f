"""Whole lives of the four resources against the real API server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kube.api import EVENT, POD, PV, PVC, VOLUME_SNAPSHOT, VOLUME_SNAPSHOT_CONTENT, list_all
from tests.fakes import scene

if TYPE_CHECKING:
    from tests.apiserver.conftest import Stage


async def test_data_upload_completes_and_leaves_nothing(stage: Stage) -> None:
    await stage.source_volume()
    await stage.start_agent()
    await stage.create("DataUpload")
    status = await stage.phase("DataUpload", "Completed")
    assert (status["snapshotID"], status["progress"]["totalBytes"], status["nodeOS"]) == ("b3c0", 7, "linux")
    assert "message" not in status
    await stage.released("DataUpload")

    async def is_clean() -> bool:
        left = [await list_all(stage.kube, r) for r in (VOLUME_SNAPSHOT, VOLUME_SNAPSHOT_CONTENT)]
        left += [await list_all(stage.kube, r, "velero") for r in (POD, PVC)]
        volumes = [body["metadata"]["name"] for body in await list_all(stage.kube, PV)]
        return not any(left) and volumes == ["pv-data"] and stage.controllers.storage == {"disk-data"}

    await stage.until(is_clean)
    reasons = {event["reason"] for event in await list_all(stage.kube, EVENT, "velero")}
    assert {"Accepted", "Prepared", "InProgress", "Completed"} <= reasons


async def test_data_download_binds_the_target(stage: Stage) -> None:
    await stage.kube.put(
        PVC, scene.claim("new", selector={"matchLabels": {"velero.io/dynamic-pv-restore": "x"}})
    )
    await stage.start_agent()
    await stage.create("DataDownload", spec={"targetVolume": {"namespace": "app", "pvc": "new", "pv": ""}})
    await stage.phase("DataDownload", "Completed")
    claim = await stage.kube.get(PVC, "app", "new")
    volume = await stage.kube.get(PV, "", claim["spec"]["volumeName"])
    assert volume["status"]["phase"] == "Bound"
    assert volume["spec"]["claimRef"]["uid"] == claim["metadata"]["uid"]
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    await stage.released("DataDownload")


async def test_pod_volume_backup_completes(stage: Stage) -> None:
    await stage.running_pod()
    await stage.start_agent()
    await stage.create("PodVolumeBackup")
    status = await stage.phase("PodVolumeBackup", "Completed")
    assert status["progress"] == {"totalBytes": 7, "bytesDone": 7}
    await stage.released("PodVolumeBackup")


async def test_pod_volume_restore_completes(stage: Stage) -> None:
    await stage.running_pod(waits=True)
    await stage.start_agent()
    pod = {"kind": "Pod", "namespace": "app", "name": "web-0", "uid": stage.pod_uid}
    await stage.create("PodVolumeRestore", spec={"pod": pod})
    await stage.phase("PodVolumeRestore", "Completed")
    await stage.released("PodVolumeRestore")
