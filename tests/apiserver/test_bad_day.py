"""Faults that once cost data or made a wrong report, against the real API server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from agent.control.world import RESOURCES
from exposer.csi_snapshot import SnapshotSource, expose_csi_snapshot, hide_csi_snapshot
from exposer.exposure import Exposure
from exposer.generic_restore import expose_new_volume, hide_new_volume
from exposer.rebind import rebind
from kube.api import (
    CONFIG_MAP,
    POD,
    PV,
    PVC,
    VOLUME_SNAPSHOT,
    VOLUME_SNAPSHOT_CONTENT,
    Json,
    OwnerReference,
    find,
)
from kube.client import KubeClient
from tests.apiserver.control_plane import ADMIN
from tests.fakes import scene
from tests.fakes.faults import Fault, FaultyKube, carry_out

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.apiserver.conftest import Stage

SOURCE = SnapshotSource("app", "data", "velero-data-x", "fast")
FAULTS = (Fault.DEATH, Fault.ERROR, Fault.TIMEOUT_DONE)


@pytest.fixture
async def agent_kube(stage: Stage) -> AsyncIterator[KubeClient]:
    async with KubeClient(stage.plane.connection(ADMIN)) as kube:
        yield kube


async def exposure(stage: Stage, kind: str, kube: FaultyKube | KubeClient) -> Exposure:
    """For a custom resource that is there: what is owned by none is the garbage collector's."""
    meta = (await stage.kube.get(RESOURCES[kind], "velero", "move-1"))["metadata"]
    owner = OwnerReference(RESOURCES[kind].group_version, kind, "move-1", meta["uid"])
    return Exposure(
        kube=kube,  # type: ignore[arg-type]
        name="move-1",
        namespace="velero",
        uid=meta["uid"],
        owner=owner,
        command=("/velero",),
        prepare_seconds=60,
        operation_seconds=60,
    )


async def data_of(stage: Stage, namespace: str, claim: str) -> str:
    """What a pod that uses a claim finds in it."""

    async def is_bound() -> bool:
        body = await find(stage.kube, PVC, namespace, claim)
        return body is not None and (body.get("status") or {}).get("phase") == "Bound"

    await stage.until(is_bound)
    name = (await stage.kube.get(PVC, namespace, claim))["spec"]["volumeName"]
    volume = await stage.kube.get(PV, "", name)
    return stage.controllers.contents(volume["spec"]["csi"]["volumeHandle"])


@pytest.mark.parametrize("fault", FAULTS)
async def test_no_write_that_fails_costs_the_storage_snapshot(
    stage: Stage, agent_kube: KubeClient, fault: Fault
) -> None:
    stage.controllers.data["snap-handle"] = "the moment"
    await stage.create("DataUpload")
    for number in range(1, 6):
        await stage.source_volume()
        mine = await exposure(stage, "DataUpload", FaultyKube(agent_kube, {number: fault}))
        await carry_out(lambda mine=mine: expose_csi_snapshot(mine, SOURCE))  # type: ignore[misc]
        assert await data_of(stage, "velero", "move-1") == "the moment"
        assert "snap-handle" in stage.controllers.storage
        await hide_csi_snapshot(mine, SOURCE)
        await gone(stage)


async def gone(stage: Stage) -> None:
    """Until clean-up has been carried out, the source is taken away too."""

    async def nothing() -> bool:
        kinds = (VOLUME_SNAPSHOT, VOLUME_SNAPSHOT_CONTENT)
        return not [item for kind in kinds for item in (await stage.kube.list(kind)).items]

    await stage.until(nothing)
    for resource, namespace, name in ((PVC, "app", "data"), (PV, "", "pv-data")):
        await stage.kube.patch(resource, namespace, name, {"metadata": {"finalizers": None}})
        await stage.kube.delete(resource, namespace, name)


