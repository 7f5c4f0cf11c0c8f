from __future__ import annotations

import asyncio
import contextlib
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from exposer.csi_snapshot import SnapshotSource, expose_csi_snapshot, hide_csi_snapshot
from exposer.errors import NotRetainedError, SnapshotNotReadyError, VolumeNotFoundError
from exposer.settings import BackupPvcSettings, ExposeSettings, LoadAffinity
from kube.api import POD, PV, PVC, VOLUME_SNAPSHOT, VOLUME_SNAPSHOT_CONTENT, KubeError
from tests.fakes import scene
from tests.fakes.faults import Fault, carry_out
from tests.fakes.kube import CrashError, FakeKube
from tests.unit.exposer.played import SERIOUS, Played, play, settle

if TYPE_CHECKING:
    from exposer.exposure import Exposure
    from kube.api import Json, Resource
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


def assert_nothing_left(kube: FakeKube, controllers: ClusterControllers) -> None:
    assert kube.names(POD) == []
    assert kube.names(PVC) == ["data"]
    assert kube.names(PV) == ["pv-data"]
    assert kube.names(VOLUME_SNAPSHOT) == []
    assert kube.names(VOLUME_SNAPSHOT_CONTENT) == []
    assert controllers.storage == {"disk-data"}


async def expose(played: Played) -> None:
    await carry_out(lambda: expose_csi_snapshot(played.exposure, WANTED))


async def hide(played: Played) -> None:
    await carry_out(lambda: hide_csi_snapshot(played.exposure, WANTED))
    await settle(played.controllers)


async def backed_up(played: Played) -> str:
    """What a mover in the hosting pod reads."""
    await settle(played.controllers)
    assert played.kube.names(POD) == ["move-1"]
    assert "snap-handle" in played.controllers.storage
    claim = await played.kube.get(PVC, "velero", "move-1")
    volume = await played.kube.get(PV, "", claim["spec"]["volumeName"])
    return played.controllers.contents(volume["spec"]["csi"]["volumeHandle"])


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("again", [True, False])
async def test_no_fault_of_any_write_costs_the_moment_or_leaves_anything(
    exposure: Exposure, fault: Fault, again: bool
) -> None:
    """`again`: the successor exposes once more before it cleans up; else it cleans up at once."""
    for number in itertools.count(1):
        async with play(exposure, {number: fault}) as played:
            if again:
                await expose(played)
                assert await backed_up(played) == "the moment"
            else:
                with contextlib.suppress(CrashError, KubeError):
                    await expose_csi_snapshot(played.exposure, WANTED)
            await hide(played)
            assert_nothing_left(played.kube, played.controllers)
            if not played.connection.met:
                break
    assert number > 9  # as many writes as it takes


@pytest.mark.parametrize("second", SERIOUS)
@pytest.mark.parametrize("first", SERIOUS)
async def test_no_two_faults_cost_the_moment(exposure: Exposure, first: Fault, second: Fault) -> None:
    for numbers in itertools.combinations(range(1, 9), 2):
        async with play(exposure, dict(zip(numbers, (first, second), strict=True))) as played:
            await expose(played)
            assert await backed_up(played) == "the moment"
            await hide(played)
            assert_nothing_left(played.kube, played.controllers)


async def test_retain_that_the_api_server_swallows_deletes_nothing(exposure: Exposure) -> None:
    """A PATCH that is answered and has changed nothing: read back before anything depends on it."""
    async with play(exposure, {}) as played:
        real = played.kube.patch

        async def forgetful(resource: Resource, namespace: str, name: str, patch: Json) -> Json:
            if patch == {"spec": {"deletionPolicy": "Retain"}}:
                return await played.kube.get(resource, namespace, name)
            return await real(resource, namespace, name, patch)

        played.kube.patch = forgetful  # type: ignore[method-assign]
        with pytest.raises(NotRetainedError, match="snapcontent-x is not set to Retain yet"):
            await expose_csi_snapshot(played.exposure, WANTED)
        assert "velero-data-x" in played.kube.names(VOLUME_SNAPSHOT)
        assert played.controllers.contents("snap-handle") == "the moment"
        played.kube.patch = real  # type: ignore[method-assign]
        await expose(played)
        assert await backed_up(played) == "the moment"


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
        await expose_csi_snapshot(exposure, replace(WANTED, claim="gone", volume_snapshot="gone"))
    with pytest.raises(VolumeNotFoundError, match="volume snapshot app/gone does not exist"):
        await expose_csi_snapshot(exposure, replace(WANTED, volume_snapshot="gone"))


