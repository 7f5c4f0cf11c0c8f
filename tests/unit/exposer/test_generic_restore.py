from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from exposer.errors import ExposeTimeoutError, RebindError, TargetBoundError, VolumeNotFoundError
from exposer.generic_restore import expose_new_volume, hide_new_volume
from exposer.kube import POD, PV, PVC, STORAGE_CLASS
from exposer.rebind import rebind
from exposer.settings import CacheSettings, ExposeSettings, LoadAffinity
from tests.fakes import scene
from tests.fakes.faults import Fault, FaultyKube
from tests.fakes.kube import CrashError, FakeKube
from tests.unit.exposer.test_csi_snapshot import settle

if TYPE_CHECKING:
    from exposer.exposure import Exposure
    from tests.fakes.cluster import ClusterControllers

SELECTOR = {"matchLabels": {"velero.io/dynamic-pv-restore": "app.new.abcde"}}


@pytest.fixture
def target(kube: FakeKube) -> None:
    kube.put(PVC, scene.claim("new", selector=SELECTOR))


@pytest.mark.usefixtures("target")
async def test_restored_volume_becomes_the_targets_with_its_policy_and_label(
    kube: FakeKube, controllers: ClusterControllers, exposure: Exposure
) -> None:
    await expose_new_volume(exposure, "app", "new")
    await settle(controllers)
    await rebind(exposure, "app", "new")
    await hide_new_volume(exposure)
    await settle(controllers)
    claim = await kube.get(PVC, "app", "new")
    volume = await kube.get(PV, "", claim["spec"]["volumeName"])
    assert claim["status"]["phase"] == volume["status"]["phase"] == "Bound"
    assert (volume["spec"]["claimRef"]["namespace"], volume["spec"]["claimRef"]["name"]) == ("app", "new")
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    assert volume["metadata"]["labels"] == SELECTOR["matchLabels"]
    assert not volume["metadata"].get("annotations")
    assert kube.names(POD) == []
    assert kube.names(PVC) == ["data", "new"]


@pytest.mark.usefixtures("target")
@pytest.mark.parametrize("writes", range(1, 8))
async def test_rebind_goes_on_where_a_dead_agent_left_it(
    kube: FakeKube, controllers: ClusterControllers, exposure: Exposure, writes: int
) -> None:
    await expose_new_volume(exposure, "app", "new")
    await settle(controllers)
    with contextlib.suppress(CrashError):
        await rebind(replace(exposure, kube=FaultyKube(kube, {writes: Fault.DEATH})), "app", "new")
    await settle(controllers)
    if writes < 7:
        await rebind(exposure, "app", "new")
    await hide_new_volume(exposure)
    await settle(controllers)
    claim = await kube.get(PVC, "app", "new")
    volume = await kube.get(PV, "", claim["spec"]["volumeName"])
    assert volume["spec"]["claimRef"]["name"] == "new"
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    assert volume["spec"]["csi"]["volumeHandle"] in controllers.storage


@pytest.mark.usefixtures("target")
async def test_failed_rebind_keeps_the_data_and_names_its_pv(
    kube: FakeKube, controllers: ClusterControllers, exposure: Exposure
) -> None:
    await expose_new_volume(exposure, "app", "new")
    await settle(controllers)
    kube.change(PVC, "app", "new", {"spec": {"volumeName": "somebody-elses"}})
    with pytest.raises(RebindError, match=r"PV pvc-\S+ keeps it"):
        await rebind(exposure, "app", "new")
    await hide_new_volume(exposure)
    await settle(controllers)
    kept = [name for name in kube.names(PV) if name != "pv-data"]
    assert len(kept) == 1
    assert kept[0] in controllers.storage


