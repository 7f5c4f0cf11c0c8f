from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from exposer.csi_snapshot import SnapshotSource, expose_csi_snapshot, hide_csi_snapshot
from exposer.errors import SnapshotNotReadyError, VolumeNotFoundError
from exposer.kube import POD, PV, PVC, VOLUME_SNAPSHOT, VOLUME_SNAPSHOT_CONTENT
from exposer.settings import BackupPvcSettings, ExposeSettings, LoadAffinity
from tests.fakes.kube import CrashError, FakeKube

if TYPE_CHECKING:
    from exposer.exposure import Exposure
    from tests.fakes.cluster import ClusterControllers

WANTED = SnapshotSource("app", "data", "velero-data-x", "fast")


async def test_expose_leaves_pod_and_pvc_from_a_snapshot_that_is_ours_alone(
    kube: FakeKube, controllers: ClusterControllers, exposure: Exposure
) -> None:
    await expose_csi_snapshot(exposure, WANTED)
    assert kube.names(POD) == ["move-1"]
    assert kube.names(VOLUME_SNAPSHOT) == ["move-1"]
    assert kube.names(VOLUME_SNAPSHOT_CONTENT) == ["move-1"]
    claim = await kube.get(PVC, "velero", "move-1")
    assert claim["spec"]["dataSource"]["name"] == "move-1"
    assert claim["spec"]["resources"]["requests"]["storage"] == "1Gi"
    assert "snap-handle" in controllers.storage


async def test_hide_leaves_nothing_but_the_source(
    kube: FakeKube, controllers: ClusterControllers, exposure: Exposure
) -> None:
    await expose_csi_snapshot(exposure, WANTED)
    await hide_csi_snapshot(exposure, WANTED)
    await settle(controllers)
    assert_nothing_left(kube, controllers)


async def settle(controllers: ClusterControllers) -> None:
    for _ in range(6):
        await controllers.step()


def assert_nothing_left(kube: FakeKube, controllers: ClusterControllers) -> None:
    assert kube.names(POD) == []
    assert kube.names(PVC) == ["data"]
    assert kube.names(PV) == ["pv-data"]
    assert kube.names(VOLUME_SNAPSHOT) == []
    assert kube.names(VOLUME_SNAPSHOT_CONTENT) == []
    assert controllers.storage == {"disk-data"}


@pytest.mark.parametrize("writes", range(1, 8))
@pytest.mark.parametrize("again", [True, False])
async def test_agent_that_dies_after_any_write_leaves_nothing_behind(
    kube: FakeKube, controllers: ClusterControllers, exposure: Exposure, writes: int, again: bool
) -> None:
    """`again`: the successor exposes once more before it cleans up; else it cleans up at once."""
    mine = CountingKube(kube, die_after=writes)
    with contextlib.suppress(CrashError):
        await expose_csi_snapshot(replace(exposure, kube=mine), WANTED)
    if again:
        await expose_csi_snapshot(exposure, WANTED)
        assert kube.names(POD) == ["move-1"]
        assert kube.names(VOLUME_SNAPSHOT_CONTENT) == ["move-1"]
    await hide_csi_snapshot(exposure, WANTED)
    await settle(controllers)
    assert_nothing_left(kube, controllers)


class CountingKube:
    """The agent's own connection: dies after some writes, whatever the controllers write meanwhile."""

    def __init__(self, kube: FakeKube, die_after: int) -> None:
        self._kube, self._left = kube, die_after

    def __getattr__(self, name: str):
        verb = getattr(self._kube, name)
        if name not in ("create", "patch", "delete"):
            return verb

        async def counted(*args, **kwargs):
            if self._left == 0:
                raise CrashError
            result = await verb(*args, **kwargs)
            self._left -= 1
            if self._left == 0:
                raise CrashError
            return result

        return counted