@pytest.mark.parametrize("gone", ["claim", "volume", "both"])
@pytest.mark.parametrize("restart", [False, True])
async def test_ready_snapshot_is_backed_up_though_its_source_is_gone(
    exposure: Exposure, gone: str, restart: bool
) -> None:
    """`restart`: the source goes between two passes, with the hosting pod at work already."""
    async with play(exposure, {}) as played:
        played.kube.change(
            VOLUME_SNAPSHOT_CONTENT, "", "snapcontent-x", {"spec": {"sourceVolumeMode": "Block"}}
        )
        if restart:
            await expose(played)
        for what, key in (("claim", (PVC, "app", "data")), ("volume", (PV, "", "pv-data"))):
            if gone in (what, "both"):
                played.kube.remove(*key)
        await expose(played)
        assert await backed_up(played) == "the moment"
        claim = await played.kube.get(PVC, "velero", "move-1")
        assert (claim["spec"]["volumeMode"], claim["spec"]["storageClassName"]) == ("Block", "fast")
        assert claim["spec"]["resources"]["requests"]["storage"] == "1Gi"


async def test_snapshot_whose_source_is_gone_without_a_trace_of_its_mode_is_told(exposure: Exposure) -> None:
    async with play(exposure, {}) as played:
        played.kube.remove(PVC, "app", "data")
        with pytest.raises(VolumeNotFoundError, match="app/data does not exist any more"):
            await expose(played)
        assert played.controllers.contents("snap-handle") == "the moment"


@pytest.mark.parametrize(
    ("restore_size", "asked", "capacity", "size"),
    [
        ("1Gi", "2Gi", "3Gi", "3Gi"),
        ("3Gi", "2Gi", "1Gi", "3Gi"),
        ("0", "2Gi", "1Gi", "2Gi"),
        ("5G", "4Gi", "1Gi", "5G"),
    ],
)
async def test_new_claim_is_as_large_as_the_largest_that_is_known(
    exposure: Exposure, restore_size: str, asked: str, capacity: str, size: str
) -> None:
    async with play(exposure, {}) as played:
        played.controllers.restore_size = restore_size
        request = {"spec": {"resources": {"requests": {"storage": asked}}}}
        played.kube.change(PVC, "app", "data", request)
        played.kube.change(PV, "", "pv-data", {"spec": {"capacity": {"storage": capacity}}})
        await expose(played)
        claim = await played.kube.get(PVC, "velero", "move-1")
        assert claim["spec"]["resources"]["requests"]["storage"] == size


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


async def test_snapshot_made_anew_under_the_source_s_name_is_not_deleted(exposure: Exposure) -> None:
    """The source went on the first pass; what has its name on the second is the next backup's."""
    async with play(exposure, {}) as played:
        await expose(played)
        for resource, body in scene.server_snapshot():
            body["metadata"]["name"] = body["metadata"]["name"].replace("snapcontent-x", "snapcontent-y")
            body["status"] |= {"boundVolumeSnapshotContentName": "snapcontent-y"}
            played.kube.put(resource, body)
        await expose(played)
        assert "velero-data-x" in played.kube.names(VOLUME_SNAPSHOT)
        assert "snapcontent-y" in played.kube.names(VOLUME_SNAPSHOT_CONTENT)


async def test_namesake_of_somebody_else_is_not_touched(kube: FakeKube, exposure: Exposure) -> None:
    kube.put(POD, {"metadata": {"name": "move-1", "namespace": "velero"}, "spec": {}})
    kube.put(PVC, {"metadata": {"name": "move-1", "namespace": "velero"}, "spec": {}})
    await asyncio.wait_for(hide_csi_snapshot(replace(exposure), replace(WANTED, volume_snapshot="")), 3)
    assert kube.names(POD) == ["move-1"]
    assert "move-1" in kube.names(PVC)


def _unmarked(kube: FakeKube) -> None:
    """What upstream's agent makes has an owner or nothing: no mark of ours."""
    for resource, namespace in ((VOLUME_SNAPSHOT, "velero"), (VOLUME_SNAPSHOT_CONTENT, "")):
        kube.change(resource, namespace, "move-1", {"metadata": {"labels": None, "annotations": None}})


async def test_b1_snapshot_of_upstreams_agent_goes_with_its_move_after_the_swap(
    kube: FakeKube, controllers: ClusterControllers, exposure: Exposure
) -> None:
    await expose_csi_snapshot(exposure, WANTED)
    _unmarked(kube)
    await hide_csi_snapshot(exposure, WANTED)
    await settle(controllers)
    assert_nothing_left(kube, controllers)


async def test_b1_snapshot_of_a_namesake_is_not_taken_for_upstreams(
    kube: FakeKube, controllers: ClusterControllers, exposure: Exposure
) -> None:
    await expose_csi_snapshot(exposure, WANTED)
    _unmarked(kube)
    await hide_csi_snapshot(replace(exposure, uid="uid-of-another"), WANTED)
    await settle(controllers)
    assert kube.names(VOLUME_SNAPSHOT) == kube.names(VOLUME_SNAPSHOT_CONTENT) == ["move-1"]
    assert "snap-handle" in controllers.storage
