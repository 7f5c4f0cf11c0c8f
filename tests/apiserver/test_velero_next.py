"""The server of Velero 1.19, played on a real API server with its CRDs: names, parents, fs types, the cancel at its time-out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.control.world import RESOURCES
from kube.api import NODE, POD, PV, PVC
from tests.fakes import scene
from tests.fakes.kubelet import succeed_with, until_canceled

if TYPE_CHECKING:
    import asyncio

    from kube.api import Json
    from tests.apiserver.conftest import Stage

pytestmark = pytest.mark.parametrize("version", ["1.19"], indirect=True, scope="session")


@pytest.fixture
def requests(stage: Stage) -> list[dict[str, Any]]:
    """What movers are asked for."""
    asked: list[dict[str, Any]] = []

    async def mover(request: str, pod: Json, canceled: asyncio.Event) -> tuple[int, str]:
        asked.append(json.loads(request))
        return await succeed_with()(request, pod, canceled)

    stage.kubelet.mover = mover
    return asked


@pytest.mark.parametrize(
    ("name", "parent"), [("velero-fs", ""), ("velero-fs", "none"), ("velero", "auto"), ("velero-fs", "b3c0")]
)
async def test_b1_b3_data_upload_of_every_name_and_parent_is_done(
    stage: Stage, requests: list[dict[str, Any]], name: str, parent: str
) -> None:
    await stage.source_volume()
    await stage.start_agent()
    spec = {"datamover": name, "sourceFSType": "ext4", "parentSnapshot": parent}
    await stage.create("DataUpload", spec=spec)
    assert (await stage.phase("DataUpload", "Completed"))["snapshotID"] == "b3c0"
    await stage.released("DataUpload")
    stored = await stage.kube.get(RESOURCES["DataUpload"], "velero", "move-1")
    assert stored["spec"].items() >= spec.items()  # the schema is 1.19's: nothing was pruned
    [request] = requests
    assert request["parent_snapshot"] == parent
    assert request["source_path"] == "snapshot-data-upload-download/kopia/app/data"


async def test_b1_data_download_with_a_file_system_type_binds_its_target(stage: Stage) -> None:
    claim = scene.claim("new", selector={"matchLabels": {"velero.io/dynamic-pv-restore": "x"}})
    await stage.kube.put(PVC, claim)
    await stage.start_agent()
    target = {"namespace": "app", "pvc": "new", "pv": "", "fsType": "ext4"}
    await stage.create("DataDownload", spec={"datamover": "velero-fs", "targetVolume": target})
    await stage.phase("DataDownload", "Completed")
    await stage.released("DataDownload")
    bound = await stage.kube.get(PVC, "app", "new")
    assert (await stage.kube.get(PV, "", bound["spec"]["volumeName"]))["spec"]["claimRef"]["name"] == "new"


async def test_b7_block_backup_of_a_volume_of_files_reads_a_device(
    stage: Stage, requests: list[dict[str, Any]]
) -> None:
    await stage.source_volume()
    await stage.start_agent()
    await stage.create("DataUpload", spec={"datamover": "velero-block"})
    await stage.phase("DataUpload", "Completed")
    told = [(one["volume_mode"], one["tags"]["snapshot-uploader"], one["tracking"]) for one in requests]
    assert told == [("Block", "velero-block", None)]
    await stage.released("DataUpload")


async def test_b3_full_pod_volume_backup_reaches_its_mover(
    stage: Stage, requests: list[dict[str, Any]]
) -> None:
    await stage.running_pod()
    await stage.start_agent()
    await stage.create("PodVolumeBackup", spec={"parentSnapshot": "none"})
    await stage.phase("PodVolumeBackup", "Completed")
    assert [request["parent_snapshot"] for request in requests] == ["none"]


async def test_time_out_of_the_server_ends_pod_volume_backups_in_every_phase(stage: Stage) -> None:
    """The server cancels all that are not over, and waits for them without any limit."""
    stage.kubelet.mover = until_canceled
    stage.kubelet.held["accepted"] = {"phase": "Pending"}
    await stage.kube.create(NODE, "", {"metadata": {"name": "node-2"}})
    await stage.running_pod()
    await stage.start_agent()
    await stage.create("PodVolumeBackup", "running")
    await stage.phase("PodVolumeBackup", "InProgress", "running")
    await stage.create("PodVolumeBackup", "prepared")
    await stage.phase("PodVolumeBackup", "Prepared", "prepared")
    await stage.create("PodVolumeBackup", "accepted")
    await stage.phase("PodVolumeBackup", "Accepted", "accepted")
    await stage.create("PodVolumeBackup", "new", spec={"node": "node-2"})  # where no agent runs
    names = ("running", "prepared", "accepted", "new")
    canceled = {"spec": {"cancel": True}, "status": {"message": "Cancel PVB on pod volume timeout"}}
    for name in names:
        await stage.kube.patch(RESOURCES["PodVolumeBackup"], "velero", name, canceled)
    for name in names:
        status = await stage.phase("PodVolumeBackup", "Canceled", name)
        assert status["message"] == "Cancel PVB on pod volume timeout"
        await stage.released("PodVolumeBackup", name)

    async def no_pods() -> bool:
        page = await stage.kube.list(POD, "velero")
        return not [pod for pod in page.items if pod["metadata"]["name"] in names]

    await stage.until(no_pods)