@pytest.mark.usefixtures("target")
async def test_data_is_kept_though_the_restore_claim_will_not_go(
    kube: FakeKube, controllers: ClusterControllers, exposure: Exposure
) -> None:
    """Clean-up comes while the claim still has the PV, and must not have it deleted with its data."""
    await expose_new_volume(exposure, "app", "new")
    await settle(controllers)
    controllers.left_alone.add("move-1")
    with pytest.raises(RebindError, match=r"not within 0.1 s; PV pvc-\S+ keeps it"):
        await rebind(replace(exposure, operation_seconds=0.1), "app", "new")
    await hide_new_volume(exposure)
    controllers.left_alone.clear()
    await settle(controllers)
    [kept] = [name for name in kube.names(PV) if name != "pv-data"]
    assert (await kube.get(PV, "", kept))["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert kept in controllers.storage


async def test_target_that_is_missing_or_bound_is_refused(kube: FakeKube, exposure: Exposure) -> None:
    with pytest.raises(VolumeNotFoundError, match="app/gone"):
        await expose_new_volume(exposure, "app", "gone")
    with pytest.raises(TargetBoundError, match="Target PVC app/data has already been bound, abort"):
        await expose_new_volume(exposure, "app", "data")


@pytest.mark.usefixtures("target", "controllers")
async def test_hosting_pod_comes_once_its_volume_is_bound(kube: FakeKube, exposure: Exposure) -> None:
    """A kubelet that sees the pod before looks at it again ten seconds later."""
    phases: list[str] = []

    def made(_pod: object) -> None:
        claim = kube.objects[("persistentvolumeclaims", "velero", "move-1")]
        phases.append(claim.get("status", {}).get("phase", ""))

    await expose_new_volume(replace(exposure, pod_made=made), "app", "new")
    assert phases == ["Bound"]


@pytest.mark.usefixtures("target")
async def test_volume_that_is_slow_to_bind_is_left_to_its_pod_to_explain(
    kube: FakeKube,
    controllers: ClusterControllers,
    exposure: Exposure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("exposer.exposure._BOUND_SECONDS", 0.05)
    controllers.left_alone.add("move-1")
    await expose_new_volume(exposure, "app", "new")
    assert "move-1" in kube.names(POD)


@pytest.mark.usefixtures("target")
async def test_late_binding_target_waits_for_its_node_and_the_pod_goes_there(
    kube: FakeKube, controllers: ClusterControllers, exposure: Exposure
) -> None:
    kube.put(STORAGE_CLASS, scene.storage_class(volumeBindingMode="WaitForFirstConsumer"))
    told: list[str] = []
    with pytest.raises(ExposeTimeoutError, match="a node is selected"):
        await expose_new_volume(replace(exposure, prepare_seconds=0.05, tell=told.append), "app", "new")
    assert "first consumer" in told[0]
    note = {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "node-7", "x": "y"}}}
    kube.change(PVC, "app", "new", note)
    settings = ExposeSettings(load_affinity=(LoadAffinity({"zone": "a"}),))
    await expose_new_volume(replace(exposure, settings=settings), "app", "new")
    pod = await kube.get(POD, "velero", "move-1")
    claim = await kube.get(PVC, "velero", "move-1")
    assert pod["spec"]["nodeSelector"] == {"kubernetes.io/hostname": "node-7"}
    assert "zone" not in str(pod["spec"]["affinity"])
    assert claim["metadata"]["annotations"] == {"volume.kubernetes.io/selected-node": "node-7"}


@pytest.mark.usefixtures("target")
async def test_delay_binding_can_be_ignored(kube: FakeKube, exposure: Exposure) -> None:
    kube.put(STORAGE_CLASS, scene.storage_class(volumeBindingMode="WaitForFirstConsumer"))
    await expose_new_volume(
        replace(exposure, settings=ExposeSettings(ignore_delay_binding=True)), "app", "new"
    )
    assert kube.names(POD) == ["move-1"]


@pytest.mark.usefixtures("target")
async def test_cache_volume_is_made_mounted_and_taken_back(kube: FakeKube, exposure: Exposure) -> None:
    cached = replace(exposure, cache_gib=6, settings=ExposeSettings(cache=CacheSettings("fast")))
    await expose_new_volume(cached, "app", "new")
    cache = await kube.get(PVC, "velero", "move-1-cache")
    pod = await kube.get(POD, "velero", "move-1")
    assert cache["spec"]["resources"]["requests"]["storage"] == "6Gi"
    assert {"name": "cache", "mountPath": "/cachedir"} in pod["spec"]["containers"][0]["volumeMounts"]
    await hide_new_volume(cached)
    assert kube.names(PVC) == ["data", "new"]


@pytest.mark.usefixtures("target")
async def test_restore_pvc_is_like_the_target_but_selects_nothing(kube: FakeKube, exposure: Exposure) -> None:
    await expose_new_volume(exposure, "app", "new")
    claim = await kube.get(PVC, "velero", "move-1")
    assert "selector" not in claim["spec"]
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["metadata"]["ownerReferences"][0]["uid"] == "uid-1"
