"""One binary for all servers: the CRDs of Velero 1.15, 1.16 and 1.17 (1.18 is what all other tests use)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.moves.crd_features import CrdFeatures
from agent.moves.custom_resources import Phase
from kube.api import POD
from tests.fakes.kubelet import until_canceled

if TYPE_CHECKING:
    from tests.apiserver.conftest import Stage

VERSIONS = ["1.15", "1.16", "1.17"]
pytestmark = pytest.mark.parametrize("version", VERSIONS, indirect=True, scope="session")


async def test_data_upload_completes(stage: Stage) -> None:
    await stage.source_volume()
    agent = await stage.start_agent()
    await stage.create("DataUpload")
    status = await stage.phase("DataUpload", "Completed")
    assert status["snapshotID"] == "b3c0"
    await stage.released("DataUpload")
    assert agent.world.crds.data_mover_accepted == ("acceptedByNode" in status)


async def test_pod_volume_backup_completes(stage: Stage) -> None:
    await stage.running_pod()
    await stage.start_agent()
    await stage.create("PodVolumeBackup")
    await stage.phase("PodVolumeBackup", "Completed")
    await stage.released("PodVolumeBackup")


async def test_pod_volume_restore_goes_on_after_an_agent_restart(stage: Stage) -> None:
    await stage.running_pod(waits=True)
    agent = await stage.start_agent()
    agent.world.slots.limit = 0
    pod = {"kind": "Pod", "namespace": "app", "name": "web-0", "uid": stage.pod_uid}
    await stage.create("PodVolumeRestore", spec={"pod": pod})
    key = ("PodVolumeRestore", "velero", "move-1")

    async def is_prepared() -> bool:
        move = agent.world.find_move(key)
        return move is not None and move.phase is Phase.PREPARED

    await stage.until(is_prepared)
    await stage.stop_agent()
    await stage.start_agent()
    await stage.phase("PodVolumeRestore", "Completed")
    await stage.released("PodVolumeRestore")


async def test_deleted_mover_pod_fails_the_move(stage: Stage) -> None:
    stage.kubelet.mover = until_canceled
    await stage.running_pod()
    await stage.start_agent()
    await stage.create("PodVolumeBackup")
    await stage.phase("PodVolumeBackup", "InProgress")
    await stage.kube.delete(POD, "velero", "move-1", grace_seconds=0)
    await stage.phase("PodVolumeBackup", "Failed")


async def test_unreadable_crds_are_made_up_for_by_trying(stage: Stage) -> None:
    """Without the right to read CRDs the agent learns from the API server's refusal."""
    await stage.running_pod()
    agent = await stage.start_agent()
    agent.world.crds = CrdFeatures()
    await stage.create("PodVolumeBackup")
    await stage.phase("PodVolumeBackup", "Completed")
