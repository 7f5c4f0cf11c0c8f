"""Two things go wrong together, and the agent as a whole loses nothing and says what is true."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from agent.control.world import RESOURCES
from kube.api import (
    CONFIG_MAP,
    NODE,
    POD,
    PV,
    PVC,
    STORAGE_CLASS,
    VOLUME_SNAPSHOT,
    VOLUME_SNAPSHOT_CONTENT,
    KubeError,
)
from tests.fakes import scene
from tests.fakes.kubelet import succeed_with

if TYPE_CHECKING:
    from kube.api import Json, Resource
    from tests.unit.agent.conftest import Stage


async def test_restore_whose_agent_restarts_before_completed_is_written_is_completed(stage: Stage) -> None:
    """The last write of the re-bind is done, `Completed` is not, and the agent is another process."""
    stage.kube.put(PVC, scene.claim("new", selector={"matchLabels": {"velero.io/dynamic-pv-restore": "x"}}))
    await stage.start_agent()

    def is_given() -> bool:
        volumes = [b for (plural, *_), b in stage.kube.objects.items() if plural == PV.plural]
        return any(v["spec"]["claimRef"]["name"] == "new" and is_deletable(v) for v in volumes)

    def is_deletable(volume: dict) -> bool:
        return bool(volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete")

    def refuse(verb: str, resource: object, _: str) -> KubeError | None:
        late = verb == "patch" and resource == RESOURCES["DataDownload"] and is_given()
        return KubeError("the API server is busy", status=500) if late else None

    stage.kube.fail = refuse
    stage.create("DataDownload", spec={"targetVolume": {"namespace": "app", "pvc": "new", "pv": ""}})
    await stage.until(is_given)
    await stage.stop_agent()
    assert stage.status("DataDownload")["phase"] == "InProgress"
    stage.kube.fail = lambda *_: None
    await stage.start_agent()
    await stage.phase("DataDownload", "Completed")
    await stage.released("DataDownload")
    claim = await stage.kube.get(PVC, "app", "new")
    volume = await stage.kube.get(PV, "", claim["spec"]["volumeName"])
    assert claim["status"]["phase"] == volume["status"]["phase"] == "Bound"
    assert "kopia-data-mover.io/restored-by" not in volume["metadata"]["labels"]


async def test_lost_restore_names_the_volume_that_keeps_its_data_and_the_next_start_lists_it(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.kube.put(PVC, scene.claim("new", selector={"matchLabels": {"velero.io/dynamic-pv-restore": "x"}}))
    stage.kube.put(NODE, {"metadata": {"name": "node-2"}, "spec": {}})
    await stage.start_agent()

    async def mover(request: str, pod: dict, canceled: asyncio.Event) -> tuple[int, str]:
        stage.controllers.left_alone.add("move-1")  # its claim stays until the node is lost
        return await succeed_with()(request, pod, canceled)

    stage.kubelet.mover = mover
    stage.create("DataDownload", spec={"targetVolume": {"namespace": "app", "pvc": "new", "pv": ""}})

    def marked() -> list[str]:
        volumes = [b for (plural, *_), b in stage.kube.objects.items() if plural == PV.plural]
        labels = "kopia-data-mover.io/restored-by"
        return [v["metadata"]["name"] for v in volumes if labels in (v["metadata"].get("labels") or {})]

    await stage.until(lambda: bool(marked()))
    await stage.stop_agent()
    stage.kube.remove(NODE, "", "node-1")
    stage.kube.remove(POD, "velero", "node-agent-node-1")  # as pod garbage collection does
    await stage.start_agent("node-2")
    [name] = marked()
    message = (await stage.phase("DataDownload", "Failed"))["message"]
    assert f"node node-1 is gone; its data is whole on PV {name}, which is kept" in message
    stage.controllers.left_alone.clear()
    await stage.released("DataDownload")
    await stage.until(lambda: "move-1" not in stage.kube.names(PVC))
    assert marked() == [name]
    assert name in stage.controllers.storage
    await stage.stop_agent("node-2")
    caplog.clear()
    await stage.start_agent("node-2")
    await stage.until(lambda: any(getattr(record, "volume", "") == name for record in caplog.records))


async def test_data_upload_that_is_deleted_while_new_leaves_no_snapshot(stage: Stage) -> None:
    """The server has handed its VolumeSnapshot over with the DataUpload: nobody else deletes it."""
    config = json.dumps({"loadConcurrency": {"prepareQueueLength": 1}})
    stage.kube.put(CONFIG_MAP, {"metadata": {"name": "cm", "namespace": "velero"}, "data": {"x": config}})
    [_, (_, snapshot)] = scene.server_snapshot()
    stage.kube.put(
        VOLUME_SNAPSHOT, snapshot | {"metadata": {"name": "other", "namespace": "app"}, "status": {}}
    )
    await stage.start_agent(node_agent_config_map="cm")
    stage.create("DataUpload", "first", spec={"csiSnapshot": {"volumeSnapshot": "other"}})
    await stage.phase("DataUpload", "Accepted", "first")
    stage.create("DataUpload", "second")
    await stage.until(lambda: "prepare queue" in stage.status("DataUpload", "second").get("message", ""))
    await stage.kube.delete(RESOURCES["DataUpload"], "velero", "second")
    await stage.until(lambda: "second" not in stage.kube.names(RESOURCES["DataUpload"]))
    await stage.until(lambda: stage.controllers.storage == {"disk-data"})
    assert (stage.kube.names(VOLUME_SNAPSHOT), stage.kube.names(VOLUME_SNAPSHOT_CONTENT)) == (["other"], [])


def add_sidecar(resource: Resource, pod: Json) -> None:
    """What service meshes and secret injectors do to each pod that is created."""
    if resource == POD:
        container = pod["spec"]["containers"][0]
        container["volumeMounts"].insert(0, {"name": "agent", "mountPath": "/opt/agent"})
        pod["spec"]["containers"].insert(0, {"name": "proxy", "volumeMounts": [{"mountPath": "/etc/proxy"}]})


STOPPED = {"terminated": {"exitCode": 143, "message": "proxy has drained"}}


@pytest.mark.parametrize("sidecar", [{"running": {}}, STOPPED], ids=["stays", "is stopped"])
async def test_sidecar_changes_neither_what_is_backed_up_nor_how_that_ends(
    stage: Stage, sidecar: Json
) -> None:
    stage.kube.admit, stage.kubelet.sidecar = add_sidecar, sidecar
    requests: list[Json] = []

    async def mover(request: str, pod: Json, canceled: asyncio.Event) -> tuple[int, str]:
        requests.append(json.loads(request))
        return await succeed_with()(request, pod, canceled)

    stage.kubelet.mover = mover
    await stage.start_agent()
    stage.create("DataUpload")
    status = await stage.phase("DataUpload", "Completed")
    assert (requests[0]["path"], status["snapshotID"]) == ("/uid-move-1", "b3c0")
    await stage.released("DataUpload")
    await stage.until(lambda: "move-1" not in stage.kube.names(POD))


async def test_pod_whose_volume_a_webhook_took_away_is_refused_and_not_read(stage: Stage) -> None:
    def admit(resource: Resource, pod: Json) -> None:
        if resource == POD:
            pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "x", "mountPath": "/opt/agent"}]

    stage.kube.admit = admit
    await stage.start_agent()
    stage.create("DataUpload")
    message = (await stage.phase("DataUpload", "Failed"))["message"]
    assert "no container uid-move-1 with the volume at /uid-move-1" in message
    assert stage.kubelet.ran == []


async def test_volume_of_somebody_that_is_bound_late_is_never_handed_to_a_mover(stage: Stage) -> None:
    """The binder has the claim only once its pod is there: after the look at what was bound."""
    stage.kube.put(STORAGE_CLASS, scene.storage_class(volumeBindingMode="WaitForFirstConsumer"))
    volume = scene.volume("pv-of-somebody", csi={"driver": "csi.test", "volumeHandle": "disk-of-somebody"})
    del volume["spec"]["claimRef"]
    stage.kube.put(PV, volume | {"status": {"phase": "Available"}})
    stage.controllers.storage.add("disk-of-somebody")
    stage.controllers.left_alone.add("move-1")
    await stage.start_agent()
    stage.create("DataUpload")
    await stage.until(lambda: "move-1" in stage.kube.names(POD))
    stage.controllers.left_alone.clear()
    message = (await stage.phase("DataUpload", "Failed"))["message"]
    assert "error starting data path: PVC velero/move-1 was bound to PV pv-of-somebody" in message
    assert stage.kubelet.ran == []
    await stage.released("DataUpload")
    given_back = await stage.kube.get(PV, "", "pv-of-somebody")
    assert (given_back["spec"].get("claimRef"), given_back["spec"]["persistentVolumeReclaimPolicy"]) == (
        None,
        "Delete",
    )
    assert "disk-of-somebody" in stage.controllers.storage