async def test_snapshot_that_never_gets_ready_says_what_the_driver_said(
    kube: FakeKube, exposure: Exposure
) -> None:
    told: list[str] = []
    kube.change(VOLUME_SNAPSHOT, "app", "velero-data-x", {"status": {"error": {"message": "quota exceeded"}}})
    with pytest.raises(SnapshotNotReadyError, match="quota exceeded"):
        await expose_csi_snapshot(replace(exposure, prepare_seconds=0.05, tell=told.append), WANTED)
    assert told[-1] == "volume snapshot app/velero-data-x is not ready: quota exceeded"


async def test_missing_source_is_named_at_once(kube: FakeKube, exposure: Exposure) -> None:
    with pytest.raises(VolumeNotFoundError, match="app/gone"):
        await expose_csi_snapshot(exposure, replace(WANTED, claim="gone"))
    with pytest.raises(VolumeNotFoundError, match="volume snapshot app/gone does not exist"):
        await expose_csi_snapshot(exposure, replace(WANTED, volume_snapshot="gone"))


async def test_settings_of_the_backup_pvc_are_applied(
    kube: FakeKube, controllers: ClusterControllers, exposure: Exposure
) -> None:
    chosen = BackupPvcSettings("shallow", read_only=True, spc_no_relabeling=True, annotations={"a": "b"})
    affinity = (LoadAffinity({"zone": "a"}, storage_class="shallow"), LoadAffinity({"zone": "b"}))
    settings = ExposeSettings(backup_pvc={"fast": chosen}, load_affinity=affinity)
    await expose_csi_snapshot(replace(exposure, settings=settings), WANTED)
    claim = await kube.get(PVC, "velero", "move-1")
    pod = await kube.get(POD, "velero", "move-1")
    assert claim["spec"]["storageClassName"] == "shallow"
    assert claim["spec"]["accessModes"] == ["ReadOnlyMany"]
    assert claim["metadata"]["annotations"] == {"a": "b"}
    assert pod["spec"]["volumes"][0]["persistentVolumeClaim"]["readOnly"] is True
    assert pod["spec"]["securityContext"]["seLinuxOptions"] == {"type": "spc_t"}
    terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert {"key": "zone", "operator": "In", "values": ["a"]} in terms["nodeSelectorTerms"][0][
        "matchExpressions"
    ]


async def test_late_binding_volume_keeps_its_topology(
    kube: FakeKube, controllers: ClusterControllers, exposure: Exposure
) -> None:
    zone = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["z1"]}]}
    kube.objects[("storageclasses", "", "fast")]["volumeBindingMode"] = "WaitForFirstConsumer"
    kube.objects[("persistentvolumes", "", "pv-data")]["spec"]["nodeAffinity"] = {
        "required": {"nodeSelectorTerms": [zone]}
    }
    await expose_csi_snapshot(exposure, WANTED)
    pod = await kube.get(POD, "velero", "move-1")
    terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert terms[0]["matchExpressions"][0] == zone["matchExpressions"][0]
    assert len(terms[0]["matchExpressions"]) == 2


async def test_block_volume_is_handed_over_as_a_device(
    kube: FakeKube, controllers: ClusterControllers, exposure: Exposure
) -> None:
    kube.objects[("persistentvolumeclaims", "app", "data")]["spec"]["volumeMode"] = "Block"
    await expose_csi_snapshot(exposure, WANTED)
    container = (await kube.get(POD, "velero", "move-1"))["spec"]["containers"][0]
    assert container["volumeDevices"] == [{"name": "uid-1", "devicePath": "/uid-1"}]
    assert all(mount["mountPath"] != "/uid-1" for mount in container["volumeMounts"])


async def test_namesake_of_somebody_else_is_not_touched(kube: FakeKube, exposure: Exposure) -> None:
    kube.put(POD, {"metadata": {"name": "move-1", "namespace": "velero"}, "spec": {}})
    kube.put(PVC, {"metadata": {"name": "move-1", "namespace": "velero"}, "spec": {}})
    await asyncio.wait_for(hide_csi_snapshot(replace(exposure), replace(WANTED, volume_snapshot="")), 3)
    assert kube.names(POD) == ["move-1"]
    assert "move-1" in kube.names(PVC)