@pytest.mark.parametrize("number", range(1, 8))
async def test_restore_whose_agent_dies_after_any_write_of_the_rebind_is_given(
    stage: Stage, agent_kube: KubeClient, number: int
) -> None:
    """Its last write included: what follows a restart is a re-bind once more."""
    await stage.kube.put(PVC, target())
    await stage.create("DataDownload")
    mine = await exposure(stage, "DataDownload", agent_kube)
    await expose_new_volume(mine, "app", "new")
    await data_of(stage, "velero", "move-1")
    name = (await stage.kube.get(PVC, "velero", "move-1"))["spec"]["volumeName"]
    stage.controllers.data[name] = "restored"
    faulty = await exposure(stage, "DataDownload", FaultyKube(agent_kube, {number: Fault.DEATH}))
    await carry_out(lambda: rebind(faulty, "app", "new"))
    await rebind(mine, "app", "new")
    await hide_new_volume(mine)
    assert await data_of(stage, "app", "new") == "restored"
    volume = await stage.kube.get(PV, "", name)
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    assert list(volume["metadata"]["labels"]) == ["velero.io/dynamic-pv-restore"]


def target() -> Json:
    return scene.claim("new", selector={"matchLabels": {"velero.io/dynamic-pv-restore": "x"}})


async def test_data_upload_deleted_while_it_waits_leaves_no_snapshot(stage: Stage) -> None:
    config = json.dumps({"loadConcurrency": {"prepareQueueLength": 1}})
    await stage.kube.create(
        CONFIG_MAP, "velero", {"metadata": {"name": "queue", "namespace": "velero"}, "data": {"x": config}}
    )
    stage.kubelet.pending = {"phase": "Pending"}
    await stage.source_volume()
    await stage.kube.put(PVC, target())
    await stage.start_agent(node_agent_config_map="queue")
    first = {"targetVolume": {"namespace": "app", "pvc": "new", "pv": ""}}
    await stage.create("DataDownload", "first", spec=first)
    await stage.phase("DataDownload", "Accepted", "first")
    await stage.create("DataUpload", "second")

    async def waits() -> bool:
        return "prepare queue" in (await stage.status("DataUpload", "second")).get("message", "")

    async def is_gone() -> bool:
        return await find(stage.kube, RESOURCES["DataUpload"], "velero", "second") is None

    async def is_clean() -> bool:
        return "snap-handle" not in stage.controllers.storage

    await stage.until(waits)
    await stage.kube.delete(RESOURCES["DataUpload"], "velero", "second")
    await stage.until(is_gone)
    await stage.until(is_clean)
    assert await find(stage.kube, POD, "velero", "second") is None


@pytest.mark.parametrize("policy", ["Delete", "Retain"])
async def test_volume_of_somebody_that_our_claim_was_bound_to_is_given_back(
    stage: Stage, policy: str
) -> None:
    """The binder takes what is available in the class before anything is provisioned."""
    await stage.source_volume()
    volume = scene.volume(
        "pv-of-somebody",
        csi={"driver": "csi.test", "volumeHandle": "disk-of-somebody"},
        persistentVolumeReclaimPolicy=policy,
    )
    del volume["spec"]["claimRef"]
    await stage.kube.put(PV, volume | {"status": {"phase": "Available"}})
    stage.controllers.storage.add("disk-of-somebody")
    await stage.start_agent()
    await stage.create("DataUpload")
    message = (await stage.phase("DataUpload", "Failed"))["message"]
    assert "PVC velero/move-1 was bound to PV pv-of-somebody" in message
    await stage.released("DataUpload")
    given_back = await stage.kube.get(PV, "", "pv-of-somebody")
    assert "claimRef" not in given_back["spec"]
    assert given_back["spec"]["persistentVolumeReclaimPolicy"] == policy
    assert "annotations" not in given_back["metadata"]
    assert stage.kubelet.ran == []
    assert "disk-of-somebody" in stage.controllers.storage
