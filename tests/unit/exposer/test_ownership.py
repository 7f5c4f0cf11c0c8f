"""A PV that was there before our claim is somebody's: not read, not written, not deleted, and given back."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from exposer.csi_snapshot import SnapshotSource, expose_csi_snapshot, hide_csi_snapshot
from exposer.errors import ForeignVolumeError
from exposer.generic_restore import expose_new_volume, hide_new_volume
from exposer.ownership import refuse_foreign_volumes
from exposer.quantity import quantity_bytes
from exposer.rebind import rebind
from exposer.settings import CacheSettings, ExposeSettings
from kube.api import POD, PV, PVC, STORAGE_CLASS
from tests.fakes import scene
from tests.fakes.faults import Fault, carry_out
from tests.unit.exposer.played import Played, play, settle

if TYPE_CHECKING:
    from exposer.exposure import Exposure
    from kube.api import Json

SOURCE = SnapshotSource("app", "data", "velero-data-x", "fast")


def put_available(played: Played, **spec: Any) -> None:
    """A PV of an administrator, large enough, with data on it."""
    volume = scene.volume("pv-of-somebody", **spec)
    volume["spec"] |= {"csi": {"driver": "csi.test", "volumeHandle": "disk-of-somebody"}}
    del volume["spec"]["claimRef"]
    played.kube.put(PV, volume | {"status": {"phase": "Available"}})
    played.controllers.storage.add("disk-of-somebody")


async def assert_as_before(played: Played, policy: str) -> None:
    await settle(played.controllers)
    volume: Json = await played.kube.get(PV, "", "pv-of-somebody")
    assert volume["status"]["phase"] == "Available"
    assert not volume["spec"].get("claimRef")
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == policy
    assert not volume["metadata"].get("labels")
    assert not volume["metadata"].get("annotations")
    assert played.controllers.contents("disk-of-somebody") == "disk-of-somebody"
    assert "move-1" not in played.kube.names(PVC) + played.kube.names(POD)


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("policy", ["Delete", "Retain"])
async def test_backup_that_got_somebodys_volume_fails_and_gives_it_back(
    exposure: Exposure, policy: str, fault: Fault
) -> None:
    for number in itertools.count(1):
        async with play(exposure, {number: fault}) as played:
            put_available(played, persistentVolumeReclaimPolicy=policy)
            with pytest.raises(ForeignVolumeError, match="bound to PV pv-of-somebody"):
                await carry_out(lambda played=played: expose_csi_snapshot(played.exposure, SOURCE))  # type: ignore[misc]
            assert played.kube.names(POD) == []
            await carry_out(lambda played=played: hide_csi_snapshot(played.exposure, SOURCE))  # type: ignore[misc]
            await assert_as_before(played, policy)
            if not played.connection.met:
                break
    assert number > 9  # as many writes as it takes


@pytest.mark.parametrize("fault", Fault)
async def test_restore_that_got_somebodys_volume_fails_and_gives_it_back(
    exposure: Exposure, fault: Fault
) -> None:
    for number in itertools.count(1):
        async with play(exposure, {number: fault}) as played:
            put_available(played)
            played.kube.put(PVC, scene.claim("new", selector={"matchLabels": {"a": "b"}}))
            with pytest.raises(ForeignVolumeError, match="bound to PV pv-of-somebody"):
                await carry_out(lambda played=played: expose_new_volume(played.exposure, "app", "new"))  # type: ignore[misc]
            with pytest.raises(ForeignVolumeError, match="bound to PV pv-of-somebody"):
                await rebind(replace(played.exposure, kube=played.kube), "app", "new")
            await carry_out(lambda played=played: hide_new_volume(played.exposure))  # type: ignore[misc]
            await assert_as_before(played, "Delete")
            if not played.connection.met:
                break
    assert number > 4  # as many writes as it takes


async def test_cache_claim_that_got_somebodys_volume_is_refused_too(exposure: Exposure) -> None:
    async with play(exposure, {}) as played:
        put_available(played, storageClassName="caches", capacity={"storage": "100Gi"})
        played.kube.put(STORAGE_CLASS, scene.storage_class("caches"))
        played.kube.put(PVC, scene.claim("new", selector={"matchLabels": {"a": "b"}}))
        settings = ExposeSettings(cache=CacheSettings("caches"))
        mine = replace(played.exposure, cache_gib=6, settings=settings)
        with pytest.raises(
            ForeignVolumeError, match="PVC velero/move-1-cache was bound to PV pv-of-somebody"
        ):
            await expose_new_volume(mine, "app", "new")
        await hide_new_volume(mine)
        await assert_as_before(played, "Delete")


async def test_claim_of_a_namesake_is_nobodys_business(exposure: Exposure) -> None:
    async with play(exposure, {}) as played:
        put_available(played)
        played.kube.put(PVC, scene.claim("move-1", "velero"))
        await settle(played.controllers)
        await refuse_foreign_volumes(played.kube, "velero", ["move-1", "absent"], "uid-1")


@pytest.mark.parametrize(
    ("text", "number"),
    [("1Gi", 1 << 30), ("1.5Gi", 3 << 29), ("1500M", 1_500_000_000), ("1e9", 10**9), ("100m", 1), ("7", 7)]
    + [(text, 0) for text in ("", "x", "-1Gi", "1Qi", "nan", "1e99999999", "Gi")],
)
def test_quantities_are_read_as_kubernetes_writes_them(text: str, number: int) -> None:
    assert quantity_bytes(text) == number
