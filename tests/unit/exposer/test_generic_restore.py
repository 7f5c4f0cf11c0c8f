from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from exposer.errors import RebindError, TargetBoundError, VolumeNotFoundError
from exposer.generic_restore import expose_new_volume, hide_new_volume
from exposer.rebind import RESTORE_ANNOTATION, rebind, restored_volumes
from exposer.settings import CacheSettings, ExposeSettings, LoadAffinity
from kube.api import EVERYTHING, POD, PV, PVC, STORAGE_CLASS, VOLUME_ATTACHMENT, ForbiddenError
from kube.waiting import WaitTimeoutError
from tests.fakes import scene
from tests.fakes.faults import Fault, carry_out
from tests.fakes.kube import CrashError, FakeKube
from tests.unit.exposer.played import SERIOUS, Played, play, settle

if TYPE_CHECKING:
    from exposer.exposure import Exposure
    from kube.api import Page, Resource
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


async def restore(played: Played) -> str:
    """Expose, and write the volume as a mover on node-1 does; return the PV's name."""
    played.kube.put(PVC, scene.claim("new", selector=SELECTOR))
    await expose_new_volume(replace(played.exposure, kube=played.kube), "app", "new")
    played.kube.change(POD, "velero", "move-1", {"spec": {"nodeName": "node-1"}})
    await settle(played.controllers)
    name = (await played.kube.get(PVC, "velero", "move-1"))["spec"]["volumeName"]
    played.controllers.data[name] = "restored"
    return str(name)


async def give(played: Played) -> None:
    """Re-bind, restart before `Completed` is written, and clean up."""
    await carry_out(lambda: rebind(played.exposure, "app", "new"))
    await carry_out(lambda: rebind(played.exposure, "app", "new"))
    await carry_out(lambda: hide_new_volume(played.exposure))
    await settle(played.controllers)


async def assert_given(played: Played) -> None:
    claim = await played.kube.get(PVC, "app", "new")
    volume = await played.kube.get(PV, "", claim["spec"]["volumeName"])
    assert claim["status"]["phase"] == volume["status"]["phase"] == "Bound"
    assert played.controllers.contents(volume["spec"]["csi"]["volumeHandle"]) == "restored"
    assert volume["spec"]["claimRef"]["name"] == "new"
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    assert volume["metadata"]["labels"] == SELECTOR["matchLabels"]
    assert not volume["metadata"].get("annotations")
    assert played.kube.names(PVC) == ["data", "new"]


@pytest.mark.parametrize("fault", Fault)
async def test_restored_data_reaches_its_target_whatever_befalls_any_write(
    exposure: Exposure, fault: Fault
) -> None:
    for number in itertools.count(1):
        async with play(exposure, {number: fault}) as played:
            await restore(played)
            await give(played)
            await assert_given(played)
            if not played.connection.met:
                break
    assert number > 6  # as many writes as it takes


@pytest.mark.parametrize("second", SERIOUS)
@pytest.mark.parametrize("first", SERIOUS)
async def test_restored_data_reaches_its_target_whatever_befalls_any_two(
    exposure: Exposure, first: Fault, second: Fault
) -> None:
    for numbers in itertools.combinations(range(1, 8), 2):
        async with play(exposure, dict(zip(numbers, (first, second), strict=True))) as played:
            await restore(played)
            await give(played)
            await assert_given(played)


@pytest.mark.parametrize("writes", range(1, 6))
async def test_restore_that_is_lost_in_mid_rebind_keeps_its_data_under_a_mark(
    exposure: Exposure, writes: int
) -> None:
    """The node went, another agent cleans up: the data is whole and nobody's, so it stays and can be found."""
    async with play(exposure, {writes: Fault.DEATH}) as played:
        name = await restore(played)
        with contextlib.suppress(CrashError):
            await rebind(played.exposure, "app", "new")
        await hide_new_volume(played.exposure)
        await settle(played.controllers)
        volume = await played.kube.get(PV, "", name)
        assert played.controllers.contents(name) == "restored"
        if volume["spec"]["claimRef"]["name"] != "new":
            assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
            assert [v["metadata"]["name"] for v in await restored_volumes(played.kube, "uid-1")] == [name]
            assert volume["metadata"]["annotations"][RESTORE_ANNOTATION] == "velero/move-1"


async def test_volume_is_given_away_once_it_is_attached_nowhere(exposure: Exposure) -> None:
    """What the mover wrote may still be in its node's cache: the claim stays until the volume is detached."""
    async with play(exposure, {}) as played:
        name = await restore(played)
        played.controllers.detaches = False
        hasty = replace(played.exposure, operation_seconds=0.1)
        with pytest.raises(RebindError, match=rf"VolumeAttachment csi-{name}-node-1 .*PV {name} keeps it"):
            await rebind(hasty, "app", "new")
        assert "move-1" in played.kube.names(PVC)
        played.controllers.detaches = True
        await give(played)
        await assert_given(played)
        order = [key for verb, key in played.kube.writes if verb == "delete"]
        detached = order.index(("volumeattachments", "", f"csi-{name}-node-1"))
        assert detached < order.index(("persistentvolumeclaims", "velero", "move-1"))


