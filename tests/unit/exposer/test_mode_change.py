"""A device that was restored for a volume of files reaches its target, whatever befalls any write on the way."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from exposer.access_point import VolumeMode, access_point
from exposer.csi_snapshot import SnapshotSource, expose_csi_snapshot
from exposer.errors import RebindError
from exposer.generic_restore import expose_new_volume, hide_new_volume
from exposer.mode_change import changed_name, changed_volume
from exposer.rebind import rebind
from kube.api import POD, PV, PVC, VOLUME_SNAPSHOT_CONTENT
from tests.fakes import scene
from tests.fakes.faults import Fault, carry_out
from tests.fakes.kube import CrashError, FakeKube
from tests.unit.exposer.played import Played, play, settle

if TYPE_CHECKING:
    from exposer.exposure import Exposure
    from tests.fakes.cluster import ClusterControllers

SELECTOR = {"matchLabels": {"velero.io/dynamic-pv-restore": "app.new.abcde"}}
WANTED = SnapshotSource("app", "data", "velero-data-x", "fast")
PROVISIONED_BY = {"pv.kubernetes.io/provisioned-by": "csi.test"}


async def restore_device(played: Played) -> str:
    played.kube.put(PVC, scene.claim("new", selector=SELECTOR))
    exposure = replace(played.exposure, kube=played.kube)
    await expose_new_volume(exposure, "app", "new", as_device=True)
    played.kube.change(POD, "velero", "move-1", {"spec": {"nodeName": "node-1"}})
    await settle(played.controllers)
    name = str((await played.kube.get(PVC, "velero", "move-1"))["spec"]["volumeName"])
    played.kube.change(PV, "", name, {"metadata": {"annotations": PROVISIONED_BY}})
    handle = (await played.kube.get(PV, "", name))["spec"]["csi"]["volumeHandle"]
    played.controllers.data[handle] = "restored"
    return name


async def give(played: Played) -> None:
    await carry_out(lambda: rebind(played.exposure, "app", "new", fs_type="ext4"))
    await carry_out(lambda: rebind(played.exposure, "app", "new", fs_type="ext4"))
    await carry_out(lambda: hide_new_volume(played.exposure))
    await settle(played.controllers)


async def assert_given(played: Played) -> None:
    claim = await played.kube.get(PVC, "app", "new")
    volume = await played.kube.get(PV, "", claim["spec"]["volumeName"])
    assert claim["status"]["phase"] == volume["status"]["phase"] == "Bound"
    assert volume["spec"]["volumeMode"] == "Filesystem"
    assert volume["spec"]["csi"]["fsType"] == "ext4"
    assert played.controllers.contents(volume["spec"]["csi"]["volumeHandle"]) == "restored"
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    assert volume["metadata"]["labels"] == SELECTOR["matchLabels"]
    assert volume["metadata"]["annotations"] == PROVISIONED_BY
    handles = [body["spec"]["csi"]["volumeHandle"] for body in await volumes(played)]
    assert len(handles) == len(set(handles)), "one object a volume"


async def volumes(played: Played) -> list[dict]:
    return [await played.kube.get(PV, "", name) for name in played.kube.names(PV)]


@pytest.mark.parametrize("fault", Fault)
async def test_restored_device_becomes_the_targets_volume_of_files(exposure: Exposure, fault: Fault) -> None:
    for number in itertools.count(1):
        async with play(exposure, {number: fault}) as played:
            await restore_device(played)
            await give(played)
            await assert_given(played)
            if not played.connection.met:
                break
    assert number > 8


@pytest.mark.parametrize("second", [Fault.DEATH, Fault.TIMEOUT_DONE])
@pytest.mark.parametrize("first", [Fault.DEATH, Fault.TIMEOUT_DONE])
async def test_two_faults_at_once_lose_no_device(exposure: Exposure, first: Fault, second: Fault) -> None:
    for numbers in itertools.combinations(range(1, 9), 2):
        async with play(exposure, dict(zip(numbers, (first, second), strict=True))) as played:
            await restore_device(played)
            await give(played)
            await assert_given(played)


@pytest.mark.parametrize("writes", range(1, 9))
async def test_device_whose_agent_goes_for_good_is_kept(exposure: Exposure, writes: int) -> None:
    async with play(exposure, {writes: Fault.DEATH}) as played:
        name = await restore_device(played)
        handle = (await played.kube.get(PV, "", name))["spec"]["csi"]["volumeHandle"]
        with contextlib.suppress(CrashError):
            await rebind(played.exposure, "app", "new", fs_type="")
        await carry_out(lambda: hide_new_volume(played.exposure))
        await settle(played.controllers)
        assert played.controllers.contents(handle) == "restored"
        holding = [body for body in await volumes(played) if body["spec"]["csi"]["volumeHandle"] == handle]
        assert holding, "an object in the cluster names the volume"


async def test_without_the_block_mover_no_mode_is_changed(exposure: Exposure) -> None:
    async with play(exposure, {}) as played:
        name = await restore_device(played)
        with pytest.raises(RebindError, match="volumeMode Filesystem, the restored volume has Block"):
            await rebind(played.exposure, "app", "new")
        assert [body["metadata"]["name"] for body in await volumes(played)].count(changed_name("uid-1")) == 0
        assert (await played.kube.get(PV, "", name))["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


def test_the_new_object_keeps_all_but_what_makes_it_another() -> None:
    volume = scene.volume()
    volume["metadata"] |= {"annotations": PROVISIONED_BY | {"pv.kubernetes.io/bound-by-controller": "yes"}}
    attributes = {"storage.kubernetes.io/csiProvisionerIdentity": "x", "pool": "p"}
    volume["spec"]["csi"] |= {"volumeAttributes": attributes, "fsType": "xfs"}
    volume["spec"] |= {"volumeMode": "Block", "mountOptions": ["noatime"], "nodeAffinity": {"required": {}}}
    made = changed_volume(volume, scene.claim("new"), "", "uid-1")
    assert made["spec"]["csi"]["volumeAttributes"] == {"pool": "p"}
    assert (made["spec"]["csi"]["fsType"], made["spec"]["mountOptions"]) == ("xfs", ["noatime"])
    assert made["spec"]["nodeAffinity"] == {"required": {}}
    assert made["metadata"]["annotations"] == PROVISIONED_BY
    assert made["spec"]["claimRef"]["name"] == "new"
    assert "uid" not in made["spec"]["claimRef"]


async def test_block_backup_of_a_file_system_volume_gets_a_device_and_the_drivers_handles(
    kube: FakeKube, controllers: ClusterControllers, exposure: Exposure
) -> None:
    source = replace(WANTED, as_device=True)
    await expose_csi_snapshot(exposure, source)
    claim = await kube.get(PVC, "velero", "move-1")
    content = await kube.get(VOLUME_SNAPSHOT_CONTENT, "", "move-1")
    point = access_point(await kube.get(POD, "velero", "move-1"))
    assert claim["spec"]["volumeMode"] == "Block"
    allowed = "snapshot.storage.kubernetes.io/allow-volume-mode-change"
    assert content["metadata"]["annotations"][allowed] == "true"
    assert point.volume_mode is VolumeMode.BLOCK
    assert (point.change_id, point.volume_id) == ("snap-handle", "disk-data")