@pytest.mark.parametrize(
    ("anew", "why"),
    [
        ({"volumeMode": "Block"}, "target asks for volumeMode Block, the restored volume has Filesystem"),
        (
            {"resources": {"requests": {"storage": "10Gi"}}},
            "target asks for 10Gi, the restored volume has 1Gi",
        ),
        (
            {"storageClassName": "slow"},
            "target asks for storage class 'slow', the restored volume has 'fast'",
        ),
        (
            {"accessModes": ["ReadWriteMany"]},
            "target asks for ReadWriteMany, the restored volume has ReadWriteOnce",
        ),
    ],
)
async def test_target_that_was_made_anew_and_does_not_fit_is_told_and_not_touched(
    exposure: Exposure, anew: dict[str, Any], why: str
) -> None:
    async with play(exposure, {}) as played:
        name = await restore(played)
        played.kube.remove(PVC, "app", "new")
        played.kube.put(PVC, scene.claim("new", selector=SELECTOR, **anew))
        with pytest.raises(RebindError, match=f"{why}; PV {name} keeps it"):
            await rebind(played.exposure, "app", "new")
        assert "volumeName" not in (await played.kube.get(PVC, "app", "new"))["spec"]
        await hide_new_volume(played.exposure)
        await settle(played.controllers)
        assert played.controllers.contents(name) == "restored"
        assert (await played.kube.get(PV, "", name))["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


async def test_restore_is_over_once_the_target_itself_is_bound(exposure: Exposure) -> None:
    """The PV may say Bound while the claim is Pending: a binder that has not agreed, or never will."""
    async with play(exposure, {}) as played:
        name = await restore(played)
        played.controllers.left_alone.add("new")
        hasty = replace(played.exposure, operation_seconds=0.1)
        with pytest.raises(RebindError, match=rf"PVC app/new is bound to PV {name}: not within 0.1 s"):
            await rebind(hasty, "app", "new")
        played.controllers.left_alone.clear()
        await give(played)
        await assert_given(played)


async def test_target_that_is_only_read_gets_a_volume_that_could_be_written(exposure: Exposure) -> None:
    async with play(exposure, {}) as played:
        played.kube.put(PVC, scene.claim("read", selector=SELECTOR, accessModes=["ReadOnlyMany"]))
        await expose_new_volume(played.exposure, "app", "read")
        await settle(played.controllers)
        assert (await played.kube.get(PVC, "velero", "move-1"))["spec"]["accessModes"] == ["ReadWriteOnce"]
        await rebind(played.exposure, "app", "read")
        claim = await played.kube.get(PVC, "app", "read")
        assert claim["status"]["phase"] == "Bound"
        volume = await played.kube.get(PV, "", claim["spec"]["volumeName"])
        assert volume["spec"]["accessModes"] == ["ReadOnlyMany"]


@pytest.mark.usefixtures("target")
async def test_tools_do_not_take_our_claim_for_theirs(kube: FakeKube, exposure: Exposure) -> None:
    theirs = {
        "argocd.argoproj.io/tracking-id": "shop:/PVC:app/new",
        "meta.helm.sh/release-name": "shop",
        "cdi.kubevirt.io/storage.populatedFor": "disk",
        "kustomize.toolkit.fluxcd.io/name": "shop",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
    }
    labels = {"app.kubernetes.io/instance": "shop", "app.kubernetes.io/managed-by": "Helm", "app": "shop"}
    note = {"metadata": {"annotations": theirs | {"team": "shop"}, "labels": labels}}
    kube.change(PVC, "app", "new", note)
    await expose_new_volume(exposure, "app", "new")
    meta = (await kube.get(PVC, "velero", "move-1"))["metadata"]
    assert (meta["labels"], meta["annotations"]) == ({"app": "shop"}, {"team": "shop"})


async def test_role_without_attachments_gives_the_volume_at_once(exposure: Exposure) -> None:
    async with play(exposure, {}) as played:
        await restore(played)
        played.controllers.detaches = False
        refused = ForbiddenError("volumeattachments is forbidden", status=403)
        real = played.kube.list

        async def list_(resource: Resource, *args: Any, **kwargs: Any) -> Page:
            if resource == VOLUME_ATTACHMENT and args[-1] == EVERYTHING:
                raise refused
            return await real(resource, *args, **kwargs)

        played.kube.list = list_  # type: ignore[method-assign]
        await rebind(played.exposure, "app", "new")
        assert (await played.kube.get(PVC, "app", "new"))["status"]["phase"] == "Bound"


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
    with pytest.raises(WaitTimeoutError, match="a node is selected"):
        await expose_new_volume(replace(exposure, prepare_seconds=0.05, tell=told.append), "app", "new")
    assert "first consumer" in told[0]
    note = {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "node-7", "x": "y"}}}
    kube.change(PVC, "app", "new", note)
    settings = ExposeSettings(load_affinity=(LoadAffinity({"zone": "a"}),))
    await expose_new_volume(replace(exposure, settings=settings), "app", "new")
    pod = await kube.get(POD, "velero", "move-1")
    claim = await kube.get(PVC, "velero", "move-1")
    (term,) = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchFields"] == [{"key": "metadata.name", "operator": "In", "values": ["node-7"]}]
    assert "nodeSelector" not in pod["spec"]
    assert {"key": "dedicated", "operator": "Exists"} in pod["spec"]["tolerations"]
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
